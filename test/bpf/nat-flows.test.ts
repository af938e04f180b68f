// SPDX-License-Identifier: Apache-2.0
// NAT's connections as flows: real packets, then random tables against a slow reference, then a table that changes meanwhile.
import assert from 'node:assert/strict';
import { after, before, beforeEach, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { emptyNumbering } from '../../src/controlplane/numbering.js';
import type { Applied } from '../../src/controlplane/reconciler.js';
import { FlowState } from '../../src/dataplane/abi.gen.js';
import type { FlowFilter, FlowOrder, FlowRecord } from '../../src/dataplane/flow-record.js';
import { countFlows, topFlows } from '../../src/dataplane/flows.js';
import type { NatTables } from '../../src/dataplane/nat.js';
import { NatConnection, NatDetail, NatState } from '../../src/dataplane/nat-abi.gen.js';
import { natEntries, readNat } from '../../src/dataplane/nat-flows.js';
import { native } from '../../src/dataplane/native.js';
import { formatAddress } from '../../src/model/address.js';
import { queryFlows } from '../../src/observability/flow-view.js';
import { bytes16, type NatPath, openNatPath } from '../support/nat-path.js';
import { pinTo } from '../support/packet-run.js';
import { type PacketSpec, packet, TCP } from '../support/packets.js';
import { chosenSeed, randomFrom } from '../unit/random.js';

const CLIENT = '203.0.113.7';
const VIP = '192.0.2.10';
const BACKEND = '10.9.0.21';
const SOURCE = '10.9.0.10';
const ROOM = 1024;
const TICK_NS = native.tickNs();
let path: NatPath;

before(() => pinTo(0));
beforeEach(async () => {
  path?.close();
  path = await openNatPath(ROOM);
  path.backend(7, BACKEND, 1, 1, { port: 8080 });
  path.ring(1, 0, new Uint16Array(251).fill(7));
  path.pool(1, [SOURCE]);
  path.nat(1, VIP, 80, 'tcp', 1, 1);
});
after(() => path?.close());

/** All flows there are, of NAT and others. */
const all = (filter: FlowFilter = {}, order: FlowOrder = 'bytes'): Promise<FlowRecord[]> =>
  topFlows(path.maps, filter, order, 1000, path.tables);

const send = (fromPort: number, flags: number, payload = 0): number =>
  path.run(packet({ protocol: 'tcp', from: CLIENT, to: VIP, fromPort, toPort: 80, flags, payload })).retval;

/** From the backend, to what the connection's client is there. */
function answer({ nat }: FlowRecord, more: Partial<PacketSpec>): void {
  assert.ok(nat);
  const ends = { from: BACKEND, to: SOURCE, fromPort: nat.destinationPort, toPort: nat.sourcePort };
  path.run(packet({ protocol: 'tcp', ...ends, ...more }));
}

async function only(): Promise<FlowRecord & Required<Pick<FlowRecord, 'nat'>>> {
  const [flow, ...more] = await all();
  assert.ok(flow?.nat && more.length === 0);
  return { ...flow, nat: flow.nat };
}

test('nat flows: both directions, what is translated, and the state', async () => {
  const started = Number(process.hrtime.bigint());
  send(30_000, TCP.SYN);
  const { nat, client, idleNs, firstNs, ...flow } = await only();
  assert.deepEqual(flow, {
    ...{ service: 1, backend: 7, protocol: 6, family: 4, clientPort: 30_000, vipPort: 80 },
    ...{ packets: 1, bytes: 40, state: FlowState.NEW, handshakeNs: null },
  });
  assert.equal(formatAddress(client.subarray(0, 4)), CLIENT);
  assert.ok(firstNs >= started - 2 * TICK_NS && firstNs <= Number(process.hrtime.bigint()));
  assert.ok(idleNs >= 0);
  assert.deepEqual([nat.source, nat.destination], [bytes16(SOURCE), bytes16(BACKEND)]);
  assert.deepEqual([nat.destinationPort, nat.family, nat.replyPackets, nat.replyBytes], [8080, 4, 0, 0]);
  answer(await only(), { flags: TCP.SYN | TCP.ACK });
  send(30_000, TCP.ACK);
  send(30_000, TCP.ACK, 100);
  answer(await only(), { flags: TCP.ACK, payload: 1000 });
  const later = await only();
  assert.deepEqual(
    [later.packets, later.bytes, later.nat.replyPackets, later.nat.replyBytes, later.state],
    [3, 220, 2, 1080, FlowState.ESTABLISHED],
  );
  assert.deepEqual([later.nat.source, later.nat.sourcePort], [nat.source, nat.sourcePort]);
  send(30_000, TCP.FIN | TCP.ACK);
  assert.equal((await only()).state, FlowState.CLOSING);
  answer(await only(), { flags: TCP.FIN | TCP.ACK });
  assert.equal((await only()).state, FlowState.CLOSED);
});

test('nat flows: a handshake has two halves, the way to the backend and the way to the client', async () => {
  const halves = async () => {
    const { nat, handshakeNs } = await only();
    return [nat.backendNs, nat.clientNs, handshakeNs];
  };
  send(30_000, TCP.SYN);
  await pause(20);
  assert.deepEqual(await halves(), [null, null, null]);
  send(30_000, TCP.SYN); // once more: what counts is the first
  await pause(20);
  answer(await only(), { flags: TCP.SYN | TCP.ACK });
  const [backendNs] = await halves();
  assert.ok(backendNs && backendNs >= 39e6 && backendNs < 5e9, `${backendNs}`);
  assert.deepEqual(await halves(), [backendNs, null, null]);
  await pause(100);
  answer(await only(), { flags: TCP.SYN | TCP.ACK });
  send(30_000, TCP.ACK);
  const [, clientNs, sum] = await halves();
  assert.ok(clientNs && clientNs >= 99e6 && clientNs < 5e9, `${clientNs}`);
  assert.deepEqual(await halves(), [backendNs, clientNs, backendNs + clientNs]);
  assert.equal(sum, backendNs + clientNs);
  await pause(20);
  send(30_000, TCP.ACK);
  answer(await only(), { flags: TCP.ACK });
  send(30_000, TCP.FIN | TCP.ACK);
  assert.deepEqual(await halves(), [backendNs, clientNs, sum], 'only once');
});

for (const [what, flags] of [
  ['refuses', TCP.RST | TCP.ACK],
  ['closes', TCP.FIN | TCP.ACK],
] as const)
  test(`nat flows: a backend that ${what} at once leaves half a handshake`, async () => {
    send(30_000, TCP.SYN);
    await pause(5);
    answer(await only(), { flags: TCP.SYN | TCP.ACK });
    answer(await only(), { flags });
    const { nat, handshakeNs } = await only();
    assert.ok(nat.backendNs !== null);
    assert.deepEqual([nat.clientNs, handshakeNs], [null, null]);
  });

test('nat flows: entries are connections that take up room, until they are free again', async () => {
  assert.equal(natEntries(path.tables), 0);
  for (let port = 30_000; port < 30_010; port++) send(port, TCP.SYN);
  assert.equal(natEntries(path.tables), 10);
  path.tables.timeouts[NatState.NEW * 2] = 1;
  path.sweep();
  for (const end = Date.now() + 10_000; natEntries(path.tables) > 0; await pause(20)) assert.ok(Date.now() < end);
  assert.deepEqual(await all(), []);
  for (let port = 30_000; port < 30_003; port++) send(port, TCP.SYN);
  assert.equal(natEntries(path.tables), 3, 'used ids are taken again');
});

test('nat flows: full tables have as many entries as room', async () => {
  for (let port = 20_000; port < 20_000 + ROOM + 10; port++) send(port, TCP.SYN);
  assert.equal(natEntries(path.tables), ROOM);
  assert.equal((await topFlows(path.maps, {}, 'age', 5000, path.tables)).length, ROOM);
});

/** As the API has them, on a node that knows no name. */
const views = () => {
  const snapshot = { revision: 0, hashKey: '', services: new Map(), pools: new Map() };
  const none = { revision: 0, hops: new Map(), rings: new Map(), error: null, changes: 0, lastChangeMs: 0 };
  const repairs = { count: 0, pools: [] };
  const applied: Applied = { ...none, repairs, snapshot, numbering: emptyNumbering() };
  return queryFlows(path.maps, path.tables, applied, { sort: 'bytes', limit: 10 });
};

test('nat flows: a private source on its way out has no service, and is with the remote end itself', async () => {
  path.pool(2, ['192.0.2.200']);
  path.egress('10.20.0.0/16', 2);
  const ends = { protocol: 'tcp', from: '10.20.0.7', to: '198.51.100.9', fromPort: 40_000, toPort: 443 } as const;
  path.leave(packet({ ...ends, flags: TCP.SYN }));
  const [view, ...more] = (await views()).items;
  assert.equal(more.length, 0);
  const { service, backend, protocol, client, vip, nat } = view ?? assert.fail();
  assert.deepEqual([service, backend, protocol], [null, null, 'tcp']);
  assert.deepEqual([client, vip, nat?.destination], ['10.20.0.7:40000', '198.51.100.9:443', '198.51.100.9:443']);
  assert.match(nat?.source ?? '', /^192\.0\.2\.200:\d+$/);
});

test('nat flows: between families each end has its own', async () => {
  path.backend(8, 'fd00:9::21', 2, 1, { port: 8080 });
  path.ring(2, 1000, new Uint16Array(251).fill(8));
  path.pool(2, ['fd00:9::10']);
  path.nat(2, VIP, 81, 'tcp', 2, 1, 2);
  path.run(packet({ protocol: 'tcp', from: CLIENT, to: VIP, fromPort: 30_000, toPort: 81, flags: TCP.SYN }));
  const [view] = (await views()).items;
  assert.equal(view?.client, `${CLIENT}:30000`);
  assert.equal(view?.nat?.destination, '[fd00:9::21]:8080');
  assert.match(view?.nat?.source ?? '', /^\[fd00:9::10\]:\d+$/);
});

const NOW = 100; // so that `seen` and `begun` of most lie before the wrap
const LIVE: readonly number[] = [NatState.NEW, NatState.ESTABLISHED, NatState.CLOSING, NatState.CLOSED];

type Both = NatConnection & NatDetail;

/** A table of connections by chance: all states, few services, backends and clients. */
function fill(random: () => number): { tables: NatTables; kept: Both[] } {
  const below = (limit: number): number => Math.floor(random() * limit);
  const u64 = (...values: number[]) => new Uint8Array(BigUint64Array.from(values.map(BigInt)).buffer);
  const kept: Both[] = [];
  const tables = { ...path.tables, now: () => NOW };
  for (let id = 0; id < ROOM; id++) {
    const raw: Both = {
      ...{ clientPort: below(65536), vipPort: 80, backendPort: 8080, sourcePort: below(65536) },
      ...{ service: 1 + below(3), backend: 1 + below(4), protocol: 6, clientFamily: 4, backendFamily: 4 },
      state: below(NatState.STATES),
      seen: (NOW - below(200_000)) >>> 0,
      begun: (NOW - below(2 ** 30)) >>> 0,
      ...{ interface: 1, router: 1, id, client4: 0, backend4: 0, source4: 0 },
      ...{ routerMac: new Uint8Array(6), ownMac: new Uint8Array(6), pool: 1, poolAddress: 0, fins: 0 },
      bytes: u64(random() < 0.5 ? below(1e6) : below(2 ** 45), below(2 ** 45)),
      packets: new Uint8Array(Uint32Array.of(below(2 ** 32), below(2 ** 32)).buffer),
      packetsHigh: new Uint8Array(Uint16Array.of(below(3), below(3)).buffer),
      client: bytes16(`203.0.113.${1 + below(4)}`),
      ...{ backendAddress: bytes16(BACKEND), source: bytes16(SOURCE) },
      handshakeUs: new Uint8Array(Uint32Array.of(below(2) * 5, below(2) * 7).buffer),
    };
    tables.connections.set(NatConnection.encode(raw), id * NatConnection.size);
    tables.details.set(NatDetail.encode(raw), id * NatDetail.size);
    if (LIVE.includes(raw.state)) kept.push(raw);
  }
  tables.counts[0] = ROOM + 3; // others asked for room in vain
  return { tables, kept };
}

const packetsOf = ({ packets, packetsHigh }: Both, way: number): number =>
  (new Uint32Array(packets.buffer)[way] ?? 0) + (new Uint16Array(packetsHigh.buffer)[way] ?? 0) * 2 ** 32;
const bytesOf = ({ bytes }: Both, way: number): number => Number(new BigUint64Array(bytes.buffer)[way]);
const ageOf = ({ begun }: Both): number => (NOW - begun) >>> 0;

test('nat flows: any order, filter and limit, as the slow reference has it', async (t) => {
  const seed = chosenSeed();
  t.diagnostic(`seed ${seed}`);
  const random = randomFrom(seed);
  for (let round = 0; round < 20; round++) {
    const { tables, kept } = fill(random);
    const value: Record<FlowOrder, (raw: Both) => number> = {
      bytes: (raw) => bytesOf(raw, 0),
      packets: (raw) => packetsOf(raw, 0),
      age: ageOf,
    };
    const filters: FlowFilter[] = [
      {},
      { service: 2 },
      { backends: new Set([1, 3]) },
      { client: bytes16('203.0.113.2') },
      { service: 1, backends: new Set([2]), client: bytes16('203.0.113.3') },
      { service: 9 },
    ];
    for (const order of ['bytes', 'packets', 'age'] as const)
      for (const filter of filters) {
        const wanted = kept
          .filter(({ service }) => filter.service === undefined || service === filter.service)
          .filter(({ backend }) => !filter.backends || filter.backends.has(backend))
          .filter(({ client }) => !filter.client || Buffer.compare(client, filter.client) === 0)
          .sort((a, b) => value[order](b) - value[order](a))
          .slice(0, 40);
        const got = await topFlows(path.maps, filter, order, 40, tables);
        const numbers = ({ packets, bytes, nat }: FlowRecord) => [
          ...[packets, bytes, nat?.replyPackets, nat?.replyBytes, nat?.backendNs, nat?.clientNs],
        ];
        const us = ({ handshakeUs, state }: Both) => {
          const [backend = 0, client = 0] = new Uint32Array(handshakeUs.buffer);
          return [backend ? backend * 1000 : null, client && state !== NatState.NEW ? client * 1000 : null];
        };
        assert.deepEqual(
          got.map((flow) => [flow.clientPort, flow.state, ...numbers(flow)]),
          wanted.map((raw) => [
            ...[raw.clientPort, raw.state - 1, packetsOf(raw, 0), bytesOf(raw, 0)],
            ...[packetsOf(raw, 1), bytesOf(raw, 1), ...us(raw)],
          ]),
          `${order} ${JSON.stringify(filter)}`,
        );
      }
  }
});

test('nat flows: those of the flow table and those of NAT are sorted as one', async () => {
  path.ring(2, 1000, new Uint16Array(251).fill(7));
  path.service(2, VIP, 81, 'tcp', 2, 100);
  const sizes = [700, 100, 500, 300, 200, 600, 400];
  for (const [at, payload] of sizes.entries()) {
    if (at % 2 === 0) send(30_000 + at, TCP.SYN, payload);
    else {
      const spec = { protocol: 'tcp', from: CLIENT, to: VIP, fromPort: 30_000 + at, toPort: 81, payload } as const;
      path.program.run(packet({ ...spec, flags: TCP.SYN }), null);
    }
    await pause(10);
  }
  const flows = await all();
  const sorted = [...sizes].sort((a, b) => b - a);
  assert.deepEqual(
    flows.map(({ bytes }) => bytes - 40),
    sorted,
  );
  assert.deepEqual(
    flows.map(({ nat }) => nat !== undefined),
    sorted.map((size) => sizes.indexOf(size) % 2 === 0),
  );
  assert.deepEqual(
    (await all({}, 'age')).map(({ clientPort }) => clientPort - 30_000),
    [...sizes.keys()],
  );
  assert.deepEqual(
    (await all({ service: 2 })).map(({ service }) => service),
    [2, 2, 2],
  );
});

test('nat flows: the live ones are counted by backend and by service', async (t) => {
  const seed = chosenSeed();
  t.diagnostic(`seed ${seed}`);
  const { tables, kept } = fill(randomFrom(seed));
  const idleMs = 300_000;
  const live = kept.filter(
    ({ state, seen }) => state < NatState.CLOSING && ((NOW - seen) >>> 0) * TICK_NS <= idleMs * 1e6,
  );
  assert.ok(live.length > 0 && live.length < kept.length);
  const { byBackend, byService, entries } = await countFlows(path.maps, idleMs, tables);
  assert.equal(entries, 0, 'the flow table has none of them');
  for (let number = 0; number < 6; number++) {
    assert.equal(byBackend[number], live.filter(({ backend }) => backend === number).length);
    assert.equal(byService[number], live.filter(({ service }) => service === number).length);
  }
});

/** Makes one connection after another in the same place, as the kernel does: all that a connection has is its number. */
const CHURN = `
  const { workerData } = require('node:worker_threads');
  const words = new Uint32Array(workerData.connections);
  const details = new Uint32Array(workerData.details);
  const bytes = new Uint8Array(workerData.connections);
  const stop = new Int32Array(workerData.stop);
  for (let made = 1; Atomics.load(stop, 0) === 0; made++) {
    const number = 1 + (made & 0xfffff); // twice in a u64: less than 2^53
    bytes[27] = 5;
    for (const each of [words, details]) for (let word = 0; word < each.length; word++) Atomics.store(each, word, 0);
    for (let word = 0; word < 16; word++) if (word !== 6) Atomics.store(words, word, number);
    for (let word = 0; word < 22; word++) Atomics.store(details, word, number);
    Atomics.store(words, 6, 0x01040406);
    for (let look = 0; look < number % 200; look++) Atomics.load(words, 6);
  }
`;

test('nat flows: a connection that ends and begins while it is read is never half one and half another', async (t) => {
  const connections = new SharedArrayBuffer(NatConnection.size);
  const details = new SharedArrayBuffer(NatDetail.size);
  const stop = new SharedArrayBuffer(4);
  const worker = new Worker(CHURN, { eval: true, workerData: { connections, details, stop } });
  t.after(async () => {
    Atomics.store(new Int32Array(stop), 0, 1);
    await worker.terminate();
  });
  const arrays = { connections: new Uint8Array(connections), details: new Uint8Array(details) };
  const tables = { ...path.tables, ...arrays, room: 1 };
  const word = (bytes: Uint8Array, at: number): number => new DataView(bytes.buffer).getUint32(at * 4, true);
  let read = 0;
  let gone = 0;
  for (const end = Date.now() + 20_000; (read < 60_000 || gone < 1000) && Date.now() < end; ) {
    const flow = readNat(tables, 0);
    if (!flow?.nat) {
      gone++;
      continue;
    }
    read++;
    const { client, nat } = flow;
    const number = word(client, 0);
    const seen = [client, nat.source, nat.destination].flatMap((bytes) => [0, 1, 2, 3].map((at) => word(bytes, at)));
    assert.deepEqual([...new Set([...seen, flow.bytes % 2 ** 32, nat.replyBytes % 2 ** 32])], [number], `read ${read}`);
    assert.equal(flow.packets % 2 ** 32, number);
  }
  assert.ok(read > 1000 && gone > 10, `${read} read, ${gone} gone`);
});
