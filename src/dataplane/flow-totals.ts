// SPDX-License-Identifier: Apache-2.0
// Every flow there is, with what it has carried, as numbers: for sums over all of them.
import { FlowCold, FlowState } from './abi.gen.js';
import {
  backendOf,
  flowValue,
  idleOf,
  newestRecord,
  recordState,
  seenUnitNs,
  serviceOf,
  tableOf,
  walkFlows,
} from './flow-table.js';
import type { Maps } from './maps.js';
import type { NatTables } from './nat.js';
import { eachNat } from './nat-flows.js';

/** One flow, valid during the call. Numbers of service and backend are those of the maps. */
export interface FlowTotal {
  service: number;
  backend: number;
  family: number; // Family, of the client
  /** The client's address: 16 bytes at `at` of `bytes`, IPv4 in the first 4. */
  source: Uint8Array;
  at: number;
  /** Not closing or closed, with a packet within the time asked for. */
  isLive: boolean;
  packets: number;
  bytes: number;
}

const { field, size } = FlowCold;

/** Calls `visit` once for each flow, of NAT too, leaving the event loop a turn every few milliseconds. */
export async function eachFlow(
  maps: Maps,
  idleMs: number,
  nat: NatTables | null,
  visit: (flow: FlowTotal) => void,
): Promise<void> {
  const table = tableOf(maps);
  const cold = new Uint8Array(maps.flowsCold);
  const now = maps.seenNow();
  const idleLimit = (idleMs * 1e6) / seenUnitNs();
  const flow: FlowTotal = {
    service: 0,
    backend: 0,
    family: 0,
    source: cold,
    at: 0,
    isLive: false,
    packets: 0,
    bytes: 0,
  };
  await walkFlows(table, (place) => {
    const newest = newestRecord(table, place, now);
    flow.service = serviceOf(table, place.record);
    flow.backend = backendOf(table, newest);
    flow.family = cold[place.record * size + field.family.offset] ?? 0;
    flow.at = place.record * size + field.client.offset;
    flow.isLive = recordState(table, newest) < FlowState.CLOSING && idleOf(table, newest, now) <= idleLimit;
    flow.packets = flowValue(table, place, 'packets');
    flow.bytes = flowValue(table, place, 'bytes');
    visit(flow);
  });
  if (!nat) return;
  flow.source = nat.details;
  await eachNat(nat, idleMs, (at, family, service, backend, isLive, packets, bytes) => {
    visit(Object.assign(flow, { at, service, backend, family, isLive, packets, bytes }));
  });
}
