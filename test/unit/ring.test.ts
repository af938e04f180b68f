// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { randomInt } from 'node:crypto';
import { test } from 'node:test';
import { apportion } from '../../src/ring/anchor.js';
import { diffRings, rowsOwned } from '../../src/ring/diff.js';
import { hashName, mix32, scale } from '../../src/ring/hash.js';
import { buildRing, buildRingSliced, type Ring, type RingMember } from '../../src/ring/ring.js';
import { sipHash13 } from '../../src/ring/siphash.js';
import { ringSize } from '../../src/ring/size.js';

const seed = Number(process.env.SEED ?? randomInt(2 ** 31));
console.log(`seed ${seed} (set SEED to repeat)`);
let draws = 0;
const random = (bound: number): number => scale(mix32(seed + Math.imul(++draws, 0x9e3779b1)), bound);

function shuffle<T>(items: readonly T[]): T[] {
  return items
    .map((item) => ({ item, key: random(2 ** 21) }))
    .sort((a, b) => a.key - b.key)
    .map(({ item }) => item);
}

function pool(count: number, weightOf: (i: number) => number = () => 1): RingMember[] {
  return Array.from({ length: count }, (_, i) => ({ name: `backend-${i}`, weight: weightOf(i), live: true }));
}

const randomWeight = (): number => 1 + random(256);
const withLive = (members: readonly RingMember[], dead: ReadonlySet<string>): RingMember[] =>
  members.map((m) => ({ ...m, live: !dead.has(m.name) }));
const ownerNames = (ring: Ring): (string | undefined)[] => Array.from(ring.owners, (owner) => ring.names[owner - 1]);
const rowsByName = (ring: Ring): Map<string, number> =>
  new Map(ring.names.map((name, i) => [name, rowsOwned(ring)[i + 1] ?? 0]));

/** Rows whose owner changed although the old owner was not `name`. */
function movedFromOthers(before: Ring, after: Ring, name: string): number {
  const now = ownerNames(after);
  return ownerNames(before).filter((owner, row) => owner !== name && owner !== now[row]).length;
}

test('ring: with all live every member has its share of rows to less than one row, and no row is a hole', () => {
  for (const size of [7, 11, 251, 10007, 65537]) {
    for (const count of [1, 2, 3, 100]) {
      for (const members of [pool(count), pool(count, randomWeight)]) {
        const total = members.reduce((sum, m) => sum + m.weight, 0);
        const rows = rowsByName(buildRing(members, size));
        assert.equal(
          [...rows.values()].reduce((a, b) => a + b),
          size,
        );
        for (const { name, weight } of members)
          assert.ok(Math.abs((rows.get(name) ?? 0) - (weight * size) / total) < 1, `${name} of ${count} on ${size}`);
      }
    }
  }
});

test('ring: left over rows go to the largest remainders, ties to the first by name', () => {
  assert.deepEqual([...apportion(Int32Array.of(2, 1, 1), 7)], [3, 2, 2]); // wanted 3.5, 1.75, 1.75
  assert.deepEqual([...apportion(Int32Array.of(3, 1, 1), 7)], [4, 2, 1]); // wanted 4.2, 1.4, 1.4
});

test('ring: a share is within 2 % of the weight at 100 rows a member and within 1 % at 65537 rows', () => {
  for (const [size, bound] of [
    [ringSize(100, 0), 0.02],
    [65537, 0.01],
  ] as const) {
    for (const members of [pool(100), pool(100, (i) => 2 + (i % 3))]) {
      const total = members.reduce((sum, m) => sum + m.weight, 0);
      const rows = rowsByName(buildRing(members, size));
      for (const { name, weight } of members) {
        const wanted = (weight * size) / total;
        assert.ok(Math.abs((rows.get(name) ?? 0) / wanted - 1) <= bound, `${name}: ${rows.get(name)} of ${wanted}`);
      }
    }
  }
});

test('ring: the anchor is the matching that giving each row to the cheapest claim first makes', () => {
  for (const size of [7, 11, 251]) {
    for (const count of [2, 5, 40]) {
      const members = pool(count, randomWeight).sort((a, b) => (a.name < b.name ? -1 : 1));
      const missing = apportion(
        Int32Array.from(members, (m) => m.weight),
        size,
      );
      const claims = members.flatMap(({ name, weight }, member) => {
        const [a, b] = hashName(name);
        const [start, stride] = [scale(a, size), 1 + scale(b, size - 1)];
        const cost = Math.floor(8192 / weight);
        return Array.from({ length: size }, (_, k) => ({
          member,
          row: (start + k * stride) % size,
          price: (k + 1) * cost,
        }));
      });
      const want = new Array<number>(size).fill(0);
      for (const { member, row } of claims.sort((x, y) => x.price - y.price || x.member - y.member)) {
        if (want[row] !== 0 || missing[member] === 0) continue;
        want[row] = member + 1;
        missing[member] = (missing[member] ?? 0) - 1;
      }
      assert.deepEqual([...buildRing(members, size).owners], want, `${count} members on ${size}`);
    }
  }
});

test('ring: the order of the members does not matter', () => {
  const members = withLive(
    pool(60, () => random(257)),
    new Set(['backend-3', 'backend-41']),
  );
  const ring = buildRing(members, 6007);
  for (let i = 0; i < 5; i++) assert.deepEqual(buildRing(shuffle(members), 6007), ring);
});

test('ring: members going one by one move only their own rows, coming back restores every ring, and all down is all holes', () => {
  for (const [count, size] of [
    [3, 7],
    [11, 11],
    [40, 4001],
  ] as const) {
    const members = pool(count, randomWeight);
    const dead = new Set<string>();
    const rings = [buildRing(members, size)];
    const order = shuffle(members);
    for (const { name } of order) {
      dead.add(name);
      const before = rings.at(-1) as Ring;
      const after = buildRing(withLive(shuffle(members), dead), size);
      assert.equal(movedFromOthers(before, after, name), 0, `${name} goes`);
      assert.equal(ownerNames(after).includes(name), false);
      assert.equal(after.owners.includes(0), dead.size === count, `holes with ${dead.size} of ${count} down`);
      rings.push(after);
    }
    assert.ok(rings.pop()?.owners.every((owner) => owner === 0));
    // The way back takes another order, so that only the set of the dead is the same where both meet: at none.
    for (const { name } of shuffle(order)) {
      const before = buildRing(withLive(members, dead), size);
      dead.delete(name);
      const after = buildRing(withLive(members, dead), size);
      const then = ownerNames(before);
      assert.ok(
        ownerNames(after).every((owner, row) => owner === then[row] || owner === name),
        `${name} comes`,
      );
    }
    assert.deepEqual(buildRing(withLive(members, dead), size), rings[0]);
  }
});

test('ring: rows of dead members are spread over the live by weight, as evenly as chance does', (t) => {
  for (const [count, size] of [
    [100, 10007],
    [100, 65537],
    [1000, 65537],
  ] as const) {
    for (const weightOf of [() => 1, (i: number) => 1 + (i % 4)]) {
      const members = pool(count, weightOf);
      const dead = new Set(shuffle(members.map((m) => m.name)).slice(0, count / 10));
      const before = rowsByName(buildRing(members, size));
      const after = rowsByName(buildRing(withLive(members, dead), size));
      const freed = [...dead].reduce((sum, name) => sum + (before.get(name) ?? 0), 0);
      const live = members.filter((m) => !dead.has(m.name));
      const total = live.reduce((sum, m) => sum + m.weight, 0);
      let worst = 0;
      for (const { name, weight } of live) {
        // Binomial(freed, p). 6 standard deviations and five rows for its skew: passed by chance less than once in 10^5 runs.
        const p = weight / total;
        const gained = (after.get(name) ?? 0) - (before.get(name) ?? 0);
        const bound = 6 * Math.sqrt(freed * p * (1 - p)) + 5;
        assert.ok(Math.abs(gained - freed * p) <= bound, `${name} gained ${gained}, wanted ${freed * p} +- ${bound}`);
        worst = Math.max(worst, (after.get(name) ?? 0) / (p * size));
      }
      t.diagnostic(`${count} members, ${size} rows, weights to ${weightOf(3)}, 10 % down: max/avg ${worst.toFixed(3)}`);
    }
  }
});

test('ring: one that comes back in parts moves its own rows only, and keeps those it has; with nobody whole the parts do not count', () => {
  const size = 10007;
  const members = pool(20, randomWeight);
  const back = members[random(20)] as RingMember;
  const other = members.find(({ name }) => name !== back.name) as RingMember;
  const at = (part: number, dead: readonly string[] = []): Ring =>
    buildRing(
      members.map((m) => ({ ...m, live: !dead.includes(m.name), ...(m.name === back.name && { part }) })),
      size,
    );
  const full = buildRing(members, size);
  const own = full.names.indexOf(back.name) + 1;
  const claimed = full.owners.filter((owner) => owner === own).length;
  let before = buildRing(withLive(members, new Set([back.name])), size);
  for (const part of [0.25, 0.5, 0.75, 1]) {
    const now = at(part);
    for (const [row, owner] of now.owners.entries()) {
      if (owner !== before.owners[row]) assert.equal(owner, own, `row ${row} at ${part}`);
      if (before.owners[row] === own) assert.equal(owner, own, `row ${row} stays at ${part}`);
    }
    const has = now.owners.filter((owner) => owner === own).length;
    assert.ok(Math.abs(has - claimed * part) <= 5 * Math.sqrt(claimed) + 1, `${has} of ${claimed} rows at ${part}`);
    before = now;
  }
  assert.deepEqual(before, full);
  const rest = members.map(({ name }) => name).filter((name) => name !== back.name);
  assert.deepEqual(at(0.25, rest), at(1, rest));
  const without = at(0.5, [other.name]);
  for (const [row, owner] of at(0.5).owners.entries())
    if (full.names[owner - 1] !== other.name) assert.equal(without.owners[row], owner, `row ${row}`);
});

test('ring: weight 0 owns no row, whoever else is down', () => {
  const members = pool(30, (i) => (i % 3 === 0 ? 0 : randomWeight()));
  const none = (ring: Ring) => members.every((m) => m.weight > 0 || rowsByName(ring).get(m.name) === 0);
  assert.ok(none(buildRing(members, 3001)));
  const light = new Set(members.filter((m) => m.weight > 0).map((m) => m.name));
  const [last] = light;
  light.delete(last ?? '');
  const one = buildRing(withLive(members, light), 3001);
  assert.ok(none(one));
  assert.equal(rowsByName(one).get(last ?? ''), 3001);
  light.add(last ?? '');
  assert.ok(buildRing(withLive(members, light), 3001).owners.every((owner) => owner === 0));
});

test('ring: no members, one member', () => {
  assert.deepEqual(buildRing([], 7), { names: [], owners: new Uint16Array(7) });
  assert.deepEqual([...buildRing(pool(1), 7).owners], [1, 1, 1, 1, 1, 1, 1]);
});

test('ring: a live member too light for a row of its own stands in when the others are down', () => {
  const members = pool(3, (i) => (i === 1 ? 1 : 256));
  assert.equal(rowsByName(buildRing(members, 7)).get('backend-1'), 0);
  const down = buildRing(withLive(members, new Set(['backend-0', 'backend-2'])), 7);
  assert.equal(rowsByName(down).get('backend-1'), 7);
});

test('ring: with 98 of 100 down the two left share by weight, roughly', () => {
  const members = pool(100, (i) => (i === 7 ? 2 : 1));
  const dead = new Set(members.map((m) => m.name).filter((name) => name !== 'backend-7' && name !== 'backend-8'));
  const rows = rowsByName(buildRing(withLive(members, dead), 10007));
  const share = (rows.get('backend-7') ?? 0) / 10007;
  assert.ok(share > 0.62 && share < 0.78, `got ${share}, wanted 0.67 to 0.75`);
});

test('ring: removing a configured member moves few rows of others', (t) => {
  for (const [count, size, bound] of [
    [100, 10007, 0.013],
    [100, 65537, 0.005],
  ] as const) {
    const members = pool(count);
    const full = buildRing(members, size);
    const others = [3, 31, 58, 77, 96].map((gone) => {
      const less = buildRing(members.toSpliced(gone, 1), size);
      return movedFromOthers(full, less, `backend-${gone}`) / size;
    });
    const mean = others.reduce((a, b) => a + b) / others.length;
    t.diagnostic(
      `${count} members, ${size} rows: ${(mean * 100).toFixed(2)} % of rows moved between members that stay`,
    );
    assert.ok(mean < bound, `got ${mean}, wanted below ${bound}`); // plain Maglev: 0.016 and 0.0054
  }
});

test('ring: built in slices it is the same ring, and the event loop turns meanwhile', async () => {
  const members = withLive(
    pool(1000, () => random(257)),
    new Set(['backend-1', 'backend-500', 'backend-999']),
  );
  let turns = 0;
  let done = false;
  const turn = (): void => {
    turns++;
    if (!done) setImmediate(turn);
  };
  setImmediate(turn);
  const sliced = await buildRingSliced(members, 131071);
  done = true;
  assert.deepEqual(sliced, buildRing(members, 131071));
  assert.ok(turns >= 2, `got ${turns} turns`);
});

test('ring: the same in every version, for nodes of two versions share a ring', () => {
  const members = withLive(
    pool(9, (i) => i * 7),
    new Set(['backend-4', 'backend-8']),
  );
  const { owners } = buildRing(members, 251);
  const bytes = Uint8Array.from(owners);
  assert.equal(sipHash13(new Uint8Array(16), bytes).toString(16), 'f828bbaffc471de5');
});

test('ring: bad input is refused, naming it', () => {
  const [one] = pool(1) as [RingMember];
  assert.throws(() => buildRing([one], 250), /RangeError: build ring: got size 250, wanted a prime up to 131071/);
  assert.throws(() => buildRing([one], 131101), RangeError);
  assert.throws(() => buildRing([one, one], 251), /got "backend-0" twice/);
  for (const weight of [-1, 257, 1.5, Number.NaN])
    assert.throws(() => buildRing([{ ...one, weight }], 251), new RegExp(`got weight ${weight} for "backend-0"`));
});

test('ring diff: counts changed rows and shares by name, also across different members', () => {
  const before: Ring = { names: ['a', 'b', 'c'], owners: Uint16Array.of(1, 2, 3, 0, 3, 1, 2) };
  const after: Ring = { names: ['b', 'c', 'd'], owners: Uint16Array.of(1, 1, 2, 0, 3, 0, 1) };
  assert.deepEqual(diffRings(before, after), {
    changed: 3,
    shares: [
      { name: 'a', before: 2, after: 0 },
      { name: 'b', before: 2, after: 3 },
      { name: 'c', before: 2, after: 1 },
      { name: 'd', before: 0, after: 1 },
    ],
  });
  assert.equal(diffRings(before, before).changed, 0);
  assert.throws(() => diffRings(before, { names: [], owners: new Uint16Array(11) }), /got 11 rows, wanted 7/);
});

test('ring hash: a hundred thousand like names have different hashes, both halves spread evenly', () => {
  const seen = new Set<string>();
  const bins = [new Uint32Array(256), new Uint32Array(256)];
  for (let i = 0; i < 100_000; i++) {
    const halves = hashName(`backend-${i}`);
    seen.add(halves.join());
    for (const [k, bin] of bins.entries()) {
      const at = scale(halves[k] ?? 0, 256);
      bin[at] = (bin[at] ?? 0) + 1;
    }
  }
  assert.equal(seen.size, 100_000);
  const wanted = 100_000 / 256;
  for (const bin of bins) {
    const chi2 = bin.reduce((sum, n) => sum + (n - wanted) ** 2 / wanted, 0);
    assert.ok(Math.abs(chi2 - 255) < 6 * Math.sqrt(2 * 255), `chi square ${chi2}, 255 degrees of freedom`);
  }
});
