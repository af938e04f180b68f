// SPDX-License-Identifier: Apache-2.0
// The flow table's records as they lie in memory, to look at and to prepare.
import { FlowCold, FlowHot, FlowLimit } from '../../src/dataplane/abi.gen.js';
import type { Maps } from '../../src/dataplane/maps.js';

export interface RawFlow {
  readonly index: number; // record: bucket x ways + way
  readonly cpu: number;
  readonly hot: FlowHot;
  readonly cold: FlowCold;
}

const hotBytes = (maps: Maps, index: number): Uint8Array =>
  new Uint8Array(maps.flowsHot, index * FlowHot.size, FlowHot.size);
const coldBytes = (maps: Maps, index: number): Uint8Array =>
  new Uint8Array(maps.flowsCold, index * FlowCold.size, FlowCold.size);

/** All records in use, in the order they lie in. */
export function rawFlows(maps: Maps): RawFlow[] {
  const records = maps.flowsPerCpu * maps.cpus;
  return Array.from({ length: records }, (_, index) => ({
    index,
    cpu: Math.floor(index / maps.flowsPerCpu),
    hot: FlowHot.decode(hotBytes(maps, index)),
    cold: FlowCold.decode(coldBytes(maps, index)),
  })).filter(({ hot }) => hot.tag !== 0);
}

/** Changes fields of a record's hot half. */
export function patchHot(maps: Maps, index: number, change: Partial<FlowHot>): void {
  const bytes = hotBytes(maps, index);
  bytes.set(FlowHot.encode({ ...FlowHot.decode(bytes), ...change }));
}

/** Changes fields of a record's cold half. */
export function patchCold(maps: Maps, index: number, change: Partial<FlowCold>): void {
  const bytes = coldBytes(maps, index);
  bytes.set(FlowCold.encode({ ...FlowCold.decode(bytes), ...change }));
}

/** `packets_state` of a record. */
export const packetsState = (packets: number, state: number): number => packets + state * 2 ** FlowLimit.STATE_SHIFT;

export function clearFlows(maps: Maps): void {
  new Uint8Array(maps.flowsHot).fill(0);
  new Uint8Array(maps.flowsCold).fill(0);
}
