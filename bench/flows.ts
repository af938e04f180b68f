// SPDX-License-Identifier: Apache-2.0
// How long a million flow records, and a million connections of NAT, take to become a sorted top 100, and how long the event loop is held meanwhile.
import { FlowCold, FlowHot, FlowLimit } from '../src/dataplane/abi.gen.js';
import type { FlowOrder } from '../src/dataplane/flow-record.js';
import { topFlows } from '../src/dataplane/flows.js';
import type { Maps } from '../src/dataplane/maps.js';
import type { NatTables } from '../src/dataplane/nat.js';
import { NatConnection, NatDetail, NatState } from '../src/dataplane/nat-abi.gen.js';
import { mix32 } from '../src/ring/hash.js';
import { openNatPath } from '../test/support/nat-path.js';
import { openPacketPath } from '../test/support/packet-path.js';

export interface FlowsResult {
  readonly records: number;
  readonly order: string;
  readonly msMedian: number;
  readonly msMin: number;
  readonly msMax: number;
  readonly longestBlockMs: number;
}

const FLOWS_PER_CPU = 1 << 20;
const NAT_CONNECTIONS = 1 << 20;

/** Fills half of each CPU's ways, so two CPUs hold a million; one record in sixteen has its flow on another CPU too, one in 64 has carried. */
function fill(maps: Maps): number {
  const hot = new DataView(maps.flowsHot);
  const cold = new DataView(maps.flowsCold);
  let records = 0;
  for (let record = 0; record < maps.flowsPerCpu * maps.cpus; record++) {
    if (record % FlowLimit.WAYS >= 2) continue;
    const bucket = Math.floor((record % maps.flowsPerCpu) / FlowLimit.WAYS);
    const shared = bucket % 16 === 0;
    const bytes = (record * 40503) % 1_000_003;
    const carried = record % 64 === 0;
    const atHot = record * FlowHot.size;
    const atCold = record * FlowCold.size;
    const { tag, backend, packetsState, bytes: hotBytes } = FlowHot.field;
    tag.write(hot, atHot, mix32(shared ? bucket * 4 + (record % 4) : record) || 1);
    backend.write(hot, atHot, 1 + (record % 8));
    packetsState.write(hot, atHot, (1 + (record % 1000)) | (carried ? FlowLimit.CARRIED : 0));
    hotBytes.write(hot, atHot, bytes);
    const { clientPort, service, family, bytes: coldBytes, firstNs } = FlowCold.field;
    clientPort.write(cold, atCold, record & 0xffff);
    service.write(cold, atCold, 1);
    family.write(cold, atCold, 4);
    firstNs.write(cold, atCold, BigInt(record));
    if (carried) coldBytes.write(cold, atCold, BigInt(bytes));
    records++;
  }
  return records;
}

/** Runs `work` and tells the longest time in which a timer due every millisecond did not get its turn. */
async function longestBlock(work: () => Promise<unknown>): Promise<{ ms: number; blockMs: number }> {
  let last = performance.now();
  let blockMs = 0;
  const look = (): void => {
    const now = performance.now();
    blockMs = Math.max(blockMs, now - last);
    last = now;
  };
  const timer = setInterval(look, 1);
  const started = performance.now();
  await work();
  const ms = performance.now() - started;
  look();
  clearInterval(timer);
  return { ms, blockMs };
}

/** Fills the whole table of NAT. */
function fillNat({ connections, details, counts, room }: NatTables): number {
  const view = new DataView(connections.buffer);
  const more = new DataView(details.buffer);
  const { clientPort, service, backend, state, bytes, packets } = NatConnection.field;
  for (let id = 0; id < room; id++) {
    const at = id * NatConnection.size;
    clientPort.write(view, at, id & 0xffff);
    service.write(view, at, 1);
    backend.write(view, at, 1 + (id % 8));
    NatDetail.field.begun.write(more, id * NatDetail.size, id);
    view.setUint32(at + bytes.offset, (id * 40503) % 1_000_003, true);
    view.setUint32(at + packets.offset, 1 + (id % 1000), true);
    state.write(view, at, NatState.ESTABLISHED);
  }
  counts[0] = room;
  return room;
}

export async function flowsBench(rounds: number): Promise<FlowsResult[]> {
  const path = await openPacketPath({ flowsPerCpu: FLOWS_PER_CPU });
  const results = await timed(fill(path.maps), rounds, '', (order) => topFlows(path.maps, {}, order, 100));
  path.close();
  const nat = await openNatPath(NAT_CONNECTIONS);
  const { maps, tables } = nat;
  const more = await timed(fillNat(tables), rounds, 'nat ', (order) => topFlows(maps, {}, order, 100, tables));
  nat.close();
  return [...results, ...more];
}

async function timed(
  records: number,
  rounds: number,
  prefix: string,
  work: (order: FlowOrder) => Promise<unknown>,
): Promise<FlowsResult[]> {
  const results: FlowsResult[] = [];
  for (const order of ['bytes', 'packets', 'age'] as const) {
    const runs: { ms: number; blockMs: number }[] = [];
    for (let round = 0; round < rounds; round++) runs.push(await longestBlock(() => work(order)));
    const times = runs.map(({ ms }) => ms).sort((a, b) => a - b);
    results.push({
      records,
      order: prefix + order,
      msMedian: times[times.length >> 1] ?? 0,
      msMin: times[0] ?? 0,
      msMax: times.at(-1) ?? 0,
      longestBlockMs: Math.max(...runs.map(({ blockMs }) => blockMs)),
    });
  }
  return results;
}
