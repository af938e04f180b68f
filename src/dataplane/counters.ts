// SPDX-License-Identifier: Apache-2.0
import { Counters, FlowStats, Reason, Tally } from './abi.gen.js';
import type { Maps } from './maps.js';
import type { NativeMap } from './native.js';

/** Totals as numbers: exact up to 2^53. */
export interface Traffic {
  readonly packets: number;
  readonly bytes: number;
  readonly connections: number;
}

const BASE_WORDS = Counters.size / 8;
const u32Key = (index: number): Uint8Array => new Uint8Array(Uint32Array.of(index).buffer);

/** Adds up the CPUs' u64 values of each index of a per-CPU array, `words` u64 per CPU. */
export async function sumPerCpu(map: NativeMap, words: number, cpus: number): Promise<Float64Array> {
  const { count, values } = await map.readAll();
  const halves = new Uint32Array(values.buffer, values.byteOffset, values.byteLength / 4); // little-endian: the lower first
  const sums = new Float64Array(count * words);
  for (let index = 0, at = 0; index < count; index++) {
    for (let cpu = 0; cpu < cpus; cpu++) {
      for (let word = 0; word < words; word++, at += 2) {
        const low = halves[at] as number;
        const high = halves[at + 1] as number;
        if (low !== 0 || high !== 0)
          sums[index * words + word] = (sums[index * words + word] as number) + high * 2 ** 32 + low;
      }
    }
  }
  return sums;
}

/** Traffic counted at one index of `counters`, over all CPUs, with what an earlier range of the service held. */
export function readTraffic(maps: Maps, index: number): Traffic {
  const value = maps.handle.counters.get(u32Key(index)) ?? new Uint8Array();
  const base = Counters.decode(new Uint8Array(maps.countersBase.buffer, index * Counters.size, Counters.size));
  let { packets, bytes, connections } = base;
  for (let at = 0; at < value.length; at += Counters.size) {
    const part = Counters.decode(value, at);
    packets += part.packets;
    bytes += part.bytes;
    connections += part.connections;
  }
  return { packets: Number(packets), bytes: Number(bytes), connections: Number(connections) };
}

/** Reads traffic at an index of `counters`. */
export type TrafficReader = (index: number) => Traffic;

/** All of `counters` at once, off the main thread: for those who read most of it. What the reader says is as of now. */
export async function readAllTraffic(maps: Maps): Promise<TrafficReader> {
  const { values } = await maps.handle.counters.readAll();
  const words = new Uint32Array(values.buffer, values.byteOffset, values.byteLength / 4);
  const base = new Uint32Array(maps.countersBase.buffer.slice(0));
  const stride = Counters.size / 4;
  const word = (from: Uint32Array, at: number): number => (from[at] ?? 0) + (from[at + 1] ?? 0) * 2 ** 32;
  const total = (index: number, offset: number): number => {
    let sum = word(base, index * stride + offset);
    for (let cpu = 0; cpu < maps.cpus; cpu++) sum += word(words, (index * maps.cpus + cpu) * stride + offset);
    return sum;
  };
  return (index) => ({
    packets: total(index, Counters.field.packets.offset / 4),
    bytes: total(index, Counters.field.bytes.offset / 4),
    connections: total(index, Counters.field.connections.offset / 4),
  });
}

/** Zeroes an index that nobody counts at: a packet in between would be lost from it. */
export function resetTraffic(maps: Maps, index: number): void {
  maps.handle.counters.set(u32Key(index), new Uint8Array(maps.handle.counters.slotSize), 0);
  maps.countersBase.fill(0n, index * BASE_WORDS, (index + 1) * BASE_WORDS);
}

/** Adds to an index that packets may be counted at: only user space writes the base. */
export function addTraffic(maps: Maps, index: number, more: Traffic): void {
  const at = new Uint8Array(
    maps.countersBase.buffer,
    maps.countersBase.byteOffset + index * Counters.size,
    Counters.size,
  );
  const base = Counters.decode(at);
  at.set(
    Counters.encode({
      packets: base.packets + BigInt(more.packets),
      bytes: base.bytes + BigInt(more.bytes),
      connections: base.connections + BigInt(more.connections),
    }),
  );
}

/** Packets by reason, for one interface slot. Their sum is the packets this program has seen there. */
export function readOutcomes(maps: Maps, interfaceSlot: number): number[] {
  return Array.from({ length: Reason.COUNT }, (_, reason) =>
    readU64(maps.handle.outcomes, interfaceSlot * Reason.COUNT + reason),
  );
}

function readU64(map: NativeMap, index: number): number {
  const value = map.get(u32Key(index)) ?? new Uint8Array();
  let sum = 0n;
  for (const part of new BigUint64Array(value.slice().buffer)) sum += part;
  return Number(sum);
}

/** Packets not forwarded, at service number x Reason.COUNT + reason; number 0: no service was known. */
export function readServiceOutcomes(maps: Maps): Promise<Float64Array> {
  return sumPerCpu(maps.handle.service_outcomes, Reason.COUNT, maps.cpus);
}

/** Zeroes the counts of a service number before it is given out. */
export function clearServiceOutcomes(maps: Maps, service: number): void {
  const map = maps.handle.service_outcomes;
  map.set(u32Key(service), new Uint8Array(map.slotSize), 0);
}

/** What else happened to packets, at service number x Tally.COUNT + tally. */
export function readTallies(maps: Maps): Promise<Float64Array> {
  return sumPerCpu(maps.handle.tallies, Tally.COUNT, maps.cpus);
}

/** Zeroes the tallies of a service number before it is given out. */
export function clearTallies(maps: Maps, service: number): void {
  const map = maps.handle.tallies;
  map.set(u32Key(service), new Uint8Array(map.slotSize), 0);
}

export type FlowTableStats = Readonly<Record<keyof FlowStats, number>>;

export function readFlowTableStats(maps: Maps): FlowTableStats {
  const value = maps.handle.flow_table_stats.get(u32Key(0)) ?? new Uint8Array();
  const total = { misses: 0, inserts: 0, evictions: 0, overBudget: 0, bucketFull: 0 };
  for (let at = 0; at < value.length; at += FlowStats.size) {
    const part = FlowStats.decode(value, at);
    for (const name of Object.keys(total) as (keyof FlowStats)[]) total[name] += Number(part[name]);
  }
  return total;
}
