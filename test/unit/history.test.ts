// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  buildRing,
  type Generation,
  type GenerationMember,
  type HistoryView,
  openHistory,
} from '../../src/ring/index.js';
import { type Random, random as randomOf } from '../fuzz/random.js';
import { chosenSeed } from './random.js';

const SIZE = 251;
const HOLD = 1000;
const LIFE = HOLD / 3;

const live = (name: string, weight = 100): GenerationMember => ({ name, weight, state: 'live' });
const drain = (name: string): GenerationMember => ({ name, weight: 100, state: 'drain' });
const down = (name: string): GenerationMember => ({ name, weight: 100, state: 'down' });

/** Rows by name: owner first, then those before it. */
function rowsOf({ names, rows }: HistoryView): string[][] {
  return Array.from({ length: rows.length / 4 }, (_, row) =>
    [...rows.subarray(row * 4, row * 4 + 4)]
      .map((id) => names[id - 1] ?? '')
      .filter((name, at) => at === 0 || name !== ''),
  );
}

async function rowsAfter(now: number, ...generations: Generation[]): Promise<string[][]> {
  const history = openHistory(SIZE, HOLD);
  for (const generation of generations) await history.add(generation);
  history.advance(now);
  return rowsOf(history.view());
}

const ownersOf = (members: readonly GenerationMember[]): string[] => {
  const ring = buildRing(
    members.map(({ name, weight, state }) => ({ name, weight, live: state === 'live' })),
    SIZE,
  );
  return [...ring.owners].map((owner) => ring.names[owner - 1] ?? '');
};

const THREE = [live('a'), live('b'), live('c')];

test('history: a new ring is stable', async () => {
  const rows = await rowsAfter(5, { at: 0, members: THREE });
  assert.deepEqual(
    rows,
    ownersOf(THREE).map((owner) => [owner]),
  );
});

test('history: rows of a member that drains have it as their owner before, until the hold time is over', async () => {
  const change = { at: 10, members: [live('a'), drain('b'), live('c')] };
  const before = ownersOf(THREE);
  const after = ownersOf(change.members);
  const held = await rowsAfter(10 + HOLD / 5, { at: 0, members: THREE }, change);
  assert.deepEqual(
    held,
    after.map((owner, row) => (before[row] === 'b' ? [owner, 'b'] : [owner])),
  );
  // By then more flows have begun with the new owner than are left with the old one.
  const overtaken = await rowsAfter(10 + HOLD - 1, { at: 0, members: THREE }, change);
  assert.deepEqual(
    overtaken,
    after.map((owner, row) => (before[row] === 'b' ? [owner, owner, 'b'] : [owner])),
  );
  const over = await rowsAfter(10 + HOLD, { at: 0, members: THREE }, change);
  assert.deepEqual(
    over,
    after.map((owner) => [owner]),
  );
});

test('history: a member that is down or gone is not held, and what it held is let go', async () => {
  const drained = { at: 10, members: [live('a'), drain('b'), live('c')] };
  for (const members of [
    [live('a'), down('b'), live('c')],
    [live('a'), live('c')],
  ]) {
    assert.ok(
      (await rowsAfter(20, { at: 0, members: THREE }, { at: 10, members })).flat().every((name) => name !== 'b'),
    );
    const rows = await rowsAfter(20, { at: 0, members: THREE }, drained, { at: 15, members });
    assert.ok(rows.flat().every((name) => name !== 'b'));
  }
});

test('history: what comes home is likelier than its stand-in, for it kept its flows', async () => {
  const drained = { at: 10, members: [live('a'), drain('b'), live('c')] };
  const rows = await rowsAfter(20, { at: 0, members: THREE }, drained, { at: 15, members: THREE });
  const standIns = ownersOf(drained.members);
  assert.deepEqual(
    rows,
    ownersOf(THREE).map((owner, row) => (owner === 'b' ? [owner, owner, standIns[row]] : [owner])),
  );
});

test('history: nobody live: the rows are nobody’s, those that drain keep their flows', async () => {
  const rows = await rowsAfter(20, { at: 0, members: THREE }, { at: 10, members: [drain('a'), drain('b'), down('c')] });
  assert.deepEqual(
    rows,
    ownersOf(THREE).map((owner) => (owner === 'c' ? [''] : ['', owner])),
  );
});

test('history: weight 0 takes no row at once, and keeps its flows', async () => {
  const rows = await rowsAfter(
    20,
    { at: 0, members: THREE },
    { at: 10, members: [live('a'), live('b', 0), live('c')] },
  );
  for (const [row, owner] of ownersOf(THREE).entries()) assert.equal(rows[row]?.[1] === 'b', owner === 'b');
});

/** A few members that come, go, drain and change weight, every 0 to 300 ms. */
function randomGenerations(random: Random, count: number): Generation[] {
  let at = 0;
  return Array.from({ length: count }, () => {
    at += random.below(300);
    const members = [...'abcdefghij'].flatMap((name): GenerationMember[] => {
      const dice = random.below(24);
      if (dice === 0) return [];
      const state = dice === 1 ? 'down' : dice === 2 ? 'drain' : 'live';
      return [{ name, weight: [0, 50, 100, 100, 200][random.below(5)] ?? 0, state }];
    });
    return { at, members };
  });
}

interface Looked {
  readonly now: number;
  readonly owner: string;
  readonly held: readonly string[]; // newest first
  readonly waits: boolean;
  readonly flows: ReadonlyMap<string, number>; // of each backend: begun on this row and still there
  /** Who was forgotten last had as many flows as another: not for this count to say. */
  readonly close: boolean;
}

/** One row, millisecond by millisecond, as docs/architecture.md tells it. */
function* oneRow(row: number, generations: readonly Generation[], end: number): Generator<Looked> {
  let owner = '';
  let wanted = '';
  let held: { name: string; until: number }[] = [];
  let members = new Map<string, GenerationMember>();
  const flows = new Map<string, number>();
  let close = false;
  const move = (now: number): void => {
    held = held.filter(({ name }) => name !== wanted);
    if (owner !== '' && members.has(owner) && members.get(owner)?.state !== 'down')
      held = [{ name: owner, until: now + HOLD }, ...held];
    if (held.length > 3) {
      const count = ({ name }: { name: string }): number => flows.get(name) ?? 0;
      const [fewest, next] = [...held].sort((a, b) => count(a) - count(b));
      if (!fewest || !next) throw new Error('four are held');
      close = count(next) - count(fewest) < 0.1 * count(next) + 15;
      held = held.filter((each) => each !== fewest);
    }
    if (owner === '') flows.set(wanted, LIFE);
    owner = wanted;
  };
  for (let now = 0; now <= end; now++) {
    held = held.filter(({ until }) => until > now);
    if (owner !== wanted && held.length < 3) move(now);
    for (const generation of generations.filter(({ at }) => at === now)) {
      members = new Map(generation.members.map((member) => [member.name, member]));
      wanted = ownersOf(generation.members)[row] ?? '';
      held = held.filter(({ name }) => members.has(name) && members.get(name)?.state !== 'down');
      const takes = members.get(owner)?.state === 'live' && (members.get(owner)?.weight ?? 0) > 0;
      if (owner !== wanted && (!takes || held.filter(({ name }) => name !== wanted).length < 3)) move(now);
    }
    for (const name of flows.keys()) if (name !== owner && !held.some((each) => each.name === name)) flows.delete(name);
    for (const [name, count] of flows) flows.set(name, count * Math.exp(-1 / LIFE));
    flows.set(owner, (flows.get(owner) ?? 0) + 1);
    yield { now, owner, held: held.map(({ name }) => name), waits: owner !== wanted, flows, close };
  }
}

test('history: as row by row and millisecond by millisecond, whenever it is looked at', async (t) => {
  const seed = chosenSeed();
  t.diagnostic(`seed ${seed}`);
  const random = randomOf(seed);
  let waited = 0;
  for (let round = 0; round < 6; round++) {
    const generations = randomGenerations(random, 30);
    const end = (generations.at(-1)?.at ?? 0) + 3 * HOLD;
    const looks = new Set(Array.from({ length: 12 }, () => random.below(end)).concat(end));
    const watched = openHistory(SIZE, HOLD);
    const rows = new Map<number, HistoryView>();
    let next = 0;
    for (const look of [...looks].sort((a, b) => a - b)) {
      for (; (generations[next]?.at ?? Number.POSITIVE_INFINITY) <= look; next++)
        await watched.add(generations[next] as Generation);
      watched.advance(look);
      rows.set(look, watched.view());
    }
    const once = openHistory(SIZE, HOLD);
    for (const generation of generations) await once.add(generation);
    once.advance(end);
    assert.deepEqual(once.view(), watched.view());

    for (const row of [0, 1, 2, 3, 50, 100, 250]) {
      for (const { now, owner, held, waits, flows, close } of oneRow(row, generations, end)) {
        if (close) break;
        if (waits) waited++;
        const view = rows.get(now);
        if (!view) continue;
        const [seen, ...others] = rowsOf(view)[row] ?? [];
        const where = `round ${round}, row ${row} at ${now}: got ${[seen, ...others]}, wanted ${owner} and ${held}`;
        assert.equal(seen, owner, where);
        const again = others[0] === owner && owner !== '';
        const before = again ? others.slice(1) : others;
        assert.equal(before.length, Math.min(held.length, again ? 2 : 3), where);
        assert.ok(new Set(before).size === before.length && before.every((name) => held.includes(name)), where);
        const most = Math.max(...[owner, ...held].map((name) => flows.get(name) ?? 0));
        // Who had nothing here before is not looked at first for a while.
        const fresh = flows.get(owner) === most && (flows.get(owner) ?? 0) < LIFE / 5 + 15;
        if (held.length > 0 && !fresh)
          assert.ok((flows.get(others[0] ?? '') ?? 0) >= 0.9 * most - 15, `${where}: ${[...flows]}`);
      }
    }
  }
  t.diagnostic(`rows waited for ${waited} ms`);
  assert.ok(waited > 0, 'some row was deferred');
});

test('history: says when it will change by itself', async () => {
  const history = openHistory(SIZE, HOLD);
  await history.add({ at: 0, members: THREE });
  assert.equal(history.view().nextChange, null);
  await history.add({ at: 10, members: [live('a'), drain('b'), live('c')] });
  const life = HOLD / 3;
  const overtakes = history.view().nextChange ?? 0;
  assert.ok(overtakes >= 10 + life * Math.LN2 && overtakes <= 10 + life * Math.LN2 + 11, `${overtakes}`);
  history.advance(overtakes);
  assert.equal(history.view().nextChange, 10 + HOLD);
  assert.equal(history.view().inTransition, ownersOf(THREE).filter((owner) => owner === 'b').length);
  history.advance(10 + HOLD);
  assert.deepEqual([history.view().nextChange, history.view().inTransition], [null, 0]);
});

test('history: a ring of another size goes on with the owners before', async () => {
  const history = openHistory(SIZE, HOLD);
  await history.add({ at: 0, members: THREE });
  const larger = openHistory(503, HOLD, history);
  const before = ownersOf(THREE);
  assert.deepEqual(
    rowsOf(larger.view()),
    Array.from({ length: 503 }, (_, row) => [before[Math.floor(((row + 0.5) * SIZE) / 503)]]),
  );
  await larger.add({ at: 5, members: THREE });
  const { inTransition } = larger.view();
  assert.ok(inTransition > 0 && inTransition < 503);
});

test('history: time that goes back is refused', async () => {
  const history = openHistory(SIZE, HOLD);
  await history.add({ at: 10, members: THREE });
  await assert.rejects(history.add({ at: 9, members: THREE }), /got time 9, wanted 10 or later/);
});
