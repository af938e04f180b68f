// SPDX-License-Identifier: Apache-2.0
// The flow table as user space sees it: mapped memory, walked in slices, so that neither packets nor the event loop wait.
import { setImmediate as nextTurn } from 'node:timers/promises';
import { FlowCold, FlowHot, FlowLimit } from './abi.gen.js';
import type { FlowOrder } from './flow-record.js';
import type { Maps } from './maps.js';
import { native } from './native.js';

/** Longest the event loop is held before others get a turn. */
const SLICE_MS = 3;
const STEP = 64; // buckets between looks at the clock: few enough for the first call, not yet compiled
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
/** A record may be this many units newer than the clock a scan began with. */
const AHEAD = 240;
export const PACKETS_MASK = 2 ** FlowLimit.STATE_SHIFT - 1;

/** What `seen` counts in, ns. */
export const seenUnitNs = (): number => 2 ** FlowLimit.SEEN_SHIFT * native.tickNs();

/** The mapped memory of the flow table, by the widths of its fields. */
export interface Table {
  readonly buckets: number; // per CPU
  readonly cpus: number;
  readonly hot: Uint32Array;
  readonly hot16: Uint16Array;
  readonly cold: Uint32Array;
  readonly cold16: Uint16Array;
}

export const tableOf = (maps: Maps): Table => ({
  buckets: maps.flowsPerCpu / WAYS,
  cpus: maps.cpus,
  hot: new Uint32Array(maps.flowsHot),
  hot16: new Uint16Array(maps.flowsHot),
  cold: new Uint32Array(maps.flowsCold),
  cold16: new Uint16Array(maps.flowsCold),
});

export const backendOf = (table: Table, record: number): number => table.hot16[record * HOT * 2 + HOT_BACKEND] ?? 0;

const u64At = (words: Uint32Array, index: number): number => (words[index] ?? 0) + (words[index + 1] ?? 0) * 2 ** 32;

/** Index (bucket x ways + way) of the flow's record on `cpu`, or -1. The bucket index is the same on each CPU. */
export function sameOnCpu(table: Table, bucket: number, tag: number, cpu: number): number {
  const first = (cpu * table.buckets + bucket) * WAYS;
  for (let record = first; record < first + WAYS; record++) if (table.hot[record * HOT + TAG] === tag) return record;
  return -1;
}

function seenOnEarlierCpu(table: Table, bucket: number, tag: number, cpu: number): boolean {
  for (let other = 0; other < cpu; other++) if (sameOnCpu(table, bucket, tag, other) >= 0) return true;
  return false;
}

/** Units between `seen` and `now`; 0 for a packet that came after `now` was read. */
export const idleUnits = (now: number, seen: number): number => Math.max(0, ((now - seen + AHEAD) & 0xffff) - AHEAD);

export const idleOf = (table: Table, record: number, now: number): number =>
  idleUnits(now, table.hot16[record * HOT * 2 + HOT_SEEN] ?? 0);

/** FlowState out of packets_state. */
export const stateOf = (packetsState: number): number => (packetsState >>> FlowLimit.STATE_SHIFT) & 3;

export const recordState = (table: Table, record: number): number =>
  stateOf(table.hot[record * HOT + PACKETS_STATE] ?? 0);

export const tagOf = (table: Table, record: number): number => table.hot[record * HOT + TAG] ?? 0;

/** One bit per tag modulo 32: 0 means no tag of the bucket with that bit is on more than one CPU. Spares most records the search for a twin. */
function sharedTags(table: Table, bucket: number): number {
  let once = 0;
  let twice = 0;
  for (let cpu = 0; cpu < table.cpus; cpu++) {
    const first = (cpu * table.buckets + bucket) * WAYS;
    let own = 0;
    for (let record = first; record < first + WAYS; record++) {
      const tag = table.hot[record * HOT + TAG] ?? 0;
      if (tag !== 0) own |= 1 << (tag & 31);
    }
    twice |= once & own;
    once |= own;
  }
  return twice;
}

/** A flow of the table: its first record, on `cpu`; `alone` when no other CPU has one. */
export interface Place {
  bucket: number;
  cpu: number;
  record: number;
  tag: number;
  alone: boolean;
}

/** Visits the flows of some buckets; answers how many records they have. */
function walkBuckets(table: Table, begin: number, end: number, place: Place, visit: (place: Place) => void): number {
  let records = 0;
  for (let bucket = begin; bucket < end; bucket++) {
    const shared = sharedTags(table, bucket);
    place.bucket = bucket;
    for (let cpu = 0; cpu < table.cpus; cpu++) {
      const first = (cpu * table.buckets + bucket) * WAYS;
      place.cpu = cpu;
      for (let record = first; record < first + WAYS; record++) {
        const tag = table.hot[record * HOT + TAG] ?? 0;
        if (tag === 0) continue;
        records++;
        place.alone = (shared & (1 << (tag & 31))) === 0;
        if (!place.alone && seenOnEarlierCpu(table, bucket, tag, cpu)) continue;
        place.record = record;
        place.tag = tag;
        visit(place);
      }
    }
  }
  return records;
}

/**
 * Calls `visit` for each flow once, leaving the event loop a turn every few milliseconds. The place is valid during the call.
 * Answers how many records there are. The work is done in plain functions: an async one goes on uncompiled after each turn.
 */
export async function walkFlows(table: Table, visit: (place: Place) => void): Promise<number> {
  const place: Place = { bucket: 0, cpu: 0, record: 0, tag: 0, alone: true };
  let until = performance.now() + SLICE_MS;
  let records = 0;
  for (let bucket = 0; bucket < table.buckets; bucket += STEP) {
    records += walkBuckets(table, bucket, Math.min(bucket + STEP, table.buckets), place, visit);
    if (performance.now() > until) {
      await nextTurn();
      until = performance.now() + SLICE_MS;
    }
  }
  return records;
}

/** The flow's record with the last packet: its backend and state hold. */
export function newestRecord(table: Table, { bucket, cpu, record, tag, alone }: Place, now: number): number {
  let newest = record;
  for (let other = cpu + 1; !alone && other < table.cpus; other++) {
    const at = sameOnCpu(table, bucket, tag, other);
    if (at >= 0 && idleOf(table, at, now) < idleOf(table, newest, now)) newest = at;
  }
  return newest;
}

/** What orders one CPU's record of a flow. The cold record, another cache line, is read only when it has something to add. */
function recordValue(table: Table, record: number, order: FlowOrder): number {
  const cold = record * COLD;
  if (order === 'age') return -u64At(table.cold, cold + COLD_FIRST);
  const packetsState = table.hot[record * HOT + PACKETS_STATE] ?? 0;
  const carried = (packetsState & FlowLimit.CARRIED) !== 0;
  if (order === 'packets')
    return (packetsState & PACKETS_MASK) + (carried ? u64At(table.cold, cold + COLD_PACKETS) : 0);
  return (table.hot[record * HOT + BYTES] ?? 0) + (carried ? u64At(table.cold, cold + COLD_BYTES) : 0);
}

/** What orders a flow, most first: sums over its records, or minus the time its oldest one began. */
export function flowValue(table: Table, { bucket, cpu, record, tag, alone }: Place, order: FlowOrder): number {
  let value = recordValue(table, record, order);
  for (let other = cpu + 1; !alone && other < table.cpus; other++) {
    const at = sameOnCpu(table, bucket, tag, other);
    if (at < 0) continue;
    const part = recordValue(table, at, order);
    value = order === 'age' ? Math.max(value, part) : value + part;
  }
  return value;
}

/** The service's number and the client's address of a record, compared where they lie. */
export const serviceOf = (table: Table, record: number): number => table.cold16[record * COLD * 2 + COLD_SERVICE] ?? 0;

export function sameClient(table: Table, record: number, client: Uint32Array): boolean {
  const at = record * COLD + COLD_CLIENT;
  return client.every((word, index) => table.cold[at + index] === word);
}

/** One CPU's record, both halves of the same flow: the tag, and the bytes that only grow but for a carry, are read again after. */
export function readRecord(
  maps: Maps,
  table: Table,
  record: number,
  tag: number,
): { hot: FlowHot; cold: FlowCold } | null {
  for (let attempt = 0; attempt < 4; attempt++) {
    const hot = FlowHot.decode(new Uint8Array(maps.flowsHot, record * FlowHot.size, FlowHot.size));
    const cold = FlowCold.decode(new Uint8Array(maps.flowsCold, record * FlowCold.size, FlowCold.size));
    // Atomics: a load the compiler may not merge with the one above.
    if (hot.tag !== tag || Atomics.load(table.hot, record * HOT + TAG) !== tag) return null;
    if (Atomics.load(table.hot, record * HOT + BYTES) >= hot.bytes) return { hot, cold };
  }
  return null;
}
