// SPDX-License-Identifier: Apache-2.0

import assert from 'node:assert/strict';
import { after, before, beforeEach, test } from 'node:test';
import { FlowLimit, FlowState } from '../../src/dataplane/abi.gen.js';
import { readTraffic } from '../../src/dataplane/counters.js';
import type { FlowRecord } from '../../src/dataplane/flow-record.js';
import { topFlows } from '../../src/dataplane/flows.js';
import { invalidateBackend } from '../../src/dataplane/tables.js';
import { FLOW_VIP, type FlowPath, openFlowPath } from '../support/flow-path.js';
import { packetsState, patchCold, patchHot, type RawFlow, rawFlows } from '../support/flow-records.js';
import { TCP } from '../support/packets.js';

let path: FlowPath;
before(async () => {
  path = await openFlowPath({ flowsPerCpu: 64 });
});
beforeEach(() => path.reset());
after(() => path?.close());

/** The only record there is. */
function raw(): RawFlow {
  const [record, ...more] = rawFlows(path.maps);
  assert.deepEqual(more, []);
  return record ?? assert.fail('no flow is known');
}
async function flow(): Promise<FlowRecord> {
  const [record, ...more] = await topFlows(path.maps, {}, 'age', 10);
  assert.deepEqual(more, []);
  return record ?? assert.fail('no flow is known');
}
const monotonicNs = (): number => Number(process.hrtime.bigint());

test('flow table: counts packets, IP bytes, first and last packet', async () => {
  const start = monotonicNs();
  path.go(TCP.SYN);
  const afterFirst = monotonicNs();
  path.go(TCP.ACK, { payload: 100 });
  path.go(TCP.ACK | TCP.PSH, { payload: 1 });
  const { firstNs, idleNs, handshakeNs, ...rest } = await flow();
  assert.deepEqual(rest, {
    service: 1,
    backend: 1,
    protocol: 6,
    family: 4,
    client: Uint8Array.of(203, 0, 113, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
    clientPort: 40000,
    vipPort: 80,
    packets: 3,
    bytes: 40 + 140 + 41,
    state: FlowState.ESTABLISHED,
  });
  assert.ok(start <= firstNs && firstNs <= afterFirst, 'the first packet is timed by CLOCK_MONOTONIC');
  assert.ok(idleNs < 2e9);
  assert.ok(handshakeNs !== null && handshakeNs > 0 && handshakeNs <= monotonicNs() - start);
  const seen = path.maps.seenNow();
  patchHot(path.maps, raw().index, { seen: (seen - 1000) & 0xffff });
  assert.ok((await flow()).idleNs >= 400e9, 'idle since the last packet');
  path.go(TCP.ACK);
  assert.ok((await flow()).idleNs < 2e9, 'a packet ends it');
});

const STATES: readonly { name: string; packets: readonly number[]; state: number; handshake: boolean }[] = [
  { name: 'SYN', packets: [TCP.SYN], state: FlowState.NEW, handshake: false },
  { name: 'SYN twice', packets: [TCP.SYN, TCP.SYN], state: FlowState.NEW, handshake: false },
  { name: 'SYN, ACK', packets: [TCP.SYN, TCP.ACK], state: FlowState.ESTABLISHED, handshake: true },
  { name: 'SYN, ACK, SYN', packets: [TCP.SYN, TCP.ACK, TCP.SYN], state: FlowState.ESTABLISHED, handshake: true },
  { name: 'ACK of an older connection', packets: [TCP.ACK], state: FlowState.NEW, handshake: false },
  { name: 'two ACKs', packets: [TCP.ACK, TCP.ACK], state: FlowState.ESTABLISHED, handshake: false },
  { name: 'FIN', packets: [TCP.SYN, TCP.ACK, TCP.FIN | TCP.ACK], state: FlowState.CLOSING, handshake: true },
  {
    name: 'ACK after FIN',
    packets: [TCP.SYN, TCP.ACK, TCP.FIN | TCP.ACK, TCP.ACK],
    state: FlowState.CLOSING,
    handshake: true,
  },
  { name: 'RST', packets: [TCP.SYN, TCP.ACK, TCP.RST], state: FlowState.CLOSED, handshake: true },
  { name: 'RST after SYN', packets: [TCP.SYN, TCP.RST], state: FlowState.CLOSED, handshake: false },
  { name: 'RST after FIN', packets: [TCP.SYN, TCP.ACK, TCP.FIN, TCP.RST], state: FlowState.CLOSED, handshake: true },
  { name: 'FIN after RST', packets: [TCP.SYN, TCP.ACK, TCP.RST, TCP.FIN], state: FlowState.CLOSED, handshake: true },
  { name: 'ACK after RST', packets: [TCP.SYN, TCP.ACK, TCP.RST, TCP.ACK], state: FlowState.CLOSED, handshake: true },
  { name: 'FIN and RST', packets: [TCP.SYN, TCP.ACK, TCP.RST | TCP.FIN], state: FlowState.CLOSED, handshake: true },
];
for (const { name, packets, state, handshake } of STATES)
  test(`flow table: state after ${name}`, async () => {
    for (const flags of packets) path.go(flags);
    const record = await flow();
    assert.equal(record.state, state);
    assert.equal(record.packets, packets.length);
    assert.equal(record.handshakeNs !== null, handshake);
  });

test('flow table: UDP is established by its second packet', async () => {
  path.go(0, { protocol: 'udp' });
  assert.equal((await flow()).state, FlowState.NEW);
  path.go(0, { protocol: 'udp', payload: 4 });
  const { state, packets, bytes, handshakeNs, service } = await flow();
  assert.deepEqual(
    { state, packets, bytes, handshakeNs, service },
    { state: FlowState.ESTABLISHED, packets: 2, bytes: 28 + 32, handshakeNs: null, service: 2 },
  );
});

test('flow table: every packet of a known flow goes where its first one went', () => {
  assert.equal(path.go(TCP.SYN), 1);
  path.aim(2);
  for (const flags of [TCP.SYN, TCP.ACK, TCP.SYN, TCP.ACK | TCP.PSH, TCP.FIN | TCP.ACK, TCP.ACK, TCP.RST])
    assert.equal(path.go(flags), 1, `flags ${flags}`);
  assert.equal(path.go(0, { protocol: 'udp' }), 2, 'UDP on the same ports is another flow');
});

const REOPENED: readonly { name: string; close: number }[] = [
  { name: 'closed', close: TCP.RST },
  { name: 'closing', close: TCP.FIN | TCP.ACK },
];
for (const { name, close } of REOPENED)
  test(`flow table: a SYN on a ${name} flow begins a new one, by the ring`, async () => {
    for (const flags of [TCP.SYN, TCP.ACK, close]) path.go(flags);
    path.aim(2);
    assert.equal(path.go(TCP.SYN), 2);
    const { state, packets, bytes, backend, handshakeNs } = await flow();
    assert.deepEqual(
      { state, packets, bytes, backend, handshakeNs },
      { state: FlowState.NEW, packets: 1, bytes: 40, backend: 2, handshakeNs: null },
    );
    assert.equal(readTraffic(path.maps, 1).connections, 1);
    assert.equal(readTraffic(path.maps, 2).connections, 1);
  });

// Found by the fuzz, where model and packet path had read the text differently.
for (const [name, flags] of [
  ['a SYN with FIN', TCP.SYN | TCP.FIN],
  ['a SYN with RST', TCP.SYN | TCP.RST],
  ['a FIN', TCP.FIN | TCP.ACK],
  ['a RST', TCP.RST],
] as const) {
  test(`flow table: a flow that begins with ${name} is new, so a SYN stays with it`, () => {
    assert.equal(path.go(flags), 1);
    path.aim(2);
    assert.equal(path.go(TCP.SYN), 1);
  });
}

test('flow table: a SYN on a flow silent for a minute begins a new one', () => {
  for (const flags of [TCP.SYN, TCP.ACK]) path.go(flags);
  path.aim(2);
  const silent = (units: number): void =>
    patchHot(path.maps, raw().index, { seen: (path.maps.seenNow() - units) & 0xffff });
  silent(FlowLimit.RECENT - 2);
  assert.equal(path.go(TCP.SYN), 1);
  silent(FlowLimit.RECENT);
  assert.equal(path.go(TCP.SYN), 2);
});

test('flow table: 32-bit counters are carried before they are full', async () => {
  path.go(TCP.SYN);
  path.go(TCP.ACK);
  const { index } = raw();
  const half = FlowLimit.BYTES_CARRY;
  patchHot(path.maps, index, { bytes: half - 50, packetsState: packetsState(70_000_000, FlowState.ESTABLISHED) });
  patchCold(path.maps, index, { bytes: 2n ** 40n, packets: 5n });
  const steps: number[][] = [];
  for (const payload of [9, 1, 1460 - 40, 0]) {
    path.go(TCP.ACK, { payload });
    const { bytes, packets, state } = await flow();
    steps.push([bytes - 2 ** 40 - half + 50, packets - 70_000_005, raw().hot.bytes, Number(raw().cold.packets)]);
    assert.equal(state, FlowState.ESTABLISHED);
  }
  assert.deepEqual(steps, [
    [49, 1, half - 1, 5], // one byte below: not yet
    [90, 2, half + 40, 5], // over it: the next packet carries
    [1550, 3, 1460, 70_000_007],
    [1590, 4, 1500, 70_000_007],
  ]);
});

test('flow table: the smallest packets do not overflow the packet count before the bytes are carried', () => {
  const smallest = 28; // UDP over IPv4
  assert.ok(FlowLimit.BYTES_CARRY / smallest < 2 ** FlowLimit.STATE_SHIFT);
});

test('flow table: a flow whose backend takes no packets is chosen anew', async () => {
  for (const flags of [TCP.SYN, TCP.ACK]) path.go(flags);
  path.aim(2);
  assert.equal(path.go(TCP.ACK), 1);
  invalidateBackend(path.maps, 1);
  assert.equal(path.go(TCP.ACK), 2);
  const { backend, packets, state, firstNs } = await flow();
  assert.deepEqual({ backend, packets, state }, { backend: 2, packets: 1, state: FlowState.NEW });
  assert.ok(firstNs > 0);
  path.backend(1, '10.9.0.1', 1, 1);
  assert.equal(path.go(TCP.ACK), 2, 'and stays there');
});

test('flow table: a service made anew does not inherit the flows of the old one', async () => {
  for (const flags of [TCP.SYN, TCP.ACK]) path.go(flags);
  path.service(3, FLOW_VIP, 80, 'tcp', 1, 8);
  path.aim(2);
  assert.equal(path.go(TCP.ACK), 2);
  const services = (await topFlows(path.maps, {}, 'age', 10)).map(({ service, backend }) => [service, backend]);
  assert.deepEqual(services, [
    [1, 1],
    [3, 2],
  ]);
});

test('flow table: traffic to a backend that left the pool is counted in slot 0', () => {
  for (const flags of [TCP.SYN, TCP.ACK]) path.go(flags);
  path.aim(2);
  path.backend(1, '10.9.0.1', 9, 1);
  path.go(TCP.ACK, { payload: 10 });
  assert.deepEqual(readTraffic(path.maps, 0), { packets: 1, bytes: 50, connections: 0 });
  assert.deepEqual(readTraffic(path.maps, 1), { packets: 2, bytes: 80, connections: 1 });
});
