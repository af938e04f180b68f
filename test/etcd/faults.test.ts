// SPDX-License-Identifier: Apache-2.0
// What goes wrong with etcd, and what the store does then.
import assert from 'node:assert/strict';
import { cpSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type { EtcdClient } from '../../src/controlplane/etcd/client.js';
import { clusterText } from '../../src/controlplane/etcd/cluster.js';
import { keysBelow } from '../../src/controlplane/etcd/keys.js';
import { parseState } from '../../src/controlplane/state-file.js';
import type { Store } from '../../src/controlplane/store.js';
import { FairleadError } from '../../src/model/errors.js';
import { startEtcd, startMembers, startProxy } from '../support/etcd.js';
import { until } from '../support/lab.js';
import { pool, putPool } from '../unit/store-contract.js';
import { assertEqualToEtcd, type Options, openStore } from './stores.js';

const isUp = (store: Store) => () => store.state().connected;
const isAway = (store: Store) => () => !store.state().connected;
const weightOf = (store: Store, name = 'a') => store.read().pools.get(name)?.value.backends[0]?.weight;

function relistsOf(store: Store): Record<string, number> {
  return Object.fromEntries([...store.state().relists].filter(([, count]) => count > 0));
}

/** A document as another writer would put it. */
const poolDocument = (name: string, weight: number) => JSON.stringify({ ...pool(name, weight), writeId: 'x' });

test('etcd store: etcd killed: reads go on, writes are refused, and after its start all goes on where it was', async (t) => {
  const { etcd, store, log } = await openStore(t);
  const before = await store.update(() => [putPool('a', 1)]);
  await etcd.kill();
  await until('it is away', isAway(store));
  assert.equal(store.read(), before);
  assert.match(store.state().detail ?? '', new RegExp(`^etcd: .*; revision ${before.revision} stays in force$`));
  await assert.rejects(
    store.update(() => [putPool('a', 2)]),
    { code: 'unavailable', message: /^etcd: write: .*; nothing was changed$/ },
  );
  assert.equal(store.read(), before);
  await etcd.start();
  await until('it is back', isUp(store));
  await store.update(() => [putPool('a', 3)]);
  await etcd.client().commit([], [{ key: '/fairlead/v1/pools/b', value: poolDocument('b', 4) }]);
  await until('it is told', () => weightOf(store, 'b') === 4);
  await assertEqualToEtcd({ etcd, store });
  assert.deepEqual(relistsOf(store), { start: 1 });
  assert.deepEqual(
    log.map(({ line }) => line),
    ['etcd answers', 'etcd is away; the last state stays in force', 'etcd answers'],
  );
});

test('etcd store: its faults are events: away and back, a document that is not in force, everything read anew', async (t) => {
  const { etcd, store, events } = await openStore(t);
  const told = () => events.since(0).events.map(({ type, severity }) => `${type} ${severity}`);
  const has = (event: string) => () => told().includes(event);
  assert.deepEqual(told(), ['store.relisted info', 'store.connected info']);
  await store.update(() => [putPool('a', 1)]);
  await etcd.client().commit([], [{ key: '/fairlead/v1/pools/bad', value: '{' }]);
  await until('it is skipped', has('document.skipped warning'));
  assert.equal(events.since(2).events[0]?.data?.key, 'pools/bad');
  await etcd.kill();
  await until('it is away', has('store.disconnected warning'));
  await etcd.start();
  await until('it is back', isUp(store));
  assert.equal(told().at(-1), 'store.connected info');
  await etcd.kill();
  etcd.wipe();
  await etcd.start();
  await until('it is refused', has('store.refused error'));
});

test('etcd store: what was compacted while it could not see is listed again', async (t) => {
  const etcd = await startEtcd(t);
  const proxy = await startProxy(t, etcd.port);
  const { store, log } = await openStore(t, { etcd, over: { endpoints: [`http://127.0.0.1:${proxy.port}`] } });
  await store.update(() => [putPool('a', 1), putPool('b', 1), putPool('c', 1)]);
  const same = store.read().pools.get('c');
  proxy.shut(true);
  await until('it is away', isAway(store));
  const other = etcd.client();
  await other.commit([], [{ key: '/fairlead/v1/pools/a', value: poolDocument('a', 7) }]);
  const { revision } = await other.commit([], [{ key: '/fairlead/v1/pools/b', value: null }]);
  await other.commit([], [{ key: '/elsewhere', value: '' }]);
  etcd.ctl('compact', String(revision + 1));
  proxy.shut(false);
  await until('it has it', () => weightOf(store) === 7);
  await until('it is back', isUp(store));
  assert.equal(store.read().pools.get('c'), same, 'what did not change is the same object');
  await assertEqualToEtcd({ etcd, store });
  assert.deepEqual(relistsOf(store), { start: 1, compacted: 1 });
  assert.equal(log.filter(({ fields }) => fields.reason === 'compacted').length, 1);
});

test('etcd store: a list that finds nothing new touches nothing', async (t) => {
  const { etcd, store } = await openStore(t, { times: { relistMs: 50, askMs: 10_000, silenceMs: 30_000 } });
  const before = await store.update(() => [putPool('a')]);
  store.watch(() => assert.fail('told'));
  await until('it has listed again and again', () => (relistsOf(store).periodic ?? 0) > 5);
  assert.equal(store.read(), before);
  await assertEqualToEtcd({ etcd, store });
});

test('etcd store: a line that loses everything is given up and made anew', async (t) => {
  const etcd = await startEtcd(t);
  const proxy = await startProxy(t, etcd.port);
  const times = { relistMs: 300_000, askMs: 100, silenceMs: 1000 };
  const { store } = await openStore(t, { etcd, over: { endpoints: [`http://127.0.0.1:${proxy.port}`] }, times });
  await store.update(() => [putPool('a', 1)]);
  proxy.black(true);
  await until('it is away', isAway(store), 6000); // gRPC's own keepalive takes 15 s
  await etcd.client().commit([], [{ key: '/fairlead/v1/pools/a', value: poolDocument('a', 9) }]);
  proxy.black(false);
  await until('it is told', () => weightOf(store) === 9, 30_000);
  assert.deepEqual(relistsOf(store), { start: 1 });
});

async function wiped(t: TestContext) {
  const opened = await openStore(t);
  const { etcd, store } = opened;
  const before = await store.update(() => [putPool('a', 1)]);
  await etcd.kill();
  etcd.wipe();
  await etcd.start();
  await until('it is noticed', () => store.state().relists.get('cluster_changed') === 1);
  return { ...opened, before };
}

test('etcd store: wiped: what was in force stays, nothing is written, until the cluster is there again', async (t) => {
  const { etcd, store, before } = await wiped(t);
  assert.equal(store.read(), before);
  const { connected, detail } = store.state();
  assert.equal(connected, false);
  assert.match(detail ?? '', /holds no cluster below "\/fairlead\/".*stays in force.*fairlead migrate/);
  await assert.rejects(
    store.update(() => [putPool('a', 2)]),
    { code: 'unavailable', message: /holds no cluster/ },
  );
  const keys = keysBelow('/fairlead/');
  await etcd.client().commit(
    [],
    [
      { key: keys.pool('b'), value: poolDocument('b', 5) },
      { key: keys.revision, value: '{}' },
      { key: keys.cluster, value: clusterText(before.hashKey) },
    ],
  );
  await until('it is back', isUp(store));
  assert.deepEqual([...store.read().pools.keys()], ['b']);
  const after = await store.update(() => [putPool('c', 2)]);
  assert.ok(after.revision < 10, 'revisions are those of the new one');
  await assertEqualToEtcd({ etcd, store });
});

test('etcd store: a cluster with another hash key is not taken by a running node', async (t) => {
  const { etcd, store, before } = await wiped(t);
  const keys = keysBelow('/fairlead/');
  const made = [
    { key: keys.revision, value: '{}' },
    { key: keys.cluster, value: clusterText('ff'.repeat(16)) },
  ];
  await etcd.client().commit([], made);
  await until('it is noticed', () => /another hash key/.test(store.state().detail ?? ''));
  assert.equal(store.read(), before);
  const anew = await openStore(t, { etcd, name: 'anew' });
  assert.deepEqual([anew.store.read().hashKey, anew.store.read().pools.size], ['ff'.repeat(16), 0]);
});

/** A store that wants to list again and cannot, while its etcd is restored: the way the cluster is known to be older is another. */
test('etcd store: restored while a list was due: its older state is in force', async (t) => {
  let isBroken = false;
  const wrap = (client: EtcdClient): EtcdClient => ({
    ...client,
    range: (...args) =>
      isBroken ? Promise.reject(new FairleadError('unavailable', 'etcd: read: not now')) : client.range(...args),
    probe: (...args) => client.probe(...args),
  });
  await restored(t, { wrap, times: { relistMs: 500, askMs: 10_000, silenceMs: 30_000 } }, async (isOver) => {
    isBroken = !isOver;
    if (!isOver) await new Promise((resolve) => setTimeout(resolve, 700));
  });
});

test('etcd store: restored from a copy: its older state is in force', (t) => restored(t, {}, async () => undefined));

async function restored(t: TestContext, options: Options, around: (isOver: boolean) => Promise<void>): Promise<void> {
  const { etcd, store } = await openStore(t, options);
  const data = join(etcd.directory, 'data');
  await store.update(() => [putPool('a', 1), putPool('b', 1)]);
  await etcd.kill('SIGTERM');
  cpSync(data, `${data}.copy`, { recursive: true });
  await etcd.start();
  await until('it is back', isUp(store));
  await store.update(() => [putPool('a', 2)]);
  const later = await store.update(() => [putPool('c', 1), { kind: 'pool', name: 'b', value: null }]);
  await around(false);
  await etcd.kill('SIGTERM');
  rmSync(data, { recursive: true });
  renameSync(`${data}.copy`, data);
  await etcd.start();
  await around(true);
  await until('it is noticed', () => weightOf(store) === 1);
  await until('it is back', isUp(store));
  assert.equal(relistsOf(store).revision_back, 1);
  assert.deepEqual([[...store.read().pools.keys()].sort(), weightOf(store)], [['a', 'b'], 1]);
  const { log } = store.read().pools.get('a') ?? {};
  const weights = log?.changes.map(({ set }) => set[0]?.weight);
  assert.deepEqual([log?.generation, weights], [3, [2, 1]], 'rows remember what was before');
  await until('etcd has that too', async () => {
    const [item] = (await etcd.client().range(keysBelow('/fairlead/').pool('a'))).items;
    return JSON.parse(item?.value ?? '{}').ringLog?.generation === 3;
  });
  const again = await store.update(() => [putPool('a', 3)]);
  assert.ok(again.revision <= later.revision);
  await assertEqualToEtcd({ etcd, store });
}

test('etcd store: without etcd it begins with the last state on disk, and says so', async (t) => {
  const first = await openStore(t);
  const { etcd, snapshot } = first;
  const before = await first.store.update(() => [putPool('a', 1)]);
  await first.store.close();
  assert.deepEqual(await parseState(readFileSync(snapshot, 'utf8'), snapshot), before);
  await etcd.kill();
  const { store, log, events } = await openStore(t, { etcd });
  assert.deepEqual(store.read(), before);
  assert.equal(store.state().connected, false);
  const [event] = events.since(0).events;
  assert.equal(event?.type, 'store.disconnected');
  assert.match(event.message, new RegExp(`^etcd.*; the last state on disk, revision ${before.revision}, is in force$`));
  assert.equal(log.at(-1)?.line, 'etcd is away; the last state on disk is in force');
  await assert.rejects(
    store.update(() => [putPool('a', 2)]),
    { code: 'unavailable', message: /nothing was changed/ },
  );
  await etcd.start();
  await until('it is back', isUp(store));
  const after = await store.update(() => [putPool('a', 2)]);
  assert.equal(after.hashKey, before.hashKey);
  await assertEqualToEtcd({ etcd, store });
  await etcd.kill();
  await assert.rejects(openStore(t, { etcd, name: 'never-seen' }), {
    code: 'unavailable',
    message: /ECONNREFUSED.*no last state in ".*never-seen\.json"/,
  });
});

test('etcd store: two processes do not share the file of the last state', async (t) => {
  const { etcd, store } = await openStore(t);
  await assert.rejects(openStore(t, { etcd }), { code: 'busy', message: /node\.json\.lock": process \d+ holds it/ });
  await store.close();
  await (await openStore(t, { etcd })).store.close();
});

test('etcd store: writes do not wait in line for an etcd that is known to be away', async (t) => {
  const { etcd, store } = await openStore(t);
  await store.update(() => [putPool('a')]);
  await etcd.kill();
  await until('it is away', isAway(store));
  const ends = performance.now() + 4000;
  await until('it has been away for long', () => performance.now() > ends);
  const answers = await Promise.allSettled(
    Array.from({ length: 100 }, (_, i) => store.update(() => [putPool('a', i)])),
  );
  for (const answer of answers)
    assert.match(answer.status === 'rejected' ? String(answer.reason) : 'done', /ECONNREFUSED.*nothing was changed/);
});

test('etcd store: the key of the newest write deleted by hand stops nobody', async (t) => {
  const { etcd, store } = await openStore(t);
  await store.update(() => [putPool('a', 1)]);
  etcd.ctl('del', '/fairlead/v1/revision');
  await store.update(() => [putPool('a', 2)]);
  assert.equal(weightOf(store), 2);
  await assertEqualToEtcd({ etcd, store });
});

test('etcd store: a damaged file is no hindrance while etcd answers', async (t) => {
  const first = await openStore(t);
  const before = await first.store.update(() => [putPool('a', 1)]);
  await first.store.close();
  writeFileSync(first.snapshot, '{');
  const { etcd, store, log } = await openStore(t, { etcd: first.etcd });
  assert.deepEqual(store.read(), before);
  assert.match(log[0]?.line ?? '', /line 1 column 2/);
  await store.close();
  assert.deepEqual(await parseState(readFileSync(first.snapshot, 'utf8'), first.snapshot), before);
  writeFileSync(first.snapshot, '{');
  await etcd.kill();
  await assert.rejects(openStore(t, { etcd }), { code: 'unavailable', message: /ECONNREFUSED.*line 1 column 2/ });
});

test('etcd store: a member without a quorum is as good as away', async (t) => {
  const members = await startMembers(t, 3);
  const [one, two, three] = members;
  assert.ok(one && two && three);
  const { store } = await openStore(t, { etcd: one, over: { endpoints: [one.endpoint] } });
  await store.update(() => [putPool('a', 1)]);
  await Promise.all([two.kill(), three.kill()]);
  await until('it is noticed', isAway(store), 20_000);
  assert.equal(weightOf(store), 1);
  await assert.rejects(
    store.update(() => [putPool('a', 2)]),
    { code: 'unavailable' },
  );
  await Promise.all([two.start(), three.start()]);
  await until('it is back', isUp(store), 30_000);
  await store.update(() => [putPool('a', 3)]);
  await assertEqualToEtcd({ etcd: one, store });
});

test('etcd store: with three members the death of any one stops nothing for long', async (t) => {
  const members = await startMembers(t, 3);
  const [one] = members;
  assert.ok(one);
  const { store } = await openStore(t, { etcd: one, over: { endpoints: members.map(({ endpoint }) => endpoint) } });
  let weight = 0;
  for (const member of members) {
    await member.kill();
    weight++;
    await until(
      'a write is done',
      () =>
        store
          .update(() => [putPool('a', weight)])
          .then(
            () => true,
            () => false,
          ),
      20_000,
    );
    await until('the watch runs', isUp(store), 20_000);
    await member.start();
  }
  await assertEqualToEtcd({ etcd: one, store });
});

test('etcd store: what is too large for etcd is refused, and the next write is not', async (t) => {
  const { store } = await openStore(t);
  await store.update(() => [putPool('a')]);
  const deny = Array.from({ length: 100_000 }, (_, i) => `10.${(i >> 16) & 255}.${(i >> 8) & 255}.${i & 255}/32`);
  const service = { name: 's', address: '192.0.2.1', port: 80, protocol: 'tcp', pool: 'a', deny } as const;
  const value = { ...service, forwarding: 'ipip', affinity: 'flow' } as const;
  await assert.rejects(
    store.update(() => [{ kind: 'service', name: 's', value }]),
    { code: 'full', message: /--max-request-bytes/ },
  );
  await store.update(() => [{ kind: 'service', name: 's', value: { ...value, deny: deny.slice(0, 50_000) } }]);
  assert.equal(store.read().services.get('s')?.value.deny?.length, 50_000);
});
