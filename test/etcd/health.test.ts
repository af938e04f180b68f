// SPDX-License-Identifier: Apache-2.0
// Health of backends as nodes agree on it through a real etcd, and without it.
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { openEtcdPresence } from '../../src/controlplane/etcd/presence.js';
import { openEtcdStore } from '../../src/controlplane/etcd/store.js';
import { type Etcd, startEtcd } from '../support/etcd.js';
import {
  assertSameRings,
  downIn,
  type HealthNode,
  openNode,
  quickCheck,
  untilQuiet,
  webPool,
} from '../support/health-nodes.js';
import { storm } from '../support/health-storm.js';
import { until } from '../support/lab.js';
import { chosenSeed, randomFrom } from '../unit/random.js';

const log = { info: () => undefined, warn: () => undefined };

/** Nodes with a store, a presence and connections of their own, each with a last state on disk. */
async function cluster(t: TestContext, count: number): Promise<{ etcd: Etcd; nodes: readonly HealthNode[] }> {
  const etcd = await startEtcd(t);
  const nodes = await Promise.all(
    Array.from({ length: count }, (_, at) =>
      openNode(`n${at + 1}`, async () => {
        const client = etcd.client();
        const snapshot = `${etcd.directory}/n${at + 1}.json`;
        const store = await openEtcdStore({ client, prefix: '/fairlead/', snapshot, endpoints: 1, log });
        const presence = openEtcdPresence({ client, prefix: '/fairlead/', node: 'n', log, ttlSeconds: 3 });
        return { store, presence, close: async () => void (await Promise.all([presence.close(), store.close()])) };
      }),
    ),
  );
  for (const node of nodes) etcd.using(node);
  return { etcd, nodes };
}

const shared = ({ store }: HealthNode) => {
  const stored = store.read().pools.get('web');
  assert.ok(stored);
  return stored;
};

for (const count of [2, 3])
  test(`health on etcd: ${count} nodes and a random history: equal rings, and what most have found`, async (t) => {
    const seed = chosenSeed();
    console.log(`seed ${seed} (set SEED to repeat)`);
    const { nodes } = await cluster(t, count);
    await storm(nodes, randomFrom(seed), 60);
  });

test('health on etcd: its writes leave the revision, also for whoever reads it later; an edit by other hands does not', async (t) => {
  const { etcd, nodes } = await cluster(t, 2);
  const [one, two] = nodes as [HealthNode, HealthNode];
  await one.store.update(() => [{ kind: 'pool', name: 'web', value: webPool(4) }]);
  const { revision } = shared(one);
  for (const { bad } of nodes) bad.add('10.0.0.1');
  await until('both have it', () => nodes.every((node) => downIn(shared(node)) === 'b0'));
  const written = one.store.read().revision;
  assert.ok(written > revision);
  await two.restart();
  for (const node of nodes) assert.deepEqual([shared(node).revision, downIn(shared(node))], [revision, 'b0']);

  const key = '/fairlead/v1/pools/web';
  const document = JSON.parse(etcd.ctl('get', '--print-value-only', key));
  assert.equal(document.health.revision, revision);
  etcd.ctl('put', key, JSON.stringify({ ...document, holdSeconds: 60 }));
  await until('the edit is there', () => nodes.every((node) => shared(node).value.holdSeconds === 60));
  for (const node of nodes) assert.ok(shared(node).revision > written);
  etcd.ctl('put', key, JSON.stringify({ ...document, health: { ...document.health, down: [{ name: 'b0' }] } }));
  await until('it is refused', () => one.store.state().skipped.length === 1);
  assert.equal(one.store.state().skipped[0]?.detail, '/health/down/0/since: "since" is missing');
});

test('health on etcd: while it is away each node acts on what it finds, and they agree when it is back', async (t) => {
  const { etcd, nodes } = await cluster(t, 2);
  const [one, two] = nodes as [HealthNode, HealthNode];
  await one.store.update(() => [
    { kind: 'pool', name: 'web', value: webPool(5, { healthCheck: { ...quickCheck, fall: 2 } }) },
  ]);
  for (const { bad } of nodes) bad.add('10.0.0.1');
  await until('both have it', () => nodes.every((node) => downIn(shared(node)) === 'b0'));
  await etcd.kill();
  await until('it is away', () => nodes.every(({ store }) => !store.state().connected));
  for (const { bad } of nodes) bad.delete('10.0.0.1');
  one.bad.add('10.0.0.2');
  await until('each for itself', () => downIn(one.pool()) === 'b1' && downIn(two.pool()) === '');
  for (const node of nodes) assert.equal(downIn(shared(node)), 'b0');
  const owners = async (node: HealthNode) =>
    [...new Set((await node.rows(Date.now())).filter((_, at) => at % 4 === 0))].sort();
  await until('slow start goes on', () => nodes.every((node) => node.pool().health?.slow.length === 0));
  assert.deepEqual(await owners(one), [1, 3, 4, 5]);
  assert.deepEqual(await owners(two), [1, 2, 3, 4, 5]);

  await etcd.start();
  await until(
    'they agree',
    () => nodes.every((node) => node.store.state().connected && downIn(shared(node)) === ''),
    30_000,
  );
  await untilQuiet(nodes);
  for (const node of nodes) assert.equal(node.health.view.read(), node.store.read(), 'nobody acts alone');
  await assertSameRings(nodes);
});

test('health on etcd: a start without it goes on from the last state on disk', async (t) => {
  const { etcd, nodes } = await cluster(t, 1);
  const [node] = nodes as [HealthNode];
  const check = { ...quickCheck, interval: 1, timeout: 0.1, rise: 3, fall: 3 };
  node.bad.add('10.0.0.1');
  await node.store.update(() => [{ kind: 'pool', name: 'web', value: webPool(5, { healthCheck: check }) }]);
  await until('it is down', () => downIn(shared(node)) === 'b0');
  await node.close();
  await etcd.kill();
  await node.restart();
  assert.equal(node.store.state().connected, false);
  await until('a first result', () => node.health.backend('web', 'b0').checked?.last != null);
  assert.equal(downIn(node.pool()), 'b0');
  node.bad.add('10.0.0.2');
  await until('checks go on', () => downIn(node.pool()) === 'b0 b1');
});
