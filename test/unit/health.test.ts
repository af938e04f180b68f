// SPDX-License-Identifier: Apache-2.0
// Health as the nodes agree on it, in one process: memory store, memory presence.
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { openMemoryStore } from '../../src/controlplane/memory-store.js';
import { openMemoryPresence, presenceHub } from '../../src/controlplane/presence.js';
import { formatState, parseState } from '../../src/controlplane/state-file.js';
import type { Store } from '../../src/controlplane/store.js';
import type { Pool } from '../../src/model/objects.js';
import { assertSameRings, downIn, type HealthNode, openNode, quickCheck, webPool } from '../support/health-nodes.js';
import { storm } from '../support/health-storm.js';
import { until } from '../support/lab.js';
import { chosenSeed, randomFrom } from './random.js';

async function cluster(
  t: TestContext,
  names: readonly string[],
  store: Store = openMemoryStore(),
): Promise<{ readonly nodes: readonly HealthNode[]; readonly store: Store; put(pool: Pool): Promise<void> }> {
  const hub = presenceHub();
  const nodes = await Promise.all(
    names.map((name) =>
      openNode(name, async () => {
        const presence = openMemoryPresence(hub);
        return { store, presence, close: () => presence.close() };
      }),
    ),
  );
  t.after(() => Promise.all(nodes.map((node) => node.close())));
  return {
    nodes,
    store,
    put: async (value) => void (await store.update(() => [{ kind: 'pool', name: 'web', value }])),
  };
}

const poolIn = (store: Store) => {
  const stored = store.read().pools.get('web');
  assert.ok(stored);
  return stored;
};

const typesOf = ({ events }: HealthNode): string[] => events.since(0).events.map(({ type }) => type);

for (const count of [1, 2, 3])
  test(`health: ${count} nodes and a random history: equal rings, and what most have found`, async (t) => {
    const seed = chosenSeed();
    console.log(`seed ${seed} (set SEED to repeat)`);
    const { nodes } = await cluster(t, ['n1', 'n2', 'n3'].slice(0, count));
    await storm(nodes, randomFrom(seed), 60);
  });

test('health: a backend goes down and comes back slowly; the revision that users see stays', async (t) => {
  const { nodes, store, put } = await cluster(t, ['n1', 'n2', 'n3']);
  await put(webPool(4));
  const { revision } = poolIn(store);
  for (const { bad } of nodes) bad.add('10.0.0.1');
  await until('it is down', () => downIn(poolIn(store)) === 'b0');
  await assertSameRings(nodes);
  const rows = await nodes[0]?.rows(Date.now());
  assert.ok(rows?.every((number, at) => at % 4 !== 0 || number !== 1));
  const before = poolIn(store).log?.changes.length ?? 0;
  for (const { bad } of nodes) bad.clear();
  const weights = new Set<number>();
  const unwatch = store.watch(({ pools }) => void weights.add(pools.get('web')?.health?.slow[0]?.step ?? 4));
  await until('it is back', () => weights.has(4) && poolIn(store).health?.slow.length === 0);
  unwatch();
  assert.deepEqual([...weights], [1, 2, 3, 4]);
  assert.equal(poolIn(store).log?.changes.length, before + 4);
  assert.equal(poolIn(store).revision, revision);
  for (const node of nodes) assert.deepEqual(typesOf(node), ['backend.down', 'backend.up']);
  const [down] = (nodes[0] as HealthNode).events.since(0).events;
  assert.match(down?.message ?? '', /^backend "b0" of pool "web" is down: n\d cannot reach it$/);
});

test('health: a node that alone cannot reach a backend changes nothing, and is shown', async (t) => {
  const { nodes, store, put } = await cluster(t, ['n1', 'n2', 'n3']);
  await put(webPool(4));
  nodes[0]?.bad.add('10.0.0.1');
  const views = () => nodes[2]?.health.backend('web', 'b0').reports;
  await until('all have looked', () => views()?.size === 3);
  await until('it says so', () => views()?.get('n1')?.state === 'down');
  await new Promise((resolve) => setTimeout(resolve, 1000)); // longer than a node waits before it acts alone
  assert.equal(downIn(poolIn(store)), '');
  assert.equal(downIn((nodes[0] as HealthNode).pool()), '');
  const warnings = () => nodes.map(({ health }) => health.warnings());
  const sentence = 'nodes disagree on backend "b0" of pool "web": down for n1, up for n2, n3';
  assert.deepEqual(warnings(), [[sentence], [sentence], [sentence]]);
  nodes[1]?.bad.add('10.0.0.1');
  await until('two of three', () => downIn(poolIn(store)) === 'b0');
  assert.match(warnings()[0]?.join() ?? '', /down for n1, n2, up for n3$/);
  nodes[2]?.bad.add('10.0.0.1');
  await until('all agree', () => warnings().flat().length === 0);
});

test('health: whoever is to write it may be gone: another does', async (t) => {
  const { nodes, store, put } = await cluster(t, ['n1', 'n2', 'n3']);
  await put(webPool(4));
  await until('all have looked', () => nodes[2]?.health.backend('web', 'b0').reports.size === 3);
  nodes[0]?.health.close(); // its reports stay, as those of a node that hangs do until its lease ends
  for (const { bad } of nodes) bad.add('10.0.0.1');
  await until('another has', () => downIn(poolIn(store)) === 'b0');
});

test('health: more than half down fails open with an alarm, and closed takes them all out', async (t) => {
  const { nodes, store, put } = await cluster(t, ['n1']);
  const [node] = nodes as [HealthNode];
  await put(webPool(3));
  await until('it has looked', () => node.health.backend('web', 'b2').checked?.last !== undefined);
  for (const at of [1, 2, 3]) node.bad.add(`10.0.0.${at}`);
  await until('it fails open', () => poolIn(store).health?.failOpen === true);
  await until('all are down', () => downIn(poolIn(store)) === 'b0 b1 b2');
  assert.deepEqual(node.health.warnings(), [
    'pool "web" fails open: 3 of its backends are down by their checks, more than half, so all are kept in force',
  ]);
  const owners = new Set((await node.rows(Date.now())).filter((_, at) => at % 4 === 0));
  assert.deepEqual([...owners].sort(), [1, 2, 3]);
  node.bad.clear();
  await until('it is over', () => poolIn(store).health?.failOpen === false && downIn(poolIn(store)) === '');
  assert.deepEqual(node.health.warnings(), []);
  const told = typesOf(node).filter((type) => type.startsWith('pool.'));
  assert.deepEqual(told, ['pool.fail_open', 'pool.fail_open_over']);

  await put(webPool(3, { whenAllDown: 'closed' }));
  for (const at of [1, 2, 3]) node.bad.add(`10.0.0.${at}`);
  await until('all are out', () => downIn(poolIn(store)) === 'b0 b1 b2');
  assert.ok((await node.rows(Date.now())).every((number, at) => at % 4 !== 0 || number === 0));
});

test('health: a new daemon counts nobody down or up anew', async (t) => {
  const { nodes, store, put } = await cluster(t, ['n1']);
  const [node] = nodes as [HealthNode];
  await put(webPool(4, { healthCheck: { ...quickCheck, interval: 0.3, rise: 3, fall: 3 } }));
  node.bad.add('10.0.0.1');
  await until('it is down', () => downIn(poolIn(store)) === 'b0');
  node.bad.delete('10.0.0.1');
  node.bad.add('10.0.0.2');
  await node.restart();
  const seen = new Set<string>();
  store.watch(({ pools }) => void seen.add(JSON.stringify(pools.get('web')?.health)));
  await until('a first result', () => node.health.backend('web', 'b1').checked?.last != null);
  assert.equal(downIn(poolIn(store)), 'b0');
  assert.equal(seen.size, 0);
  await until('both are judged', () => downIn(poolIn(store)) === 'b1');
});

test('health: a backend that is new is judged by its first check, one whose address changes too', async (t) => {
  const { nodes, store, put } = await cluster(t, ['n1']);
  const [node] = nodes as [HealthNode];
  const slow = { ...quickCheck, interval: 30, timeout: 1, fall: 5 };
  node.bad.add('10.0.0.5');
  await put(webPool(4, { healthCheck: slow }));
  await until('they are looked at', () => node.health.backend('web', 'b3').checked?.last != null);
  await put(webPool(5, { healthCheck: slow }));
  await until('the first check decides', () => downIn(poolIn(store)) === 'b4');
  const backends = webPool(5).backends.map((each) => (each.name === 'b4' ? { ...each, address: '10.0.0.9' } : each));
  await put(webPool(5, { healthCheck: slow, backends }));
  assert.equal(downIn(poolIn(store)), '', 'that was another one');
});

test('health: a clock that jumps an hour either way expires nothing', async (t) => {
  const { nodes, store, put } = await cluster(t, ['n1', 'n2']);
  const [node] = nodes as [HealthNode];
  await put(webPool(4, { healthCheck: { ...quickCheck, slowStart: 3600 } }));
  for (const { bad } of nodes) for (const at of [1, 2]) bad.add(`10.0.0.${at}`);
  await until('two are down', () => downIn(poolIn(store)) === 'b0 b1');
  for (const { bad } of nodes) bad.delete('10.0.0.2');
  await until('one is on its way back', () => poolIn(store).health?.slow.length === 1);
  const before = poolIn(store);
  const real = Date.now();
  t.mock.timers.enable({ apis: ['Date'], now: real });
  const checksOf = (): number => node.health.counts().results.ok;
  for (const hours of [1, -1]) {
    t.mock.timers.setTime(real + hours * 3_600_000);
    const checks = checksOf();
    for (const end = performance.now() + 10_000; checksOf() < checks + 30; await new Promise((r) => setTimeout(r, 20)))
      assert.ok(performance.now() < end, 'checks go on');
    assert.equal(poolIn(store), before);
  }
});

test('health: no check any more, no health any more', async (t) => {
  const { nodes, store, put } = await cluster(t, ['n1']);
  const [node] = nodes as [HealthNode];
  node.bad.add('10.0.0.1');
  await put(webPool(4));
  await until('it is down', () => downIn(poolIn(store)) === 'b0');
  const { healthCheck: _, ...without } = webPool(4);
  await put(without);
  assert.deepEqual([poolIn(store).health, node.health.backend('web', 'b0').checked], [undefined, null]);
  assert.ok((await node.rows(Date.now())).includes(1));
  assert.deepEqual(typesOf(node), ['backend.down']);
});

test('health: flapping is told, and damped', async (t) => {
  const { nodes, store, put } = await cluster(t, ['n1']);
  const [node] = nodes as [HealthNode];
  await put(webPool(4, { healthCheck: { ...quickCheck, slowStart: 0 } }));
  await until('it is looked at', () => node.health.backend('web', 'b0').checked?.last != null);
  const took: number[] = [];
  for (let turn = 0; turn < 4; turn++) {
    node.bad.add('10.0.0.1');
    await until('down', () => downIn(poolIn(store)) === 'b0');
    node.bad.delete('10.0.0.1');
    const begun = performance.now();
    await until('up', () => downIn(poolIn(store)) === '');
    took.push(performance.now() - begun);
  }
  assert.deepEqual(typesOf(node).filter((type) => type === 'backend.flapping').length, 2);
  assert.ok((took[3] ?? 0) > 3 * (took[0] ?? 0), `8 checks in place of one: ${took}`);
});

test('health: the file keeps it, and the log that goes with it', async (t) => {
  const { nodes, store, put } = await cluster(t, ['n1']);
  const [node] = nodes as [HealthNode];
  await put(webPool(4));
  node.bad.add('10.0.0.1');
  await until('it is down', () => downIn(poolIn(store)) === 'b0');
  const text = formatState(store.read());
  assert.deepEqual((await parseState(text, 'f')).pools.get('web'), poolIn(store));
  await assert.rejects(parseState(text.replace(/"b0"(,\s+"since")/, '"bx"$1'), 'f'), {
    message: /\/pools\/0\/health\/down\/0\/name: the pool has no backend "bx"/,
  });
});
