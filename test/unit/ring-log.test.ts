// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { generationsOf, logOf, logProblems, nextLog, oldestGeneration } from '../../src/controlplane/ring-log.js';
import { formatState, parseState } from '../../src/controlplane/state-file.js';
import type { Backend, Pool, RingLog, StoredPool } from '../../src/model/objects.js';
import { backendOf, backendsOf, poolOf, snapshotOf } from '../support/snapshots.js';

const HOLD = 900_000;

/** The pool as it is after each of these, one second apart. */
function history(...states: readonly Pool[]): StoredPool {
  let stored: StoredPool | undefined;
  for (const [at, value] of states.entries())
    stored = { value, revision: at + 1, log: nextLog(stored, value, (at + 1) * 1000) };
  assert.ok(stored);
  return stored;
}

const web = (backends: readonly Backend[], size = 0): Pool => poolOf('web', backends, size);
const [A, B] = backendsOf(2) as [Backend, Backend];

test('ring log: a change that is none of the ring leaves it as it is', () => {
  const old = history(web([A, B]));
  assert.equal(nextLog(old, web([B, A]), 5000), old.log);
  assert.equal(nextLog(old, { ...web([A, { ...B, address: '10.9.9.9' }]), holdSeconds: 5 }, 5000), old.log);
});

test('ring log: tells each generation of the members', () => {
  const drained = web([{ ...A, state: 'drain' }, B]);
  const lighter = web([
    { ...A, state: 'disabled' },
    { ...B, weight: 7 },
  ]);
  const { log } = history(web([A, B]), drained, lighter, web([B]));
  assert.equal(log?.generation, 4);
  assert.deepEqual(
    [...generationsOf(log)].map(({ at, members }) => [at, ...members.map((m) => `${m.name} ${m.weight} ${m.state}`)]),
    [
      [1000, `${A.name} 100 live`, `${B.name} 100 live`],
      [2000, `${A.name} 100 drain`, `${B.name} 100 live`],
      [3000, `${A.name} 100 down`, `${B.name} 7 live`],
      [4000, `${B.name} 100 live`],
    ],
  );
  assert.deepEqual(logProblems(log, web([B])), []);
});

test('ring log: a clock that was set back does not turn the order round', () => {
  const old = history(web([A, B]), web([A]));
  assert.deepEqual(
    nextLog(old, web([A, B]), 1500).changes.map(({ at }) => at),
    [2000, 2000],
  );
});

test('ring log: the size stays while a member has 50 rows, and then is chosen anew', () => {
  const grown = history(web(backendsOf(2)), web(backendsOf(5)));
  assert.equal(grown.log?.size, 251);
  const larger = nextLog(grown, web(backendsOf(6)), 9000);
  assert.deepEqual([larger.size, larger.generation, larger.before], [601, 3, grown.log]);
  const smaller = nextLog({ value: web(backendsOf(6)), revision: 3, log: larger }, web(backendsOf(1)), 10_000);
  assert.equal(smaller.size, 601);
  const wanted = nextLog({ value: web(backendsOf(1)), revision: 4, log: smaller }, web(backendsOf(1), 1009), 11_000);
  assert.equal(wanted.size, 1009);
  assert.deepEqual(logProblems(wanted, web(backendsOf(1), 1009)), []);
});

test('ring log: what no row can tell of any more is dropped, some changes at a time', () => {
  let stored = history(web([A, B]));
  for (let change = 0; change < 100; change++) {
    const value = web([A, { ...B, weight: 1 + (change % 2) }]);
    stored = { value, revision: change, log: nextLog(stored, value, 10_000 + change * 100_000) };
    const { changes = [], generation } = stored.log ?? {};
    assert.equal(generation, change + 2);
    const kept = changes.filter(({ at }) => at + 2 * HOLD > 10_000 + change * 100_000).length;
    assert.equal(kept, Math.min(change + 1, 18), 'nothing that counts is gone');
    assert.ok(changes.length < 18 + 32);
  }
  assert.ok(stored.log && oldestGeneration(stored.log) > 50);
  const [first] = generationsOf(stored.log);
  assert.deepEqual(
    first?.members.map(({ weight }) => weight),
    [100, 1 + ((oldestGeneration(stored.log) - 2) % 2)],
  );
});

test('ring log: a ring of another size is forgotten once no row can tell of it', () => {
  const grown = history(web(backendsOf(2)), web(backendsOf(6)));
  assert.ok(grown.log?.before);
  assert.ok(nextLog(grown, web(backendsOf(7)), 2000 + 2 * HOLD - 1).before);
  assert.equal(nextLog(grown, web(backendsOf(7)), 2000 + 2 * HOLD).before, undefined);
});

test('ring log: more changes than are told are told in larger steps, the newest one by one', () => {
  let stored = history(web([A, B]));
  for (let change = 0; change < 3000; change++) {
    const backends = change % 3 === 0 ? [A] : [A, { ...B, weight: 1 + (change % 256) }];
    stored = { value: web(backends), revision: 1, log: nextLog(stored, web(backends), 2000 + change) };
  }
  const log = logOf(stored);
  assert.ok(log.changes.length <= 1024);
  assert.deepEqual(logProblems(log, stored.value), []);
  assert.deepEqual(
    log.changes.slice(-100).map(({ at }) => at),
    Array.from({ length: 100 }, (_, at) => 2000 + 2900 + at),
  );
});

const text = (log: unknown): string => {
  const snapshot = snapshotOf([web([A, B])], []);
  return formatState({
    ...snapshot,
    pools: new Map([['web', { value: web([A, B]), revision: 1, log: log as RingLog }]]),
  });
};

test('ring log: a state file keeps it', async () => {
  const stored = history(web(backendsOf(6), 0), web(backendsOf(14)), web([A, B]));
  const snapshot = { ...snapshotOf([], []), pools: new Map([['web', stored]]), revision: 9 };
  assert.deepEqual((await parseState(formatState(snapshot), 'f')).pools.get('web'), stored);
});

test('ring log: a state file with one that cannot be is refused, and says where', async () => {
  const good = logOf(history(web([A]), web([A, B])));
  assert.equal((await parseState(text(good), 'f')).pools.get('web')?.log?.generation, 2);
  const change = good.changes[0] as RingLog['changes'][number];
  const cases: [RegExp, object][] = [
    [/ringLog\/size: 252 is not a ring size/, { ...good, size: 252 }],
    [/ringLog\/generation: 1 is too small for a log of 1 changes/, { ...good, generation: 1 }],
    [/ringLog\/generation: /, { ...good, generation: 'x' }],
    [/ringLog\/changes\/0\/at: 5 is before the one before, 1000/, { ...good, changes: [{ ...change, at: 5 }] }],
    [/ringLog: does not end with backend "at-10\.0\.0\.2" as the pool has it/, { ...good, changes: [], generation: 2 }],
    [
      /ringLog: ends with backend "x", which the pool has not/,
      { ...good, changes: [{ ...change, set: [...change.set, { name: 'x', weight: 1, state: 'live' }] }] },
    ],
    [/ringLog\/members\/0\/state: /, { ...good, members: [{ name: A.name, weight: 1, state: 'up' }] }],
    [/ringLog\/before\/size: 12 is not a ring size/, { ...good, before: { ...good, changes: [], size: 12 } }],
    [/ringLog\/before: ends at 2000, after 1000/, { ...good, before: good }],
    [/ringLog\/extra: unknown field/, { ...good, extra: 1 }],
  ];
  for (const [message, log] of cases) await assert.rejects(parseState(text(log), 'f'), { code: 'damaged', message });
});

test('ring log: a pool that was stored without one begins with what it is', () => {
  const stored = { value: web([backendOf('10.0.0.1')]), revision: 3 };
  assert.equal(logOf(stored), logOf(stored));
  const next = nextLog(stored, web([A, B]), 7000);
  assert.deepEqual([next.generation, next.at, next.changes.length], [2, 0, 1]);
});
