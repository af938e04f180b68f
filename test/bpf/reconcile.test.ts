// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { serviceKey, vipMarker } from '../../src/controlplane/kernel-state.js';
import { BackendFlag } from '../../src/dataplane/abi.gen.js';
import { deleteService } from '../../src/dataplane/services.js';
import { readBackend, readRingRef, readRingRows, writeRingRef } from '../../src/dataplane/tables.js';
import type { Backend, Service } from '../../src/model/objects.js';
import { assertSameContents, contents, openReconciled, type Reconciled, until } from '../support/reconciled.js';
import { backendOf, backendsOf, poolOf, serviceOf } from '../support/snapshots.js';

const www = serviceOf('www', 'web');

/**
 * Where 200 flows go, from client `from` on, sorted. One that was there before may be known: it depends on the CPU that runs
 * the test.
 */
const targets = ({ send }: Reconciled, service: Service, from = 0): string[] =>
  [...new Set(Array.from({ length: 200 }, (_, at) => send(service, from + at)))].sort();

const addresses = (backends: readonly Backend[]): string[] => backends.map(({ address }) => address).sort();

const total = async ({ facts }: Reconciled, service: Service): Promise<number> =>
  (await facts.service(service.name))?.packets ?? Number.NaN;

/** Runs `change` with packets of known flows going on all the while. Every one must reach a backend, and the total never fall. */
async function undisturbed(node: Reconciled, service: Service, change: () => Promise<void>): Promise<void> {
  const changing = change().then(
    () => true,
    (error: unknown) => error,
  );
  let done: unknown = false;
  let seen = await total(node, service);
  for (let client = 0; done === false; client = (client + 1) % 50) {
    assert.match(node.send(service, client, 'ack'), /^10\./);
    const now = await total(node, service);
    assert.ok(now >= seen, `the total fell from ${seen} to ${now}`);
    seen = now;
    done = await Promise.race([changing, new Promise((resolve) => setImmediate(resolve, false))]);
  }
  if (done !== true) throw done;
}

test('reconcile: services of one and of several pools reach all their backends, also one that two pools share', async (t) => {
  const node = await openReconciled(t);
  const shared = backendOf('10.9.9.9');
  const web = [...backendsOf(3), shared];
  const api = [...backendsOf(2, 1), shared];
  const alt = serviceOf('alt', 'web', 81, '192.0.2.2');
  const other = serviceOf('other', 'api', 82);
  await node.put(poolOf('web', web), poolOf('api', api), www, alt, other);
  assert.deepEqual(targets(node, www), addresses(web));
  assert.deepEqual(targets(node, alt), addresses(web));
  assert.deepEqual(targets(node, other), addresses(api));
  assert.equal(node.send({ ...www, port: 83 }, 1), 'pass');
  assert.equal(await total(node, www), 200);
  assert.equal(node.facts.traffic('www', shared).packets + node.facts.traffic('alt', shared).packets > 0, true);
});

test('reconcile: drain, weight 0, disabled, removed and back again', async (t) => {
  const node = await openReconciled(t);
  const [first = backendOf(''), ...rest] = backendsOf(3);
  await node.put(poolOf('web', [first, ...rest]), www);
  const all = addresses([first, ...rest]);
  assert.deepEqual(targets(node, www), all);
  let from = 0;
  for (const change of [{ state: 'drain' }, { weight: 0 }, { state: 'disabled' }] as const) {
    await node.put(poolOf('web', [{ ...first, ...change }, ...rest]));
    from += 1000;
    assert.deepEqual(targets(node, www, from), addresses(rest), `new flows with ${JSON.stringify(change)}`);
    await node.put(poolOf('web', [first, ...rest]));
    assert.deepEqual(targets(node, www, from + 500), all);
  }
  await node.put(poolOf('web', [{ ...first, state: 'disabled' }, ...rest]));
  assert.deepEqual(targets(node, www, from + 500), addresses(rest), 'a disabled one loses its flows too');
  await node.put(poolOf('web', rest));
  assert.deepEqual(targets(node, www), addresses(rest));
  await node.put(poolOf('web', [first, ...rest]));
  assert.deepEqual(targets(node, www, from + 1000), all);
});

test('reconcile: weights share out the rows', async (t) => {
  const node = await openReconciled(t);
  const [first = backendOf(''), second = backendOf('')] = backendsOf(2);
  await node.put(poolOf('web', [first, { ...second, weight: 50 }]), www);
  const status = await node.facts.pool('web');
  assert.equal(status?.ringRows, 251);
  assert.ok(Math.abs((status?.backends.get(second.name)?.shareReal ?? 0) - 1 / 3) < 1 / 251);
});

test('reconcile: a backend whose address changes in place is the new one only', async (t) => {
  const node = await openReconciled(t);
  await node.put(poolOf('web', [backendOf('10.0.0.1', { name: 'a' })]), www);
  assert.deepEqual(targets(node, www), ['10.0.0.1']);
  await node.put(poolOf('web', [backendOf('10.0.0.2', { name: 'a' })]));
  assert.deepEqual(targets(node, www), ['10.0.0.2']);
  assert.equal(await total(node, www), 400);
});

test('reconcile: packets go on and totals never fall while pools grow, shrink, are exchanged and renamed', async (t) => {
  const node = await openReconciled(t);
  await node.put(poolOf('web', backendsOf(7)), poolOf('api', backendsOf(3, 1)), www);
  targets(node, www);
  const other = serviceOf('other', 'web', 81);
  const web = (count: number) => poolOf('web', backendsOf(count));
  await undisturbed(node, www, () => node.put(web(8), other));
  assert.equal(await total(node, other), 0, "a new service is not given another's counts");
  await undisturbed(node, www, () => node.put(web(40)));
  await undisturbed(node, www, () => node.put(web(2)));
  assert.deepEqual(targets(node, www), addresses(backendsOf(2)));
  await undisturbed(node, www, () => node.put({ ...www, pool: 'api' }));
  assert.deepEqual(targets(node, www, 1000), addresses(backendsOf(3, 1)));
  const renamed = poolOf('api2', backendsOf(3, 1));
  await undisturbed(node, www, async () => {
    const { revision } = await node.store.update(() => [
      { kind: 'pool', name: 'api', value: null },
      { kind: 'pool', name: 'api2', value: renamed },
      { kind: 'service', name: 'www', value: { ...www, pool: 'api2' } },
    ]);
    await node.reconciler.applied(revision, 20_000);
  });
  assert.deepEqual(targets(node, www, 1000), addresses(renamed.backends));
  assert.deepEqual(await node.facts.drops(), []);
});

test('reconcile: what a removed member counted stays with the service, and its slot begins at 0', async (t) => {
  const node = await openReconciled(t);
  const [first = backendOf(''), second = backendOf(''), third = backendOf('')] = backendsOf(3);
  await node.put(poolOf('web', [first, second]), www);
  targets(node, www);
  assert.ok(node.facts.traffic('www', second).packets > 0);
  await node.put(poolOf('web', [first]));
  assert.equal(await total(node, www), 200);
  await node.put(poolOf('web', [first, third]));
  assert.equal(node.facts.traffic('www', third).packets, 0);
  assert.equal(await total(node, www), 200);
});

test('reconcile: a service that gets the number and range of a deleted one begins at 0', async (t) => {
  const node = await openReconciled(t);
  await node.put(poolOf('web', backendsOf(1)), www);
  targets(node, www);
  await node.put(poolOf('web', []));
  assert.equal(node.send(www, 1), 'drop');
  assert.deepEqual(await node.facts.drops(), [{ service: 'www', reason: 'no_backend', packets: 1 }]);
  await node.remove(www);
  assert.equal(node.send(www, 1), 'pass');
  await node.restart(); // or the number would come up again after 4094 others
  const next = serviceOf('next', 'web', 81);
  await node.put(next);
  const [numbers] = node.reconciler.state().numbering.services.values();
  assert.deepEqual([numbers?.number, numbers?.countersStart], [1, 0]);
  assert.equal(await total(node, next), 0);
  assert.deepEqual(await node.facts.drops(), []);
});

test('reconcile: a new daemon finds everything in place and writes nothing', async (t) => {
  const node = await openReconciled(t);
  await node.put(poolOf('tmp', backendsOf(2, 2)), poolOf('web', backendsOf(9)), poolOf('api', backendsOf(2, 1)), www);
  await node.put(serviceOf('v6', 'six', 80, '2001:db8::1'), poolOf('six', [backendOf('2001:db8:1::1')]));
  await node.put(serviceOf('alt', 'api', 81), poolOf('web', backendsOf(5)), poolOf('idle', backendsOf(2, 1)));
  await node.remove(poolOf('tmp', []));
  targets(node, www);
  const before = await contents(node.maps);
  const numbering = node.reconciler.state().numbering;
  await node.restart();
  assert.equal(node.reconciler.state().changes, 0);
  assertSameContents(await contents(node.maps), before);
  assert.deepEqual(node.reconciler.state().numbering.pools, numbering.pools);
  assert.equal(await total(node, www), 200);
});

test('reconcile: a backend whose next hop is lost has no rows, and has them again when it is found', async (t) => {
  const node = await openReconciled(t);
  const [first = backendOf(''), second = backendOf('')] = backendsOf(2);
  node.lost.add(first.address);
  await node.put(poolOf('web', [first, second]), www);
  assert.deepEqual(targets(node, www), [second.address]);
  assert.equal((await node.facts.pool('web'))?.backends.get(first.name)?.nextHop.state, 'unresolved');
  node.lost.clear();
  node.moved();
  let from = 0;
  await until('it comes back by itself', () => {
    from += 200;
    return targets(node, www, from).length === 2;
  });
  node.lost.add(first.address).add(second.address);
  await node.round();
  assert.equal(node.send(www, 1), 'drop');
});

test('reconcile: what is changed from outside is healed by the next round, counts and all', async (t) => {
  const node = await openReconciled(t);
  await node.put(poolOf('web', backendsOf(2)), www);
  targets(node, www);
  const { maps, reconciler } = node;
  const pool = reconciler.state().numbering.pools.get('web')?.number ?? 0;
  const ref = readRingRef(maps, pool);
  const harms: Record<string, () => void> = {
    'a service is deleted': () => deleteService(maps, serviceKey(www)),
    'a marker is deleted': () => deleteService(maps, vipMarker(serviceKey(www))),
    'the services are wiped': () => void maps.services.fill(0),
    'a ring is taken away': () => writeRingRef(maps, pool, { ...ref, start: 0, rows: 0 }),
    'a ring points elsewhere': () => writeRingRef(maps, pool, { ...ref, start: ref.start + 100_000 }),
    'the backends are wiped': () => void maps.backends.fill(0),
    'the filter is wiped': () => void maps.vipFilter.fill(0n),
    'the filter has a bit too many': () => void maps.vipFilter.fill(-1n),
  };
  const filter = maps.vipFilter.slice();
  for (const [harm, cause] of Object.entries(harms)) {
    const { changes } = reconciler.state();
    cause();
    await node.round();
    assert.equal(reconciler.state().changes, changes + 1, harm);
    assert.equal(reconciler.state().error, null, harm);
    assert.match(node.send(www, 7, 'ack'), /^10\.0\.0\.[12]$/, harm);
    assert.deepEqual(maps.vipFilter.slice(), filter, harm);
  }
  assert.equal(await total(node, www), 200 + Object.keys(harms).length);
});

test('reconcile: a service whose pool is missing is left out, in every round', async (t) => {
  const node = await openReconciled(t);
  await node.put(poolOf('web', backendsOf(1)), www, serviceOf('alt', 'none', 81));
  assert.equal(node.send(serviceOf('alt', 'none', 81), 1), 'pass');
  await node.remove(poolOf('web', []));
  assert.equal(node.send(www, 1), 'pass');
  const { changes } = node.reconciler.state();
  await node.put(poolOf('other', []));
  assert.equal(node.reconciler.state().changes, changes);
});

test('reconcile: what time alone changes comes though nothing else does: the end of a drain, rows that forget', async (t) => {
  const node = await openReconciled(t);
  const [one, two] = backendsOf(2) as [Backend, Backend];
  const numberOf = (): number =>
    node.reconciler.state().numbering.pools.get('web')?.members.get(one.address)?.number ?? assert.fail('no number');
  const takes = (): boolean => (readBackend(node.maps, numberOf()).flags & BackendFlag.VALID) !== 0;
  const pool = poolOf('web', [one, two]);
  await node.put({ ...pool, holdSeconds: 1 }, www);
  const since = new Date().toISOString();
  const deadline = new Date(Date.now() + 400).toISOString();
  await node.put({ ...pool, holdSeconds: 1, backends: [{ ...one, state: 'drain', drain: { since, deadline } }, two] });
  const remembered = (): boolean => {
    const { number = 0 } = node.reconciler.state().numbering.pools.get('web') ?? {};
    return readRingRows(node.maps, readRingRef(node.maps, number)).includes(numberOf());
  };
  assert.deepEqual([takes(), remembered()], [true, true]);
  await until('the drain is over', () => !takes(), 3000);
  await new Promise((resolve) => setTimeout(resolve, 2000)); // a row that had to wait holds as long again
  await node.round();
  assert.equal(remembered(), false);
});
