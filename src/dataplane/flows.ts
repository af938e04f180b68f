// SPDX-License-Identifier: Apache-2.0
// Reads the flow table through its mapped memory: no system call, in slices, so that neither packets nor the event loop wait.
import { setImmediate as nextTurn } from 'node:timers/promises';
import { FlowCold, FlowHot, FlowLimit, FlowState } from './abi.gen.js';
import type { Maps } from './maps.js';
import { native } from './native.js';
import { TopK } from './top-k.js';

/** A flow, its records on all CPUs added up. Numbers name the service and backend as in the maps. */
export interface FlowRecord {
  readonly service: number;
  readonly backend: number;
  readonly protocol: number;
  readonly family: number;
  readonly client: Uint8Array; // 16 bytes, IPv4 in the first 4
  readonly clientPort: number;
  readonly vipPort: number;
  readonly packets: number;
  readonly bytes: number;
  readonly state: number; // FlowState
  readonly firstNs: number; // CLOCK_MONOTONIC
  readonly idleNs: number; // in steps of about half a second
  readonly handshakeNs: number | null;
}

export interface FlowFilter {
  readonly service?: number;
  /** Any of these; a backend has one number in each pool it belongs to. */
  readonly backends?: ReadonlySet<number>;
  /** 16 bytes, IPv4 in the first 4. */
  readonly client?: Uint8Array;
}

export type FlowOrder = 'bytes' | 'packets' | 'age';

/** Longest the event loop is held before others get a turn. */
const SLICE_MS = 4;
const STEP = 512; // buckets between looks at the clock
const WAYS = FlowLimit.WAYS;
const HOT = FlowHot.size / 4;
const COLD = FlowCold.size / 4;
const TAG = FlowHot.field.tag.offset / 4;
const PACKETS_STATE = FlowHot.field.packetsState.offset / 4;
const BYTES = FlowHot.field.bytes.offset / 4;
const COLD_PACKETS = FlowCold.field.packets.offset / 4;
const COLD_BYTES = FlowCold.field.bytes.offset / 4;
const COLD_FIRST = FlowCold.field.firstNs.offset / 4;
const COLD_CLIENT = FlowCold.field.client.offset / 4;
const COLD_SERVICE = FlowCold.field.service.offset / 2;
const HOT_BACKEND = FlowHot.field.backend.offset / 2;
const HOT_SEEN = FlowHot.field.seen.offset / 2;
const NOT_MEASURED = 0xffff_ffff_ffff_ffffn;
/** A record may be this many units newer than the clock a scan began with. */
const AHEAD = 240;
const PACKETS_MASK = 2 ** FlowLimit.STATE_SHIFT - 1;

/** What `seen` counts in, ns. */
const seenUnitNs = (): number => 2 ** FlowLimit.SEEN_SHIFT * native.tickNs();

interface Table {
  readonly buckets: number; // per CPU
  readonly cpus: number;
  readonly hot: Uint32Array;
  readonly hot16: Uint16Array;
  readonly cold: Uint32Array;
  readonly cold16: Uint16Array;
}

const tableOf = (maps: Maps): Table => ({
  buckets: maps.flowsPerCpu / WAYS,
  cpus: maps.cpus,
  hot: new Uint32Array(maps.flowsHot),
  hot16: new Uint16Array(maps.flowsHot),
  cold: new Uint32Array(maps.flowsCold),
  cold16: new Uint16Array(maps.flowsCold),
});

const backendOf = (table: Table, record: number): number => table.hot16[record * HOT * 2 + HOT_BACKEND] ?? 0;

const u64At = (words: Uint32Array, index: number): number => (words[index] ?? 0) + (words[index + 1] ?? 0) * 2 ** 32;

/** Calls `visit` for each bucket index, leaving the event loop a turn every few milliseconds. */
async function inSlices(buckets: number, visit: (bucket: number) => void): Promise<void> {
  let until = performance.now() + SLICE_MS;
  for (let bucket = 0; bucket < buckets; bucket++) {
    visit(bucket);
    if (bucket % STEP === STEP - 1 && performance.now() > until) {
      await nextTurn();
      until = performance.now() + SLICE_MS;
    }
  }
}

/** Index (bucket x ways + way) of the next record of the same flow on a CPU after `cpu`, or -1. The bucket index is the same on each CPU. */
function sameOnCpu(table: Table, bucket: number, tag: number, cpu: number): number {
  const first = (cpu * table.buckets + bucket) * WAYS;
  for (let record = first; record < first + WAYS; record++) if (table.hot[record * HOT + TAG] === tag) return record;
  return -1;
}

function seenOnEarlierCpu(table: Table, bucket: number, tag: number, cpu: number): boolean {
  for (let other = 0; other < cpu; other++) if (sameOnCpu(table, bucket, tag, other) >= 0) return true;
  return false;
}

/** Units between `seen` and `now`; 0 for a packet that came after `now` was read. */
const idleUnits = (now: number, seen: number): number => Math.max(0, ((now - seen + AHEAD) & 0xffff) - AHEAD);

const idleOf = (table: Table, record: number, now: number): number =>
  idleUnits(now, table.hot16[record * HOT * 2 + HOT_SEEN] ?? 0);

/** Of the flow's records on `cpu`, where `record` is, and later ones the one with the last packet: its backend and state hold. */
function newestRecord(table: Table, bucket: number, record: number, cpu: number, now: number): number {
  const tag = table.hot[record * HOT + TAG] ?? 0;
  let newest = record;
  for (let other = cpu + 1; other < table.cpus; other++) {
    const at = sameOnCpu(table, bucket, tag, other);
    if (at >= 0 && idleOf(table, at, now) < idleOf(table, newest, now)) newest = at;
  }
  return newest;
}

interface Scan {
  readonly table: Table;
  readonly filter: FlowFilter;
  readonly client: Uint32Array | null; // the filter's, as words
  readonly now: number;
}

/** Whether the filter takes the flow whose first record, on `cpu`, this is. */
function matches({ table, filter, client, now }: Scan, bucket: number, record: number, cpu: number): boolean {
  if (filter.service !== undefined && table.cold16[record * COLD * 2 + COLD_SERVICE] !== filter.service) return false;
  if (client) {
    for (let word = 0; word < 4; word++)
      if (table.cold[record * COLD + COLD_CLIENT + word] !== client[word]) return false;
  }
  return !filter.backends || filter.backends.has(backendOf(table, newestRecord(table, bucket, record, cpu, now)));
}

/** The same of a flow that was read: since the scan its record may have become another flow's. */
const stillMatches = (flow: FlowRecord, { service, backends, client }: FlowFilter): boolean =>
  (service === undefined || flow.service === service) &&
  (!backends || backends.has(flow.backend)) &&
  (!client || flow.client.every((byte, at) => byte === client[at]));

function firstNs(table: Table, bucket: number, record: number, cpu: number): number {
  const tag = table.hot[record * HOT + TAG] ?? 0;
  let first = u64At(table.cold, record * COLD + COLD_FIRST);
  for (let other = cpu + 1; other < table.cpus; other++) {
    const at = sameOnCpu(table, bucket, tag, other);
    if (at >= 0) first = Math.min(first, u64At(table.cold, at * COLD + COLD_FIRST));
  }
  return first;
}

/** What orders the flow, over all CPUs. */
function orderValue(table: Table, bucket: number, record: number, cpu: number, order: FlowOrder): number {
  if (order === 'age') return -firstNs(table, bucket, record, cpu);
  const tag = table.hot[record * HOT + TAG] ?? 0;
  let value = 0;
  for (let other = cpu, at = record; ; ) {
    if (at >= 0) {
      const hot =
        order === 'bytes'
          ? (table.hot[at * HOT + BYTES] ?? 0)
          : (table.hot[at * HOT + PACKETS_STATE] ?? 0) & PACKETS_MASK;
      value += hot + u64At(table.cold, at * COLD + (order === 'bytes' ? COLD_BYTES : COLD_PACKETS));
    }
    if (++other >= table.cpus) return value;
    at = sameOnCpu(table, bucket, tag, other);
  }
}

/** One CPU's record, both halves of the same flow: the tag, and the bytes that only grow but for a carry, are read again after. */
function readRecord(maps: Maps, table: Table, record: number, tag: number): { hot: FlowHot; cold: FlowCold } | null {
  for (let attempt = 0; attempt < 4; attempt++) {
    const hot = FlowHot.decode(new Uint8Array(maps.flowsHot, record * FlowHot.size, FlowHot.size));
    const cold = FlowCold.decode(new Uint8Array(maps.flowsCold, record * FlowCold.size, FlowCold.size));
    // Atomics: a load the compiler may not merge with the one above.
    if (hot.tag !== tag || Atomics.load(table.hot, record * HOT + TAG) !== tag) return null;
    if (Atomics.load(table.hot, record * HOT + BYTES) >= hot.bytes) return { hot, cold };
  }
  return null;
}

function readFlow(maps: Maps, table: Table, record: number, now: number): FlowRecord | null {
  const tag = table.hot[record * HOT + TAG] ?? 0;
  const bucket = Math.floor(record / WAYS) % table.buckets;
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
    state: hot.packetsState >>> FlowLimit.STATE_SHIFT,
    firstNs,
    idleNs: idle * seenUnitNs(),
    handshakeNs,
  };
}

/**
 * The `limit` first flows by `order` (most bytes, most packets, oldest), each flow once. A million records take tens of
 * milliseconds, in slices of 4.
 */
export async function topFlows(maps: Maps, filter: FlowFilter, order: FlowOrder, limit: number): Promise<FlowRecord[]> {
  const table = tableOf(maps);
  const top = new TopK(limit);
  const client = filter.client ? new Uint32Array(filter.client.slice().buffer) : null;
  const scan: Scan = { table, filter, client, now: maps.seenNow() };
  await inSlices(table.buckets, (bucket) => {
    for (let cpu = 0; cpu < table.cpus; cpu++) {
      const first = (cpu * table.buckets + bucket) * WAYS;
      for (let record = first; record < first + WAYS; record++) {
        const tag = table.hot[record * HOT + TAG] ?? 0;
        if (tag === 0 || seenOnEarlierCpu(table, bucket, tag, cpu) || !matches(scan, bucket, record, cpu)) continue;
        top.offer(orderValue(table, bucket, record, cpu, order), record);
      }
    }
  });
  const now = maps.seenNow();
  return top
    .sorted()
    .map((record) => readFlow(maps, table, record, now))
    .filter((flow) => flow !== null)
    .filter((flow) => stillMatches(flow, filter));
}

/** Flows in the table: all records, and the live ones (not closed, a packet in the last `idleMs`) by backend and by service number. */
export interface FlowCensus {
  readonly entries: number;
  readonly byBackend: Uint32Array;
  readonly byService: Uint32Array;
}

export async function countFlows(maps: Maps, idleMs: number): Promise<FlowCensus> {
  const table = tableOf(maps);
  const byBackend = new Uint32Array(65536);
  const byService = new Uint32Array(65536);
  const idleLimit = (idleMs * 1e6) / seenUnitNs();
  const now = maps.seenNow();
  let entries = 0;
  await inSlices(table.buckets, (bucket) => {
    for (let cpu = 0; cpu < table.cpus; cpu++) {
      const first = (cpu * table.buckets + bucket) * WAYS;
      for (let record = first; record < first + WAYS; record++) {
        const tag = table.hot[record * HOT + TAG] ?? 0;
        if (tag === 0) continue;
        entries++;
        if (seenOnEarlierCpu(table, bucket, tag, cpu)) continue;
        const newest = newestRecord(table, bucket, record, cpu, now);
        const state = (table.hot[newest * HOT + PACKETS_STATE] ?? 0) >>> FlowLimit.STATE_SHIFT;
        if (state >= FlowState.CLOSING || idleOf(table, newest, now) > idleLimit) continue;
        const backend = backendOf(table, newest);
        const service = table.cold16[record * COLD * 2 + COLD_SERVICE] ?? 0;
        byBackend[backend] = (byBackend[backend] ?? 0) + 1;
        byService[service] = (byService[service] ?? 0) + 1;
      }
    }
  });
  return { entries, byBackend, byService };
}
