// SPDX-License-Identifier: Apache-2.0
import { MapShape } from './abi.gen.js';
import { type NativeMap, type NativeObject, type NativeProgram, native } from './native.js';

export type MapName = keyof typeof MapShape;

/** How large the tables are made; everything else about a map is fixed by the object. */
export interface TableSizes {
  /** Flows kept per CPU, a power of two. */
  readonly flowsPerCpu: number;
}

/** max_entries of every map for these sizes. */
export function mapEntries(sizes: TableSizes, cpus: number): Record<MapName, number> {
  const entries = Object.fromEntries(Object.entries(MapShape).map(([name, shape]) => [name, shape.maxEntries]));
  return {
    ...(entries as Record<MapName, number>),
    flows_hot: (sizes.flowsPerCpu / 4) * cpus,
    flows_cold: sizes.flowsPerCpu * cpus,
  };
}

/** Every map of the packet path, open. The views are the kernel's own memory, seen by packets at once. */
export interface Maps {
  readonly handle: Readonly<Record<MapName, NativeMap>>;
  /** One u64 per pool: struct ring_ref; see `ringRef`. */
  readonly pools: BigUint64Array;
  /** One u64 per row: struct ring_row. */
  readonly ringRows: BigUint64Array;
  readonly backends: Uint8Array;
  readonly services: Uint8Array;
  readonly flowsHot: ArrayBuffer;
  readonly flowsCold: ArrayBuffer;
  readonly countersBase: BigUint64Array;
  readonly vipFilter: BigUint64Array;
  readonly cpus: number;
  readonly flowsPerCpu: number;
  /** The time now as flow records count it, 16 bits; a unit is FlowLimit.SEEN_SHIFT ticks. */
  seenNow(): number;
  close(): void;
}

const NO_PACKET = new Uint8Array(14);

/** Takes the maps of a loaded object, and its program flow_clock. */
export function openMaps(handle: Readonly<Record<MapName, NativeMap>>, clock: NativeProgram): Maps {
  const cpus = native.possibleCpus();
  return {
    handle,
    pools: new BigUint64Array(handle.pools.mmap()),
    ringRows: new BigUint64Array(handle.ring_rows.mmap()),
    backends: new Uint8Array(handle.backends.mmap()),
    services: new Uint8Array(handle.services.mmap()),
    flowsHot: handle.flows_hot.mmap(),
    flowsCold: handle.flows_cold.mmap(),
    vipFilter: new BigUint64Array(handle.vip_filter.mmap()),
    countersBase: new BigUint64Array(handle.counters_base.mmap()),
    cpus,
    flowsPerCpu: handle.flows_cold.info.maxEntries / cpus,
    seenNow: () => clock.run(NO_PACKET, null).retval,
    close: () => {
      clock.close();
      for (const map of Object.values(handle)) map.close();
    },
  };
}

/** The handles of every map of a loaded object. */
export function mapsOf(object: NativeObject): Record<MapName, NativeMap> {
  const names = Object.keys(MapShape) as MapName[];
  return Object.fromEntries(names.map((name) => [name, object.map(name)])) as Record<MapName, NativeMap>;
}
