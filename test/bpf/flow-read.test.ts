// SPDX-License-Identifier: Apache-2.0
// The flow table's readers against a slow reference over random tables.
import assert from 'node:assert/strict';
import { after, before, beforeEach, test } from 'node:test';
import { FlowLimit, FlowState } from '../../src/dataplane/abi.gen.js';
import type { FlowFilter, FlowOrder, FlowRecord } from '../../src/dataplane/flow-record.js';
import { countFlows, type FlowPlace, flowsAfter, topFlows } from '../../src/dataplane/flows.js';
import type { Maps } from '../../src/dataplane/maps.js';
import { native } from '../../src/dataplane/native.js';
import { type FlowPath, openFlowPath } from '../support/flow-path.js';
import { packetsState, patchCold, patchHot, type RawFlow, rawFlows } from '../support/flow-records.js';
import { pinTo } from '../support/packet-run.js';
import { TCP } from '../support/packets.js';
import { chosenSeed, randomFrom } from '../unit/random.js';

const UNIT_NS = 2 ** FlowLimit.SEEN_SHIFT * native.tickNs();
const NOW = 30; // so that `seen` of most records lies before the wrap
const ONE_CPU = native.possibleCpus() < 2 && 'this machine has one CPU';
let path: FlowPath;
let maps: Maps;
before(async () => {
  path = await openFlowPath({ flowsPerCpu: 64 });
  maps = { ...path.maps, seenNow: () => NOW };
});
beforeEach(() => {
  pinTo(0);
  path.reset();
});
after(() => path?.close());

const idleOf = (record: RawFlow): number => (NOW - record.hot.seen) & 0xffff;
const packetsOf = ({ hot, cold }: RawFlow): number =>
  (hot.packetsState & (2 ** FlowLimit.STATE_SHIFT - 1)) + Number(cold.packets);
const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);

/** The flows as they should be read: records with the same tag in the same bucket of each CPU are one flow. */
function reference(): FlowRecord[] {
  const groups = new Map<string, RawFlow[]>();
  for (const record of rawFlows(maps)) {
    const bucket = Math.floor((record.index % maps.flowsPerCpu) / FlowLimit.WAYS);
    const key = `${bucket}/${record.hot.tag}`;
    groups.set(key, [...(groups.get(key) ?? []), record]);
  }
  return [...groups.values()].map((records) => {
    const idle = Math.min(...records.map(idleOf));
    const newest = records.find((record) => idleOf(record) === idle) ?? assert.fail();
    const { cold, hot } = newest;
    const measured = records.find((record) => ![0n, 2n ** 64n - 1n].includes(record.cold.handshakeNs));
    return {
      service: cold.service,
      backend: hot.backend,
      protocol: cold.protocol,
      family: cold.family,
      client: cold.client,
      clientPort: cold.clientPort,
      vipPort: cold.vipPort,
      packets: sum(records.map(packetsOf)),
      bytes: sum(records.map((record) => record.hot.bytes + Number(record.cold.bytes))),
      state: (hot.packetsState >>> FlowLimit.STATE_SHIFT) & 3,
      firstNs: Math.min(...records.map((record) => Number(record.cold.firstNs))),
      idleNs: idle * UNIT_NS,
      handshakeNs: measured ? Number(measured.cold.handshakeNs) : null,
    };
  });
}

/** Fills the table at random: few services, backends and clients; many flows with records on several CPUs. */
function fill(random: () => number): void {
  const below = (limit: number): number => Math.floor(random() * limit);
  for (let index = 0; index < maps.flowsPerCpu; index++) {
    if (random() < 0.2) continue;
    const tag = 1 + below(2 ** 32 - 1);
    const service = 1 + below(3);
    const client = new Uint8Array(16).fill(1 + below(4), 0, 4);
    for (let cpu = 0; cpu < maps.cpus; cpu++) {
      if (random() < 0.4) continue;
      const bucket = index - (index % FlowLimit.WAYS);
      const way = (index + cpu) % FlowLimit.WAYS; // another place on each CPU
      const at = cpu * maps.flowsPerCpu + bucket + way;
      const carried = random() < 0.5;
      patchHot(maps, at, {
        tag,
        backend: 1 + below(3),
        seen: (NOW - below(random() < 0.5 ? 4 : 60000)) & 0xffff,
        packetsState: packetsState(1 + below(2 ** 27 - 1), below(4)) + (carried ? FlowLimit.CARRIED : 0),
        bytes: below(2 ** 32),
      });
      patchCold(maps, at, {
        client,
        clientPort: index,
        vipPort: 80,
        service,
        protocol: 6,
        family: 4,
        packets: carried ? BigInt(below(2 ** 20)) : 0n,
        bytes: carried ? BigInt(below(2 ** 30)) * 1024n : 0n,
        firstNs: BigInt(1 + below(2 ** 30)) * 1000n,
        handshakeNs: [0n, 2n ** 64n - 1n, BigInt(1 + below(10 ** 6))][below(3)] ?? 0n,
      });
    }
  }
}

const FILTERS: readonly (readonly [string, FlowFilter, (flow: FlowRecord) => boolean])[] = [
  ['no filter', {}, () => true],
  ['a service', { service: 2 }, (flow) => flow.service === 2],
  ['backends', { backends: new Set([1, 3]) }, (flow) => flow.backend !== 2],
  ['a client', { client: new Uint8Array(16).fill(3, 0, 4) }, (flow) => flow.client[0] === 3],
  [
    'all of them',
    { service: 1, backends: new Set([2]), client: new Uint8Array(16).fill(1, 0, 4) },
    (flow) => {
      return flow.service === 1 && flow.backend === 2 && flow.client[0] === 1;
    },
  ],
];
const ORDERS: Record<FlowOrder, (flow: FlowRecord) => number> = {
  bytes: (flow) => -flow.bytes,
  packets: (flow) => -flow.packets,
  age: (flow) => flow.firstNs,
};

for (const [name, filter, matches] of FILTERS)
  test(`topFlows: ${name}: as a slow reference reads it`, async (t) => {
    const seed = chosenSeed();
    t.diagnostic(`seed ${seed}`);
    const random = randomFrom(seed);
    for (let round = 0; round < 20; round++) {
      path.reset();
      fill(random);
      for (const [order, value] of Object.entries(ORDERS) as [FlowOrder, (flow: FlowRecord) => number][]) {
        const expected = reference()
          .filter(matches)
          .sort((a, b) => value(a) - value(b));
        for (const limit of [0, 1, 7, 1000])
          assert.deepEqual(await topFlows(maps, filter, order, limit), expected.slice(0, limit), `${order} ${limit}`);
        const paged: FlowRecord[] = [];
        let last: FlowPlace | null = null;
        do {
          const page: Awaited<ReturnType<typeof flowsAfter>> = await flowsAfter(maps, filter, order, 7, null, last);
          assert.ok(page.flows.length === 7 || page.last === null, 'every page but the last is full');
          paged.push(...page.flows);
          last = page.last;
        } while (last !== null);
        assert.deepEqual(paged, expected, `${order} by pages`);
      }
    }
  });

test('countFlows: all records, and live flows by backend and service, as a slow reference counts them', async (t) => {
  const seed = chosenSeed();
  t.diagnostic(`seed ${seed}`);
  const random = randomFrom(seed);
  for (let round = 0; round < 20; round++) {
    path.reset();
    fill(random);
    const idleNs = 10 * UNIT_NS;
    const byBackend = new Uint32Array(65536);
    const byService = new Uint32Array(65536);
    for (const flow of reference()) {
      if (flow.state >= FlowState.CLOSING || flow.idleNs > idleNs) continue;
      byBackend[flow.backend] = (byBackend[flow.backend] ?? 0) + 1;
      byService[flow.service] = (byService[flow.service] ?? 0) + 1;
    }
    const census = await countFlows(maps, idleNs / 1e6);
    assert.equal(census.entries, rawFlows(maps).length);
    assert.deepEqual(census.byBackend.subarray(0, 8), byBackend.subarray(0, 8));
    assert.deepEqual(census.byService.subarray(0, 8), byService.subarray(0, 8));
  }
});

test('flow table: a flow that moved to another CPU is one flow', { skip: ONE_CPU }, async () => {
  path.go(TCP.SYN);
  path.go(TCP.ACK);
  pinTo(1);
  path.go(TCP.ACK, { payload: 60 });
  path.go(TCP.ACK, { payload: 60 });
  assert.deepEqual(
    rawFlows(path.maps).map(({ cpu }) => cpu),
    [0, 1],
  );
  const [flow, ...more] = await topFlows(path.maps, {}, 'bytes', 10);
  assert.deepEqual(more, []);
  assert.deepEqual([flow?.packets, flow?.bytes, flow?.state], [4, 280, FlowState.ESTABLISHED]);
  assert.equal(flow?.firstNs, Number(rawFlows(path.maps)[0]?.cold.firstNs));
  const { entries, byBackend, byService } = await countFlows(path.maps, 60_000);
  assert.deepEqual([entries, byBackend[1], byService[1]], [2, 1, 1]);
});

test('flow table: a flow that left a CPU long ago is live by its other record', { skip: ONE_CPU }, async () => {
  path.go(TCP.SYN);
  pinTo(1);
  path.aim(2);
  path.go(TCP.ACK);
  patchHot(path.maps, rawFlows(path.maps)[0]?.index ?? -1, { seen: (path.maps.seenNow() - 5000) & 0xffff });
  const { byBackend } = await countFlows(path.maps, 60_000);
  assert.deepEqual([byBackend[1], byBackend[2]], [0, 1]);
  assert.equal((await topFlows(path.maps, { backends: new Set([2]) }, 'bytes', 10)).length, 1);
  assert.deepEqual(await topFlows(path.maps, { backends: new Set([1]) }, 'bytes', 10), []);
});

test('flow table: a packet that came after a reader looked at the clock is of a live flow', async () => {
  path.go(TCP.SYN);
  patchHot(maps, rawFlows(maps)[0]?.index ?? -1, { seen: NOW + 1 });
  assert.equal((await countFlows(maps, 60_000)).byBackend[1], 1);
  assert.equal((await topFlows(maps, {}, 'bytes', 10))[0]?.idleNs, 0);
});
