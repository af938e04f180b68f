// SPDX-License-Identifier: Apache-2.0
// What the kernel has no room for, and what those who wait for a revision are told.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { maxRingSize } from '../../src/ring/size.js';
import { assertSameContents, changeOf, contents, openReconciled } from '../support/reconciled.js';
import { backendsOf, poolOf, serviceOf, snapshotOf } from '../support/snapshots.js';

const large = (at: number) => poolOf(`large-${at}`, backendsOf(1, at), maxRingSize);
const web = poolOf('web', backendsOf(1, 100));
const www = serviceOf('www', 'web');

test('reconcile: a ring without room is an error that says so, and nothing is touched', async (t) => {
  const node = await openReconciled(t);
  const rows = node.maps.ringRows.length;
  const fitting = Math.floor((rows - 2 * 251) / maxRingSize);
  await node.put(web, www, ...Array.from({ length: fitting }, (_, at) => large(at)));
  const before = await contents(node.maps);
  const { numbering } = node.reconciler.state();
  // What would fit waits too: a revision is applied as a whole.
  await assert.rejects(node.put(poolOf('web', backendsOf(2, 100)), large(fitting)), {
    code: 'unavailable',
    message: `apply revision 2: place a ring of ${maxRingSize} rows: ring_rows (${rows}) is full`,
  });
  assertSameContents(await contents(node.maps), before);
  assert.deepEqual(node.reconciler.state().numbering, numbering);
  assert.equal(node.reconciler.state().revision, 1);
  assert.match(node.reconciler.state().error ?? '', /is full$/);
  assert.equal(node.send(www, 1), '10.0.100.1');

  await node.remove(large(0)); // makes room for the one that waits
  assert.deepEqual([node.reconciler.state().revision, node.reconciler.state().error], [3, null]);
});

test('reconcile: rings that are replaced together wait for each other where there is little room', async (t) => {
  const node = await openReconciled(t);
  const fitting = Math.floor(node.maps.ringRows.length / maxRingSize) - 1;
  const many = Array.from({ length: fitting }, (_, at) => large(at));
  await node.put(...many);
  await node.put(...many.map((pool) => ({ ...pool, backends: backendsOf(2, 200) })));
  for (const { name } of many) {
    const status = await node.facts.pool(name);
    assert.deepEqual(
      [...(status?.backends.values() ?? [])].map(({ shareReal }) => Math.round(shareReal * 100)),
      [50, 50],
    );
  }
});

test('admit: as many services as there are counters for', async (t) => {
  const { facts } = await openReconciled(t);
  const services = Array.from({ length: 513 }, (_, at) => serviceOf(`s${at}`, 'web', 1 + at));
  const pool = poolOf('web', backendsOf(100)); // 101 counters, so 128: 512 times in 65536
  facts.admit(snapshotOf([pool], services.slice(1)));
  assert.throws(() => facts.admit(snapshotOf([pool], services)), {
    code: 'full',
    message: 'place 128 counters for service "s512": no such room in 65536',
  });
});

test('admit: the largest ring must fit once more, and what goes must fit beside what comes', async (t) => {
  const node = await openReconciled(t);
  const most = Math.floor(node.maps.ringRows.length / maxRingSize) - 1;
  const pools = Array.from({ length: most + 1 }, (_, at) => large(at));
  const full = { code: 'full', message: /^the node is full: \d+ ring rows wanted, there is room for 2097152$/ };
  node.facts.admit(snapshotOf(pools.slice(1), []));
  assert.throws(() => node.facts.admit(snapshotOf(pools, [])), full);
  await node.put(...pools.slice(0, 8));
  const others = Array.from({ length: 8 }, (_, at) => ({ ...large(at), name: `other-${at}` }));
  assert.throws(() => node.facts.admit(snapshotOf(others, [])), full);
  node.facts.admit(snapshotOf(others.slice(2), []));
});

test('applied: everyone who waits for a round is told, once', async (t) => {
  const node = await openReconciled(t);
  const { revision } = await node.store.update(() => [changeOf(web)]);
  await Promise.all(Array.from({ length: 5 }, () => node.reconciler.applied(revision, 9_000)));
  await node.reconciler.applied(revision, 0);
});

/** A promise with its ends outside. */
function later() {
  const ends = { resolve: (): void => undefined, reject: (_: Error): void => undefined };
  const promise = new Promise<void>((resolve, reject) => Object.assign(ends, { resolve, reject }));
  return { promise, ...ends };
}

test('applied: not done in time', async (t) => {
  const node = await openReconciled(t);
  const stuck = later();
  node.on.resolve = () => stuck.promise;
  const { revision } = await node.store.update(() => [changeOf(web)]);
  await assert.rejects(node.reconciler.applied(revision, 20), {
    code: 'unavailable',
    message: 'apply revision 1: not done within 20 ms',
  });
  stuck.resolve();
  await node.reconciler.applied(revision, 9_000);
});

test('applied: told the error of the round that tried, not of an older one', async (t) => {
  const node = await openReconciled(t);
  const started = later();
  const failing = later();
  node.on.resolve = () => {
    started.resolve();
    return failing.promise;
  };
  const first = await node.store.update(() => [changeOf(web)]);
  await started.promise;
  const second = await node.store.update(() => [changeOf(www)]);
  const applied = node.reconciler.applied(second.revision, 9_000);
  node.on.resolve = async () => undefined;
  const refused = assert.rejects(node.reconciler.applied(first.revision, 9_000), {
    code: 'unavailable',
    message: 'apply revision 1: no netlink',
  });
  failing.reject(new Error('no netlink'));
  await Promise.all([refused, applied]);
  assert.equal(node.reconciler.state().error, null);
});

test('applied: a round that failed is told at once, and the next one heals it', async (t) => {
  const node = await openReconciled(t);
  node.on.resolve = () => Promise.reject(new Error('no netlink'));
  await assert.rejects(node.put(web), /no netlink/);
  await assert.rejects(node.reconciler.applied(1, 9_000), /no netlink/);
  assert.equal(node.reconciler.state().revision, 0);
  node.on.resolve = async () => undefined;
  await node.put(www);
  assert.deepEqual([node.reconciler.state().revision, node.reconciler.state().error], [2, null]);
});

test('reconcile: a round that is under way when it is closed ends first', async (t) => {
  const node = await openReconciled(t);
  await node.store.update(() => [changeOf(web), changeOf(www)]);
  await node.reconciler.close();
  assert.equal(node.send(www, 1), '10.0.100.1');
});
