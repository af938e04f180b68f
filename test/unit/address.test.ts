// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { isIPv6 } from 'node:net';
import { test } from 'node:test';
import { familyOf, formatAddress, parseAddress, whyNotUnicast } from '../../src/model/address.js';
import { FairleadError } from '../../src/model/errors.js';
import { chosenSeed, randomFrom } from './random.js';

// RFC 5952 sections 4 and 5, and the plain cases.
const canonical: [input: string, text: string][] = [
  ['192.0.2.1', '192.0.2.1'],
  ['2001:DB8::1', '2001:db8::1'],
  ['2001:0db8::0001', '2001:db8::1'],
  ['2001:db8:0:0:0:0:2:1', '2001:db8::2:1'],
  ['2001:db8:0:1:1:1:1:1', '2001:db8:0:1:1:1:1:1'],
  ['2001:0:0:1:0:0:0:1', '2001:0:0:1::1'],
  ['2001:db8:0:0:1:0:0:1', '2001:db8::1:0:0:1'],
  ['1:2:3:4:5:6:7::', '1:2:3:4:5:6:7:0'],
  ['2001:db8::', '2001:db8::'],
  ['::', '::'],
  ['64:ff9b::192.0.2.33', '64:ff9b::c000:221'],
];

for (const [input, text] of canonical) {
  test(`address: ${input} is written ${text}`, () => {
    const address = parseAddress(input);
    assert.equal(address.text, text);
    assert.equal(formatAddress(address.bytes), text);
    assert.equal(address.bytes.length, address.family === 4 ? 4 : 16);
    assert.equal(familyOf(text), address.family);
  });
}

const garbage = [
  '',
  ' ',
  '1.2.3',
  '1.2.3.4.5',
  '01.2.3.4',
  '1.2.3.256',
  '1.2.3.4 ',
  '1.2.3.4/24',
  '0x1.2.3.4',
  '16909060',
  '1e1.2.3.4',
];
const garbage6 = [
  'fe80::1%eth0',
  'fe80::1%1',
  '1::2::3',
  ':::',
  '1:2:3:4:5:6:7',
  '12345::',
  '2001:db8::1/64',
  '[::1]',
  'g::',
  '::ffff:192.0.2.1',
  '::ffff:c000:201',
];
for (const input of [...garbage, ...garbage6, 'web', '1.2.3.4\n']) {
  test(`address: ${JSON.stringify(input)} is refused`, () => {
    assert.throws(
      () => parseAddress(input),
      (error) => error instanceof FairleadError && error.code === 'invalid',
    );
  });
}

test('address: bytes are in network order', () => {
  assert.deepEqual([...parseAddress('192.0.2.1').bytes], [192, 0, 2, 1]);
  assert.deepEqual(
    [...parseAddress('2001:db8::ff').bytes],
    [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff],
  );
});

test('address: only unicast addresses can be a VIP or a backend', () => {
  const refused = {
    '0.0.0.0': 'unspecified',
    '127.0.0.1': 'loopback',
    '127.9.9.9': 'loopback',
    '224.0.0.1': 'multicast',
    '239.255.255.255': 'multicast',
  };
  const refused6 = { '255.255.255.255': 'broadcast', '::': 'unspecified', '::1': 'loopback', 'ff02::1': 'multicast' };
  for (const [text, kind] of Object.entries({ ...refused, ...refused6 }))
    assert.match(whyNotUnicast(text) ?? '', new RegExp(kind), text);
  for (const text of ['10.0.0.1', '128.0.0.1', '223.255.255.255', '255.255.255.254', '2001:db8::1', '::2', 'fd00::1']) {
    assert.equal(whyNotUnicast(text), null, text);
  }
});

test('address: text of random bytes is valid, shortest, and reads back as the same bytes', (t) => {
  const seed = chosenSeed();
  t.diagnostic(`seed ${seed}`);
  const random = randomFrom(seed);
  for (let i = 0; i < 3000; i++) {
    const bytes = Uint8Array.from({ length: 16 }, () => random() * 256);
    for (let g = 0; g < 8; g++) if (random() < 0.5) bytes.fill(0, 2 * g, 2 * g + 2);
    bytes[0] = 0x20; // not a mapped address
    const text = formatAddress(bytes);
    assert.ok(isIPv6(text), text);
    // The URL standard's serializer follows RFC 5952 and is not ours.
    assert.equal(`[${text}]`, new URL(`http://[${text}]/`).hostname, Buffer.from(bytes).toString('hex'));
    assert.deepEqual(parseAddress(text).bytes, bytes);
  }
});
