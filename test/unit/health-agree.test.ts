// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ALL_WELL, nextHealth, sameHealth } from '../../src/controlplane/health/agree.js';
import { logProblems, membersOf, nextLog } from '../../src/controlplane/ring-log.js';
import type { HealthCheck, Pool, PoolHealth, StoredPool } from '../../src/model/objects.js';
import { chosenSeed, randomFrom } from './random.js';

const check: HealthCheck = { type: 'tcp', interval: 2, rise: 2, fall: 3, via: 'direct', slowStart: 8 };
const pool = (count: number, more: Partial<Pool> = {}): Pool => ({
  name: 'web',
  ring: { size: 0 },
  healthCheck: check,
  backends: Array.from({ length: count }, (_, at) => ({
    name: `b${at}`,
    address: `10.0.0.${at + 1}`,
    weight: 100,
    state: 'active' as const,
  })),
  ...more,
});

/** `votes` by backend: '+' and '-' of the nodes. */
function next(value: Pool, votes: Record<string, string>, health?: PoolHealth, isOver = false, now = 5): PoolHealth {
  const count = (text: string, sign: string): number => [...text].filter((each) => each === sign).length;
  return nextHealth(
    { value, revision: 1, ...(health && { health }) },
    (name) => (votes[name] === undefined ? undefined : { up: count(votes[name], '+'), down: count(votes[name], '-') }),
    () => isOver,
    now,
  );
}
const downOf = ({ down }: PoolHealth): string => down.map(({ name }) => name).join(' ');

test('agree: more nodes must find a backend down than up; a tie is up, nobody leaves it as it is', () => {
  const four = pool(4);
  assert.equal(downOf(next(four, { b0: '-', b1: '+-', b2: '--+', b3: '+' })), 'b0 b2');
  const before: PoolHealth = { failOpen: false, down: [{ name: 'b1', since: 1 }], slow: [] };
  assert.equal(next(four, {}, before), before);
  assert.deepEqual(next(four, { b1: '+-' }, before).down, []);
  assert.deepEqual(next(four, { b1: '-', b2: '-' }, before).down, [
    { name: 'b1', since: 1 },
    { name: 'b2', since: 5 },
  ]);
});

test('agree: more than half down fails open, unless told otherwise; it is over with half of them', () => {
  const all = { b0: '-', b1: '-', b2: '-' };
  assert.deepEqual([next(pool(4), { b0: '-', b1: '-' }).failOpen, next(pool(4), all).failOpen], [false, true]);
  assert.equal(next(pool(1), { b0: '-' }).failOpen, true);
  assert.equal(next(pool(3, { whenAllDown: 'closed' }), all).failOpen, false);
  const open = next(pool(4), all);
  assert.equal(downOf(open), 'b0 b1 b2');
  const over = next(pool(4), { ...all, b2: '+' }, open);
  assert.deepEqual([over.failOpen, downOf(over), over.slow], [false, 'b0 b1', []]); // b2 had its full weight all the time
});

test('agree: those that take no new flow anyway are not counted', () => {
  const four = pool(4);
  const backends = four.backends.map((each, at) => ({
    ...each,
    ...(at === 0 ? { state: 'disabled' as const } : at === 1 ? { weight: 0 } : {}),
  }));
  const health = next({ ...four, backends }, { b0: '-', b1: '-', b2: '-' });
  assert.deepEqual([health.failOpen, downOf(health)], [false, 'b1 b2']);
});

test('agree: a return goes in four steps, and starts anew when it goes down in between', () => {
  const four = pool(4);
  const stored = (health: PoolHealth): number => membersOf(four, health)[0]?.part ?? 1;
  let health = next(four, { b0: '-' });
  assert.equal(membersOf(four, health)[0]?.state, 'drain');
  const parts: number[] = [];
  health = next(four, { b0: '+' }, health);
  for (let step = 0; step < 4; step++) {
    parts.push(stored(health));
    assert.equal(next(four, { b0: '+' }, health), health, 'not before its time');
    health = next(four, { b0: '+' }, health, true);
  }
  assert.deepEqual([parts, health.slow], [[0.25, 0.5, 0.75, 1], []]);
  const half = next(four, { b0: '+' }, next(four, { b0: '+' }, next(four, { b0: '-' })), true);
  assert.deepEqual(half.slow, [{ name: 'b0', step: 2 }]);
  const again = next(four, { b0: '-' }, half);
  assert.deepEqual([downOf(again), again.slow], ['b0', []]);
  assert.deepEqual(next(four, { b0: '+' }, again).slow, [{ name: 'b0', step: 1 }]);
  const atOnce = { ...four, healthCheck: { ...check, slowStart: 0 } };
  assert.deepEqual(next(atOnce, { b0: '+' }, again), ALL_WELL);
});

test('agree: random votes: the log of members is always that of the pool in its health', () => {
  const seed = chosenSeed();
  console.log(`seed ${seed} (set SEED to repeat)`);
  const random = randomFrom(seed);
  for (let round = 0; round < 50; round++) {
    const value = pool(1 + Math.floor(random() * 8), random() < 0.3 ? { whenAllDown: 'closed' } : {});
    let stored: StoredPool = { value, revision: 1, log: nextLog(undefined, value, 0) };
    for (let step = 1; step < 60; step++) {
      const votes = Object.fromEntries(
        value.backends.map(({ name }) => [name, ['+', '-', '+-', '--+', ''][Math.floor(random() * 5)] ?? '']),
      );
      const health = next(value, votes, stored.health, random() < 0.5, step);
      stored = { ...stored, health, log: nextLog(stored, value, step * 1000, health) };
      assert.deepEqual(logProblems(stored.log as never, value, health), []);
      const live = membersOf(value, health).filter(({ state }) => state === 'live').length;
      if (value.whenAllDown !== 'closed') assert.ok(live * 2 >= value.backends.length, 'half of them are always there');
      assert.ok(sameHealth(next(value, votes, health), health), 'decided once');
    }
  }
});
