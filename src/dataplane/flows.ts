// SPDX-License-Identifier: Apache-2.0
// Flows out of the flow table, and those of NAT beside: the first ones by an order, and how many there are.
import { type FlowCold, type FlowHot, FlowLimit, FlowState } from './abi.gen.js';
import type { FlowFilter, FlowOrder, FlowRecord } from './flow-record.js';
import {
  backendOf,
  flowValue,
  idleOf,
  idleUnits,
  newestRecord,
  PACKETS_MASK,
  type Place,
  readRecord,
  recordState,
  sameClient,
  sameOnCpu,
  seenUnitNs,
  serviceOf,
  stateOf,
  type Table,
  tableOf,
  tagOf,
  walkFlows,
} from './flow-table.js';
import type { Maps } from './maps.js';
import type { NatTables } from './nat.js';
import { countNat, offerNat, readNat } from './nat-flows.js';
import { TopK } from './top-k.js';

const NOT_MEASURED = 0xffff_ffff_ffff_ffffn;

interface Scan {
  readonly table: Table;
  readonly filter: FlowFilter;
  readonly client: Uint32Array | null; // the filter's, as words
  readonly now: number;
}

function matches({ table, filter, client, now }: Scan, place: Place): boolean {
  if (filter.service !== undefined && serviceOf(table, place.record) !== filter.service) return false;
  if (client && !sameClient(table, place.record, client)) return false;
  return !filter.backends || filter.backends.has(backendOf(table, newestRecord(table, place, now)));
}

/** The same of a flow that was read: since the scan its record may have become another flow's. */
const stillMatches = (flow: FlowRecord, { service, backends, client }: FlowFilter): boolean =>
  (service === undefined || flow.service === service) &&
  (!backends || backends.has(flow.backend)) &&
  (!client || flow.client.every((byte, at) => byte === client[at]));

function readFlow(maps: Maps, table: Table, record: number, now: number): FlowRecord | null {
  const tag = tagOf(table, record);
  const bucket = Math.floor(record / FlowLimit.WAYS) % table.buckets;
  if (tag === 0) return null;
  let packets = 0;
  let bytes = 0;
  let firstNs = Number.POSITIVE_INFINITY;
  let newest: { hot: FlowHot; cold: FlowCold } | null = null;
  let idle = 0x10000;
  let handshakeNs: number | null = null;
  for (let cpu = 0; cpu < table.cpus; cpu++) {
    const at = sameOnCpu(table, bucket, tag, cpu);
    const part = at < 0 ? null : readRecord(maps, table, at, tag);
    if (!part) continue;
    packets += (part.hot.packetsState & PACKETS_MASK) + Number(part.cold.packets);
    bytes += part.hot.bytes + Number(part.cold.bytes);
    firstNs = Math.min(firstNs, Number(part.cold.firstNs));
    if (part.cold.handshakeNs !== 0n && part.cold.handshakeNs !== NOT_MEASURED)
      handshakeNs ??= Number(part.cold.handshakeNs);
    const partIdle = idleUnits(now, part.hot.seen);
    if (partIdle < idle) {
      idle = partIdle;
      newest = part;
    }
  }
  if (!newest) return null;
  const { hot, cold } = newest;
  return {
    service: cold.service,
    backend: hot.backend,
    protocol: cold.protocol,
    family: cold.family,
    client: cold.client,
    clientPort: cold.clientPort,
    vipPort: cold.vipPort,
    packets,
    bytes,
    state: stateOf(hot.packetsState),
    firstNs,
    idleNs: idle * seenUnitNs(),
    handshakeNs,
  };
}

/** Where a flow stands in an order: its value, and of equals its place, which it keeps as long as it is there. */
export interface FlowPlace {
  readonly value: number;
  readonly place: number;
}

const isBehind = (value: number, place: number, after: FlowPlace | null): boolean =>
  after === null || value < after.value || (value === after.value && place > after.place);

/**
 * The `limit` first flows by `order` (most bytes, most packets, oldest), each flow once. A million records take tens of
 * milliseconds, in slices of 3. `nat`: its tables, when it is in use.
 */
export async function topFlows(
  maps: Maps,
  filter: FlowFilter,
  order: FlowOrder,
  limit: number,
  nat: NatTables | null = null,
): Promise<FlowRecord[]> {
  return (await flowsAfter(maps, filter, order, limit, nat, null)).flows;
}

/** The same of what stands behind `after`, and where the last of them stands; `last` null: there are no more. */
export async function flowsAfter(
  maps: Maps,
  filter: FlowFilter,
  order: FlowOrder,
  limit: number,
  nat: NatTables | null,
  after: FlowPlace | null,
): Promise<{ readonly flows: FlowRecord[]; readonly last: FlowPlace | null }> {
  const table = tableOf(maps);
  const top = new TopK(limit);
  const client = filter.client ? new Uint32Array(filter.client.slice().buffer) : null;
  const scan: Scan = { table, filter, client, now: maps.seenNow() };
  let offered = 0;
  const offer = (value: number, item: number): void => {
    if (!isBehind(value, item, after)) return;
    offered++;
    top.offer(value, item);
  };
  await walkFlows(table, (place) => {
    if (matches(scan, place)) offer(flowValue(table, place, order), place.record);
  });
  // Behind the records of the table.
  const first = table.buckets * FlowLimit.WAYS * table.cpus;
  if (nat) await offerNat(nat, filter, order, (value, id) => offer(value, first + id));
  const now = maps.seenNow();
  const items = top.sorted();
  const end = items.at(-1);
  const last = end === undefined || offered <= limit ? null : { value: top.valueOf(end) ?? 0, place: end };
  const flows = items
    .map((item) => (nat && item >= first ? readNat(nat, item - first) : readFlow(maps, table, item, now)))
    .filter((flow) => flow !== null)
    .filter((flow) => stillMatches(flow, filter));
  return { flows, last };
}

/** Records in the flow table, and the live flows (not closing or closed, a packet in the last `idleMs`), of NAT too, by backend and by service number. */
export interface FlowCensus {
  readonly entries: number;
  readonly byBackend: Uint32Array;
  readonly byService: Uint32Array;
}

export async function countFlows(maps: Maps, idleMs: number, nat: NatTables | null = null): Promise<FlowCensus> {
  const table = tableOf(maps);
  const byBackend = new Uint32Array(65536);
  const byService = new Uint32Array(65536);
  const count = (backend: number, service: number): void => {
    byBackend[backend] = (byBackend[backend] ?? 0) + 1;
    byService[service] = (byService[service] ?? 0) + 1;
  };
  const idleLimit = (idleMs * 1e6) / seenUnitNs();
  const now = maps.seenNow();
  const entries = await walkFlows(table, (place) => {
    const newest = newestRecord(table, place, now);
    if (recordState(table, newest) >= FlowState.CLOSING || idleOf(table, newest, now) > idleLimit) return;
    count(backendOf(table, newest), serviceOf(table, place.record));
  });
  if (nat) await countNat(nat, idleMs, count);
  return { entries, byBackend, byService };
}
