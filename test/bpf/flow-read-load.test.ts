// SPDX-License-Identifier: Apache-2.0
// The flow table's readers while packets change it.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { readFlowTableStats } from '../../src/dataplane/counters.js';
import type { FlowFilter, FlowOrder } from '../../src/dataplane/flow-record.js';
import { countFlows, topFlows } from '../../src/dataplane/flows.js';
import { sipHash13 } from '../../src/ring/index.js';
import { openManyFlows } from '../support/many-flows.js';
import { openPacketPath, type PacketPath, TEST_CONFIG } from '../support/packet-path.js';
import type { PacketSpec } from '../support/packets.js';

const VIP = '192.0.2.30';
const BACKENDS = 13;
const SPEC: PacketSpec = { from: '10.1.0.2', to: VIP, fromPort: 40000, toPort: 80, protocol: 'tcp', payload: 26 };
const IP_SIZE = 66;

async function open(flowsPerCpu: number): Promise<PacketPath> {
  const path = await openPacketPath({ flowsPerCpu, newFlowsPerSecond: 1e9 });
  for (let number = 1; number <= BACKENDS; number++) path.backend(number, `10.9.0.${number}`, 1, number);
  path.ring(
    1,
    0,
    Uint16Array.from({ length: BACKENDS }, (_, row) => row + 1),
  );
  path.service(1, VIP, 80, 'tcp', 1, 0);
  return path;
}

/** The backend the ring gives this client; any record that mixes two flows is most likely wrong about it. */
function ringBackend(client: Uint8Array, port: number): number {
  const key = Buffer.concat([client.subarray(0, 4), Buffer.of(192, 0, 2, 30, port >> 8, port & 255, 0, 80, 6)]);
  return 1 + Number(((sipHash13(TEST_CONFIG.ringKey, key) >> 32n) * BigInt(BACKENDS)) >> 32n);
}

let churn: PacketPath;
let roomy: PacketPath;
before(async () => {
  churn = await open(16);
  roomy = await open(16384);
});
after(() => {
  churn?.close();
  roomy?.close();
});

/** Reads again and again while packets run. */
async function whileRunning(path: PacketPath, flows: number, packets: number, read: () => Promise<void>) {
  const traffic = await openManyFlows(path, SPEC, flows);
  let running = true;
  const run = traffic.run(packets).finally(() => {
    running = false;
  });
  let reads = 0;
  for (; running; reads++) {
    await read();
    await nextTurn(); // a small table is read without one
  }
  await run;
  traffic.close();
  return reads;
}

test('topFlows: while flows come and go, a record is of one flow and matches the filter', async (t) => {
  const odd = new Set([1, 3, 5, 7, 9, 11, 13]);
  let flowsRead = 0;
  // A flow comes back only after a million others: no record changes hands and is the same flow's again while it is read.
  const reads = await whileRunning(churn, 1 << 20, 3 << 20, async () => {
    for (const order of ['bytes', 'packets', 'age'] as FlowOrder[]) {
      const filter: FlowFilter = flowsRead % 2 ? { backends: odd } : { service: 1, backends: odd };
      for (const flow of await topFlows(churn.maps, filter, order, 50)) {
        flowsRead++;
        assert.deepEqual([flow.service, flow.vipPort, flow.protocol, flow.family], [1, 80, 6, 4]);
        assert.equal(flow.backend, ringBackend(flow.client, flow.clientPort), 'client and backend belong together');
        assert.ok(odd.has(flow.backend), 'the filter holds');
        // One packet may be half counted at the moment of the look.
        assert.ok(Math.abs(flow.bytes / IP_SIZE - flow.packets) <= 1, `${flow.bytes} bytes, ${flow.packets} packets`);
      }
    }
  });
  t.diagnostic(`${flowsRead} flows in ${reads} reads`);
  assert.ok(readFlowTableStats(churn.maps).evictions > 1 << 20, 'flows came and went');
  assert.ok(flowsRead > 100);
});

test('topFlows and countFlows: while known flows count, totals grow and end at what was sent', async (t) => {
  const flows = 512;
  const rounds = 6000;
  const warm = await openManyFlows(roomy, SPEC, flows);
  await warm.run(flows * 2);
  warm.close();
  const packetsOf = new Map<string, number>();
  /** Tags that are not 0: struct flow_hot begins with one. */
  const records = (): number =>
    new Uint32Array(roomy.maps.flowsHot).reduce((count, word, at) => count + Number(at % 4 === 0 && word !== 0), 0);
  const reads = await whileRunning(roomy, flows, flows * rounds, async () => {
    const top = await topFlows(roomy.maps, {}, 'packets', flows * 2);
    for (const flow of top) {
      const key = `${flow.client}:${flow.clientPort}`;
      assert.ok(flow.packets >= (packetsOf.get(key) ?? 0), 'packets only grow');
      assert.ok(flow.packets <= rounds + 2 && flow.bytes <= (rounds + 2) * IP_SIZE, 'none is counted twice');
      packetsOf.set(key, flow.packets);
    }
    const live = (await countFlows(roomy.maps, 600_000)).byService[1] ?? 0;
    // One that met two CPUs, since the kernel moved the sender, has a record on each, counted or just being written.
    assert.ok(live >= packetsOf.size && live <= records(), `a flow that gets packets is live: ${live}`);
  });
  t.diagnostic(`${reads} reads`);
  assert.ok(reads > 3);
  const top = await topFlows(roomy.maps, {}, 'packets', flows * 2);
  assert.equal(top.length, flows);
  for (const flow of top) assert.deepEqual([flow.packets, flow.bytes], [rounds + 2, (rounds + 2) * IP_SIZE]);
});
