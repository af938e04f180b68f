// SPDX-License-Identifier: Apache-2.0
// Several nodes with rings in the kernel, over a store and presence in memory and on a real etcd.
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { addressText } from '../../src/controlplane/kernel-state.js';
import { readBackend, readRingRef, readRingRows } from '../../src/dataplane/tables.js';
import type { NodeInfo } from '../../src/model/node-view.js';
import { BEHIND_MS, type ClusterNode, KINDS, openNode } from '../support/cluster.js';
import { until } from '../support/lab.js';
import { changeOf } from '../support/reconciled.js';
import { backendOf, backendsOf, poolOf, randomWorld, serviceOf } from '../support/snapshots.js';
import { chosenSeed, randomFrom } from '../unit/random.js';

const www = serviceOf('www', 'web');

/** How `node` sees another. */
const seen = ({ cluster }: ClusterNode, name: string): NodeInfo | undefined =>
  cluster.nodes().find((each) => each.name === name);

const untilSeen = (node: ClusterNode, name: string, what: Partial<NodeInfo>): Promise<void> =>
  until(`${node.name} sees of ${name} ${JSON.stringify(what)}`, () => {
    const info = seen(node, name);
    return info !== undefined && Object.entries(what).every(([key, value]) => info[key as keyof NodeInfo] === value);
  });

/** The rows of every pool in a node's kernel, owners by their addresses: read without the code that makes digests. */
function rowsOf({ maps, reconciler }: ClusterNode): Record<string, string> {
  const { numbering, rings } = reconciler.state();
  return Object.fromEntries(
    [...rings.keys()].map((pool) => {
      const rows = readRingRows(maps, readRingRef(maps, numbering.pools.get(pool)?.number ?? 0));
      const owner = (number: number): string => (number === 0 ? '-' : addressText(readBackend(maps, number)));
      return [pool, Array.from(rows, owner).join(' ')];
    }),
  );
}

const digests = (info: NodeInfo | undefined): Record<string, string> =>
  Object.fromEntries(Object.entries(info?.rings ?? {}).map(([pool, { digest }]) => [pool, digest]));

/** The first row of a pool's ring, in the kernel's memory. */
function firstRow({ maps, reconciler }: ClusterNode, pool: string): { write(value: bigint): void; read(): bigint } {
  const at = (): number => readRingRef(maps, reconciler.state().numbering.pools.get(pool)?.number ?? 0).start;
  return {
    write: (value) => void Atomics.store(maps.ringRows, at(), value),
    read: () => Atomics.load(maps.ringRows, at()),
  };
}

/** Damage that comes back as soon as it is put right, until it is told to stop. */
function keepDamaging(node: ClusterNode, pool: string): () => void {
  const row = firstRow(node, pool);
  const timer = setInterval(() => row.write(0xdeadn), 0);
  return () => clearInterval(timer);
}

async function three(t: TestContext, kind: keyof typeof KINDS): Promise<[ClusterNode, ClusterNode, ClusterNode]> {
  const share = await KINDS[kind](t);
  const a = await openNode(t, 'a', share);
  await a.put(poolOf('web', backendsOf(4)), www);
  const [b, c] = [await openNode(t, 'b', share), await openNode(t, 'c', share)];
  for (const one of [a, b, c]) for (const other of 'abc') await untilSeen(one, other, { state: 'ok', ready: true });
  return [a, b, c];
}

for (const kind of ['memory', 'etcd'] as const) {
  test(`cluster (${kind}): nodes see each other come, apply and go`, async (t) => {
    const share = await KINDS[kind](t);
    const a = await openNode(t, 'a', share);
    await untilSeen(a, 'a', { state: 'ok', ready: true });
    const b = await openNode(t, 'b', share);
    await untilSeen(a, 'b', { state: 'ok', ready: true, self: false, version: '1.2.3' });
    await untilSeen(b, 'a', { state: 'ok' });
    await a.put(poolOf('web', backendsOf(3)), www);
    const { revision } = a.store.read();
    for (const node of [a, b])
      for (const name of 'ab') await untilSeen(node, name, { appliedRevision: revision, revision });
    await until('the digests are equal', () => digests(seen(a, 'a')).web === digests(seen(a, 'b')).web);
    assert.match(digests(seen(a, 'b')).web ?? '', /^[0-9a-f]{16}$/);
    await b.presence.close();
    await until('b is gone', () => seen(a, 'b') === undefined);
    assert.deepEqual(a.told('b'), ['node.joined', 'node.left']);
  });

  test(`cluster (${kind}): after any order of events the kernels hold the same rings`, {
    timeout: 60_000,
  }, async (t) => {
    const seed = chosenSeed();
    t.diagnostic(`seed ${seed}`);
    const random = randomFrom(seed);
    const share = await KINDS[kind](t);
    const nodes = [await openNode(t, 'n1', share), await openNode(t, 'n2', share)];
    const world = randomWorld(random);
    for (let step = 0; step < 60; step++) {
      world.change();
      const next = world.snapshot();
      // Any of them writes, and not all wait for it: one may skip what another applies.
      const writer = nodes[Math.floor(random() * nodes.length)] as ClusterNode;
      const { revision } = await writer.store.update((now) => [
        ...[...next.services.values()].map(({ value }) => changeOf(value)),
        ...[...next.pools.values()].map(({ value }) => changeOf(value)),
        ...[...now.services.values()]
          .filter(({ value }) => !next.services.has(value.name))
          .map(({ value }) => ({ ...changeOf(value), value: null })),
        ...[...now.pools.values()]
          .filter(({ value }) => !next.pools.has(value.name))
          .map(({ value }) => ({ ...changeOf(value), value: null })),
      ]);
      // A node may be started anew, or only then come, with other numbers for the same backends.
      if (step === 30) nodes.push(await openNode(t, 'n3', share));
      if (step % 10 !== 9) continue;
      await until('all have it', () => nodes.every(({ store }) => store.read().revision === revision));
      for (const { reconciler } of nodes) await reconciler.applied(revision, 20_000);
      const [first, ...others] = nodes.map(rowsOf);
      for (const other of others) assert.deepEqual(other, first, `rows after ${step + 1} changes`);
      await until('the digests are equal', () => {
        const all = nodes.map((node) => JSON.stringify(digests(seen(node, node.name))));
        const last = nodes.every((node) => seen(node, node.name)?.appliedRevision === revision);
        return (
          last &&
          Object.keys(first ?? {}).length === Object.keys(digests(seen(nodes[0] as ClusterNode, 'n1'))).length &&
          all.every((each) => each === all[0])
        );
      });
      const own = Object.values(digests(seen(nodes[0] as ClusterNode, 'n1')));
      assert.equal(new Set(own).size, new Set(Object.values(first ?? {})).size, 'other rows, another digest');
    }
    for (const node of nodes) for (const { name } of nodes) assert.ok(!node.told(name).includes('node.differs'));
  });

  if (kind === 'memory')
    test(`cluster (${kind}): a damaged row is found, written anew and told`, async (t) => {
      const [a, b] = await three(t, kind);
      const before = rowsOf(b);
      const row = firstRow(b, 'web');
      const good = row.read();
      row.write(0xdead_beefn);
      await until('it is put right', () => row.read() === good, 5_000);
      assert.deepEqual(rowsOf(b), before);
      await until('it is told', () => b.told('b').includes('node.ring_repaired'));
      assert.equal(b.reconciler.state().repairs.count > 0, true);
      assert.deepEqual(
        a.told('b').filter((type) => type === 'node.differs'),
        [],
        'what was put right at once is no difference',
      );
    });

  test(`cluster (${kind}): a node whose ring cannot be put right differs, and leaves the clients to the others`, async (t) => {
    const [a, b, c] = await three(t, kind);
    const stop = keepDamaging(b, 'web');
    t.after(stop);
    for (const node of [a, b, c]) await untilSeen(node, 'b', { state: 'differs' });
    for (const node of [a, b, c]) for (const name of 'ac') assert.equal(seen(node, name)?.state, 'ok');
    assert.match(b.cluster.notReady().join(), /this node differs: the ring of pool "web" in the kernel is not the one/);
    await until('it stands back', () => b.cluster.standBack() !== null);
    assert.deepEqual([a.cluster.standBack(), c.cluster.standBack()], [null, null]);
    await untilSeen(a, 'b', { ready: false });
    stop();
    for (const node of [a, b, c]) await untilSeen(node, 'b', { state: 'ok', ready: true });
    assert.equal(b.cluster.standBack(), null);
    assert.deepEqual(
      a.told('b').filter((type) => type !== 'node.joined'),
      ['node.differs', 'node.recovered'],
    );
  });

  test(`cluster (${kind}): a node that does not follow is behind, unless all are`, async (t) => {
    const nodes: ClusterNode[] = [];
    const release: (() => void)[] = [];
    const hold = (node: ClusterNode): void => {
      node.on.resolve = () => new Promise((resolve) => release.push(resolve));
    };
    const go = (): void => {
      for (const node of nodes) node.on.resolve = async () => undefined;
      for (const each of release) each();
    };
    t.after(go); // before the nodes are closed, which waits for their rounds
    const [a, b, c] = await three(t, kind);
    nodes.push(a, b, c);
    hold(b);
    const { revision } = await a.store.update(() => [
      changeOf(poolOf('web', [...backendsOf(4), backendOf('10.9.9.9')])),
    ]);
    const began = performance.now();
    for (const node of [a, b, c]) await untilSeen(node, 'b', { state: 'behind' });
    assert.ok(performance.now() - began >= BEHIND_MS);
    assert.match(seen(a, 'b')?.detail ?? '', new RegExp(`^revision \\d+ is in force, ${revision} is wanted$`));
    await until('it stands back', () => b.cluster.standBack() !== null);
    assert.equal(a.cluster.standBack(), null);

    // The others, too, cannot follow what comes then: nobody leaves the clients to nobody.
    hold(a);
    hold(c);
    await a.store.update(() => [changeOf(poolOf('web', backendsOf(5)))]);
    for (const name of 'abc') await untilSeen(a, name, { state: 'behind', ready: false });
    await until('nobody stands back', () => [a, b, c].every(({ cluster }) => cluster.standBack() === null));
    assert.ok([a, b, c].every(({ cluster }) => cluster.notReady().length > 0));

    go();
    for (const node of [a, b, c]) for (const name of 'abc') await untilSeen(node, name, { state: 'ok', ready: true });
    assert.deepEqual(
      a.told('b').filter((type) => type !== 'node.joined'),
      ['node.behind', 'node.recovered'],
    );
  });

  test(`cluster (${kind}): of two nodes with one name the second is not ready, and says who has it`, async (t) => {
    const share = await KINDS[kind](t);
    const a = await openNode(t, 'a', share);
    const other = await openNode(t, 'b', share);
    await untilSeen(other, 'a', { state: 'ok' });
    const twin = await openNode(t, 'a', share);
    await until('it says so', () =>
      twin.cluster.notReady().some((line) => line.startsWith('another node has the name "a": since 1970-')),
    );
    await until('it stands back', () => twin.cluster.standBack() !== null);
    await until('it is told', () => twin.told('a').join() === 'node.name_taken');
    assert.deepEqual([a.cluster.notReady(), a.told('a')], [[], []]);
    await a.presence.close();
    await until('the name is free', () => twin.cluster.notReady().length === 0);
    await untilSeen(other, 'a', { state: 'ok', ready: true });
  });

  if (kind === 'memory')
    test(`cluster (${kind}): while the store is away, nobody knows that another has the name`, async (t) => {
      const share = await KINDS[kind](t);
      await openNode(t, 'a', share);
      let leftMs = 0;
      const twin = await openNode(t, 'a', async () => {
        const { store, presence } = await share();
        return { store, presence: { ...presence, leftMs: () => leftMs } };
      });
      await pause(1000); // the name may be held for 300 ms
      assert.deepEqual(twin.told('a'), []);
      leftMs = 1000;
      await until('it is told', () => twin.told('a').join() === 'node.name_taken');
      leftMs = 0;
      await pause(500);
      assert.ok(twin.cluster.notReady().length > 0, 'what it knew then, it knows');
    });

  if (kind === 'memory')
    test(`cluster (${kind}): a document that is none of a node is shown as such`, async (t) => {
      const share = await KINDS[kind](t);
      const a = await openNode(t, 'a', share);
      const { presence } = await share();
      t.after(() => presence.close());
      await pause(50); // who is there at first has not joined
      presence.set('nodes/x', { node: 'x', ready: 'perhaps' });
      await untilSeen(a, 'x', { state: 'unreadable', ready: false, host: null });
      assert.match(seen(a, 'x')?.detail ?? '', /^\//);
      await pause(100);
      assert.deepEqual([a.cluster.notReady(), a.told('x')], [[], ['node.joined', 'node.unreadable']]);
    });
}
