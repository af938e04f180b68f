// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { drainBackend, patchBackend } from '../../src/controlplane/commands.js';
import { isOver, nextDeadline } from '../../src/controlplane/desired.js';
import { applyChanges } from '../../src/controlplane/store-core.js';
import type { Backend, Snapshot } from '../../src/model/objects.js';
import { drainOf } from '../../src/observability/drains.js';
import { backendOf, poolOf, snapshotOf } from '../support/snapshots.js';

const NOW = Date.parse('2026-11-29T08:00:00Z');
const first = snapshotOf(
  [poolOf('web', [backendOf('10.0.0.1', { name: 'b1' }), backendOf('10.0.0.2', { name: 'b2' })])],
  [],
);

const drained = (snapshot: Snapshot, document: unknown, now = NOW): Snapshot =>
  applyChanges(snapshot, drainBackend(snapshot, 'web', 'b1', document, now));
const b1 = (snapshot: Snapshot): Backend | undefined =>
  snapshot.pools.get('web')?.value.backends.find(({ name }) => name === 'b1');

test('drain: is written down with its time and its deadline', () => {
  assert.deepEqual(b1(drained(first, undefined))?.drain, { since: '2026-11-29T08:00:00.000Z' });
  const { state, drain } = b1(drained(first, { deadlineSeconds: 90 })) ?? {};
  assert.deepEqual(
    [state, drain],
    ['drain', { since: '2026-11-29T08:00:00.000Z', deadline: '2026-11-29T08:01:30.000Z' }],
  );
});

test('drain: once more keeps its beginning, and takes a new deadline', () => {
  const again = drained(drained(first, { deadlineSeconds: 90 }), { deadlineSeconds: 10 }, NOW + 60_000);
  assert.deepEqual(b1(again)?.drain, { since: '2026-11-29T08:00:00.000Z', deadline: '2026-11-29T08:01:10.000Z' });
  assert.equal(drainBackend(again, 'web', 'b1', {}, NOW + 99_000).length, 0, 'nothing new, no change');
});

test('drain: goes with its state', () => {
  const draining = drained(first, { deadlineSeconds: 90 });
  for (const state of ['active', 'disabled'])
    assert.equal(b1(applyChanges(draining, patchBackend(draining, 'web', 'b1', { state })))?.drain, undefined);
});

test('drain: a wrong deadline is named', () => {
  for (const [document, pointer] of [
    [{ deadlineSeconds: 0 }, '/deadlineSeconds'],
    [{ deadlineSeconds: 604_801 }, '/deadlineSeconds'],
    [{ deadlineSeconds: '5m' }, '/deadlineSeconds'],
    [{ deadline: 5 }, '/deadline'],
  ] as const)
    assert.throws(
      () => drained(first, document),
      (error: { code: string; fields: { pointer: string }[] }) =>
        error.code === 'invalid' && error.fields[0]?.pointer === pointer,
    );
});

test('drain: the time of its end is known', () => {
  const draining = drained(first, { deadlineSeconds: 90 });
  const backend = b1(draining) as Backend;
  assert.deepEqual([isOver(backend, NOW + 89_999), isOver(backend, NOW + 90_000)], [false, true]);
  assert.equal(nextDeadline(draining, NOW), NOW + 90_000);
  assert.equal(nextDeadline(draining, NOW + 90_000), Number.POSITIVE_INFINITY);
});

test('drain: tells ages and how long it will take', () => {
  const backend = backendOf('10.0.0.1');
  assert.deepEqual(drainOf(0, [], backend, NOW), { flowsLeft: 0, ages: null, etaSeconds: 0, done: true });
  const { ages, etaSeconds } = drainOf(4, [100, 60, 30, 10], backend, NOW);
  assert.deepEqual(ages, { youngest: 10, median: 30, oldest: 100 });
  assert.ok(Math.abs(etaSeconds - 50 * (1 + 1 / 2 + 1 / 3 + 1 / 4)) < 2, `${etaSeconds}`);
  const cut = {
    ...backend,
    state: 'drain',
    drain: { since: '', deadline: new Date(NOW + 20_000).toISOString() },
  } as const;
  assert.equal(drainOf(4, [100, 60, 30, 10], cut, NOW).etaSeconds, 20);
});
