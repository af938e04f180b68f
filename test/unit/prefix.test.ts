// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { isIP } from 'node:net';
import { test } from 'node:test';
import { parseAddress } from '../../src/model/address.js';
import { canonicalPrefixes, writePrefix } from '../../src/model/prefix.js';
import { chosenSeed, randomFrom } from './random.js';

/** The canonical text, or why there is none. */
function one(text: string): string {
  let why = '';
  const [canonical] = canonicalPrefixes([text], (_at, detail) => {
    why = detail;
    return true;
  });
  return canonical ?? why;
}

test('prefix: addresses stand for themselves, texts become canonical', () => {
  const cases: [string, string][] = [
    ['192.0.2.7', '192.0.2.7/32'],
    ['0.0.0.0/0', '0.0.0.0/0'],
    ['10.128.0.0/9', '10.128.0.0/9'],
    ['2001:DB8::', '2001:db8::/128'],
    ['2001:0db8:0:0::/32', '2001:db8::/32'],
    ['::/0', '::/0'],
    ['::192.0.2.0/120', '::c000:200/120'],
    ['2001:db8:0:1:0:0:0:0/64', '2001:db8:0:1::/64'],
  ];
  for (const [text, canonical] of cases) assert.equal(one(text), canonical);
});

test('prefix: what is none is refused with what to write instead', () => {
  assert.equal(one('10.0.0.1/8'), '"10.0.0.1/8" has bits set behind the prefix; write 10.0.0.0/8');
  assert.equal(one('2001:db8::1/33'), '"2001:db8::1/33" has bits set behind the prefix; write 2001:db8::/33');
  for (const text of ['', '/8', '10.0.0.0/', '10.0.0.0/33', '10.0.0.0/08', '10.0.0.0/8/8', '10.0.0/8', '010.0.0.0/8'])
    assert.match(one(text), /is not an address prefix such as 10/, text);
  for (const text of [
    '::/129',
    'fe80::1%eth0',
    ':::',
    '1::2::3',
    '1:2:3:4:5:6:7:8:9',
    '12345::',
    '::1.2.3',
    '1:',
    ':1',
  ])
    assert.match(one(text), /is not an address prefix such as 2001/, text);
});

test('prefix: the first that is refused ends it when so told', () => {
  const seen: number[] = [];
  const texts = canonicalPrefixes(['10.0.0.0/8', 'x', 'y', '10.0.0.0/8'], (at) => seen.push(at) < 1);
  assert.deepEqual(texts, ['10.0.0.0/8', undefined, undefined, undefined]);
  assert.deepEqual(seen, [1]);
});

test('prefix: by chance, addresses are those that the system takes, with the same bytes', () => {
  const seed = chosenSeed();
  console.log(`seed ${seed} (set SEED to repeat)`);
  const random = randomFrom(seed);
  const below = (bound: number): number => Math.floor(random() * bound);
  const parts = [
    '0',
    '1',
    'ff',
    'abcd',
    '0db8',
    'F',
    '255',
    '1.2.3.4',
    '192.0.2.1',
    '::',
    ':',
    ':',
    ':',
    '.',
    'g',
    '00000',
    '%',
  ];
  let good = 0;
  for (let round = 0; round < 100_000; round++) {
    const text =
      below(2) === 0
        ? Array.from({ length: 1 + below(17) }, (_, at) => (at % 2 ? ':' : parts[below(7)])).join('')
        : Array.from({ length: 1 + below(9) }, () => parts[below(parts.length)]).join('');
    const canonical = one(text);
    const family = text.includes('%') ? 0 : isIP(text);
    assert.equal(/^"/.test(canonical), family === 0, `${text}: ${canonical}`);
    if (family === 0 || /^::ffff:\d+\./i.test(text)) continue;
    let address: ReturnType<typeof parseAddress>;
    try {
      address = parseAddress(text);
    } catch {
      continue; // mapped
    }
    good++;
    assert.equal(canonical, `${address.text}/${family === 4 ? 32 : 128}`);
    const bytes = new Uint8Array(18);
    assert.equal(writePrefix(canonical, bytes, 1), family === 4 ? 32 : 128);
    assert.deepEqual(bytes.subarray(1, 1 + address.bytes.length), address.bytes);
  }
  assert.ok(good > 1000, `${good} good ones`);
});
