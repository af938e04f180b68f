// SPDX-License-Identifier: Apache-2.0
import { countFlows, type FlowCensus } from '../dataplane/flows.js';
import type { Maps } from '../dataplane/maps.js';
import type { NatTables } from '../dataplane/nat.js';

/** A flow counts as live while it is not closed and had a packet within this. */
export const LIVE_IDLE_MS = 300_000;
const FRESH_MS = 500;

/** Counts the flows at most twice a second, however many ask. */
export function censusOf(maps: Maps, nat: () => NatTables | null): () => Promise<FlowCensus> {
  let taken: Promise<FlowCensus> | null = null;
  let takenAt = 0;
  return () => {
    const now = performance.now();
    if (taken === null || now - takenAt > FRESH_MS) {
      takenAt = now;
      taken = countFlows(maps, LIVE_IDLE_MS, nat());
    }
    return taken;
  };
}
