// SPDX-License-Identifier: Apache-2.0
// What becomes of connections whose service or backend is deleted, by a real reconciler on real tables: numbers that are given out again are nobody's.
import assert from 'node:assert/strict';
import { before, type TestContext, test } from 'node:test';
import { openMemoryStore } from '../../src/controlplane/memory-store.js';
import { type Reconciler, startReconciler } from '../../src/controlplane/reconciler.js';
import { KeyKind } from '../../src/dataplane/abi.gen.js';
import { NatConnection, NatCounts, NatPool, NatState } from '../../src/dataplane/nat-abi.gen.js';
import { offerNat, ticksSince } from '../../src/dataplane/nat-flows.js';
import { native } from '../../src/dataplane/native.js';
import { deleteService, servicesIn } from '../../src/dataplane/services.js';
import type { Pool, Service } from '../../src/model/objects.js';
import { type NatPath, openNatPath, TC } from '../support/nat-path.js';
import { pinTo } from '../support/packet-run.js';
import { packet, TCP } from '../support/packets.js';
import { changeOf } from '../support/reconciled.js';
import { HOP } from '../support/snapshots.js';

const SOURCE = '10.9.0.10';
const CLIENT = '203.0.113.7';
const ROUND_MS = 60_000;
const MOST_SERVICES = 4095;

before(() => pinTo(0));

const backend = (name: string, address: string) => ({ name, address, weight: 100, state: 'active' }) as const;
const pool = (...backends: Pool['backends']): Pool => ({ name: 'web', backends, ring: { size: 251 }, holdSeconds: 0 });
const service = (name: string, port: number, address = '192.0.2.10'): Service => ({
  ...{ name, address, port, protocol: 'tcp', pool: 'web', forwarding: 'nat', affinity: 'flow' },
});

interface Node extends NatPath {
  /** Writes these objects and takes those away, and waits until the kernel has it. */
  change(put: readonly (Pool | Service)[], remove?: readonly (Pool | Service)[]): Promise<void>;
  /** The daemon dies, `meanwhile` happens, and another one starts. */
  restart(meanwhile: () => Promise<void>): Promise<void>;
  numberOf(port: number): number;
  /** A SYN, and what the connection's source port is. */
  begin(port: number, clientPort: number): number;
  /** What tc_nat makes of the answer to it. */
  answer(from: string, sourcePort: number, port?: number): number;
  store: ReturnType<typeof openMemoryStore>;
}

async function open(t: TestContext): Promise<Node> {
  const path = await openNatPath();
  path.sweep();
  const store = openMemoryStore();
  const resolver = {
    resolve: async (addresses: ReadonlySet<string>) =>
      new Map([...addresses].map((address) => [address, { ...HOP, onLink: true }])),
    onChange: () => undefined,
    close: () => undefined,
  };
  const sources = { source: SOURCE, source6: null, egress: [] };
  const start = (): Reconciler => startReconciler(path.maps, store, resolver, async () => path.tables, sources);
  let reconciler = start();
  t.after(async () => {
    await reconciler.close();
    await store.close();
    path.close();
  });
  return {
    ...path,
    store,
    async change(put, remove = []) {
      const { revision } = await store.update(() => [
        ...put.map(changeOf),
        ...remove.map((object) => ({ ...changeOf(object), value: null })),
      ]);
      await reconciler.applied(revision, ROUND_MS);
    },
    async restart(meanwhile) {
      await reconciler.close();
      await meanwhile();
      reconciler = start();
      await reconciler.applied(store.read().revision, ROUND_MS);
    },
    numberOf: (port) =>
      [...servicesIn(path.maps, KeyKind.SERVICE)].find(
        ([, { key, value }]) => key.port === port && value.number > 0,
      )?.[1].value.number ?? 0,
    begin(port, clientPort) {
      const run = path.run(
        packet({ protocol: 'tcp', from: CLIENT, to: '192.0.2.10', fromPort: clientPort, toPort: port, flags: TCP.SYN }),
      );
      assert.equal(run.retval, TC.REDIRECT);
      return path.connections().find((each) => each.clientPort === clientPort)?.sourcePort ?? assert.fail();
    },
    answer: (from, sourcePort, port = 80) =>
      path.run(
        packet({ protocol: 'tcp', from, to: SOURCE, fromPort: port, toPort: sourcePort, flags: TCP.SYN | TCP.ACK }),
      ).retval >>> 0,
  };
}

/** Ports that the pool has left. */
function portsLeft({ tables }: NatPath): number {
  const { head, tail } = NatPool.decode(tables.pools.subarray(NatPool.size, 2 * NatPool.size));
  return Number(tail - head);
}

async function until(what: string, holds: () => boolean): Promise<void> {
  for (const deadline = Date.now() + 10_000; !holds(); await new Promise((resolve) => setTimeout(resolve, 20)))
    assert.ok(Date.now() < deadline, what);
}

test('nat: the connections of a deleted service end at once, and give their ports back', async (t) => {
  const node = await open(t);
  await node.change([pool(backend('b1', '10.9.0.21')), service('a', 80), service('b', 81)]);
  const all = portsLeft(node);
  const [first, other] = [node.begin(80, 20_000), node.begin(81, 20_001)];
  assert.equal(portsLeft(node), all - 2);
  await node.change([], [service('a', 80)]);
  assert.deepEqual(
    node.connections().map(({ clientPort }) => clientPort),
    [20_001],
  );
  assert.equal(node.answer('10.9.0.21', first), TC.UNSPEC, 'it is nobody’s any more');
  assert.equal(node.answer('10.9.0.21', other, 81), TC.REDIRECT, 'the other goes on');
  await until('its port is free', () => portsLeft(node) === all - 1);
});

test('nat: a service that has the number of a deleted one has none of its connections and counts', async (t) => {
  const node = await open(t);
  await node.change([pool(backend('b1', '10.9.0.21')), service('old', 80)]);
  const number = node.numberOf(80);
  const port = node.begin(80, 20_000);
  await node.change([], [service('old', 80)]);
  // Every number once; the last of them is the one that was.
  const others = Array.from({ length: MOST_SERVICES - 1 }, (_, at) => service(`s${at}`, 10_000 + at));
  await node.change(others);
  await node.change([service('new', 81)]);
  assert.equal(node.numberOf(81), number);
  assert.deepEqual(node.connections(), []);
  assert.equal(node.answer('10.9.0.21', port), TC.UNSPEC);
  assert.deepEqual(node.outcomes(number), {});
  let flows = 0;
  await offerNat(node.tables, { service: number }, 'bytes', () => flows++);
  assert.equal(flows, 0);
});

test('nat: the same where a daemon died between service and connections', async (t) => {
  const node = await open(t);
  await node.change([pool(backend('b1', '10.9.0.21')), service('old', 80)]);
  const number = node.numberOf(80);
  const port = node.begin(80, 20_000);
  await node.restart(async () => {
    for (const [, { key, value }] of servicesIn(node.maps, KeyKind.SERVICE))
      if (value.number === number) deleteService(node.maps, key);
    await node.store.update(() => [{ ...changeOf(service('old', 80)), value: null }, changeOf(service('new', 81))]);
  });
  assert.equal(node.numberOf(81), number);
  assert.deepEqual(node.connections(), []);
  assert.equal(node.answer('10.9.0.21', port), TC.UNSPEC);
  assert.ok(node.begin(81, 20_000) > 0);
});

test('nat: the connections of a deleted backend end; those of one that only takes nothing stay', async (t) => {
  const node = await open(t);
  const [b1, b2] = [backend('b1', '10.9.0.21'), backend('b2', '10.9.0.22')];
  await node.change([pool(b1, b2), service('a', 80)]);
  const byBackend = new Map<string, number>();
  for (let at = 0; byBackend.size < 2; at++) {
    const sourcePort = node.begin(80, 20_000 + at);
    const nat = node.connections().find((each) => each.sourcePort === sourcePort) ?? assert.fail();
    byBackend.set(`10.9.0.${nat.backendAddress[3]}`, sourcePort);
  }
  const count = (address: string): number =>
    node.connections().filter((nat) => `10.9.0.${nat.backendAddress[3]}` === address).length;
  const [gone, stays] = [count('10.9.0.21'), count('10.9.0.22')];
  assert.ok(gone > 0 && stays > 0);
  await node.change([pool({ ...b1, state: 'disabled' }, b2)]);
  assert.deepEqual([count('10.9.0.21'), count('10.9.0.22')], [gone, stays]);
  await node.change([pool(b2)]);
  assert.deepEqual([count('10.9.0.21'), count('10.9.0.22')], [0, stays]);
  assert.equal(node.answer('10.9.0.21', byBackend.get('10.9.0.21') ?? 0), TC.UNSPEC);
  assert.equal(node.answer('10.9.0.22', byBackend.get('10.9.0.22') ?? 0), TC.REDIRECT);
});

test('nat: ages are right where the ticks of 32 bits wrap', async (t) => {
  const path = await openNatPath(1024, { tcpNew: 3600, tcpEstablished: 2_592_000 });
  t.after(() => path.close());
  path.backend(1, '10.9.0.21', 1, 1, { port: 8080 });
  path.ring(1, 0, new Uint16Array(251).fill(1));
  path.pool(1, [SOURCE]);
  path.nat(1, '192.0.2.10', 80, 'tcp', 1, 1);
  const limit = 3600 * (1e9 / native.tickNs());
  // [ticks of silence, whether it is to end]; 2^32 is one turn of the clock.
  const cases: readonly [number, boolean][] = [
    [0, false],
    [limit - 1500, false],
    [limit + 1500, true],
    [2 ** 31 - 10, true],
    [2 ** 31 + 10, true],
    [2 ** 32 - 2 ** 16 - 1500, true],
    [2 ** 32 - 100, false], // a packet that came after the sweep had looked at the clock
  ];
  for (const at of cases.keys())
    path.run(
      packet({ protocol: 'tcp', from: CLIENT, to: '192.0.2.10', fromPort: 20_000 + at, toPort: 80, flags: TCP.SYN }),
    );
  const { connections, counts } = path.tables;
  const view = new DataView(connections.buffer, connections.byteOffset);
  const now = path.tables.now();
  for (const [at, [silent]] of cases.entries())
    view.setUint32(at * NatConnection.size + NatConnection.field.seen.offset, (now - silent) >>> 0, true);
  path.sweep();
  const freed = (): number => counts[NatCounts.field.freed.offset / 4] ?? 0;
  await until('those that are over are free', () => freed() === cases.filter(([, ends]) => ends).length);
  const states = cases.map((_, at) => connections[at * NatConnection.size + NatConnection.field.state.offset]);
  assert.deepEqual(
    states,
    cases.map(([, ends]) => (ends ? NatState.FREE : NatState.NEW)),
  );

  for (const then of [0, 5, 2 ** 31, 2 ** 32 - 1])
    for (const age of [0, 1, 1000, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 2 ** 16 - 1])
      assert.equal(ticksSince((then + age) % 2 ** 32, then), age, `${age} ticks after ${then}`);
  assert.equal(ticksSince(5, 6), 0, 'after the clock was read');
  assert.equal(ticksSince(2 ** 32 - 1, 0), 0, 'and where it wraps between');
});
