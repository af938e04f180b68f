// SPDX-License-Identifier: Apache-2.0
// What is known of the running node, for all that tell of it.
import type { Health } from '../controlplane/health/health.js';
import type { Applied } from '../controlplane/reconciler.js';
import type { StoreState } from '../controlplane/store.js';
import type { Traffic, TrafficReader } from '../dataplane/counters.js';
import type { NodeView, PoolStatus, ServiceStatus } from '../model/node-view.js';
import type { Backend } from '../model/objects.js';

/** What happened to packets beside their reason; `tally` is the name of one (Tally) in lower case. */
export interface TallyCount {
  readonly service: string;
  readonly tally: string;
  readonly packets: number;
}

/** Everything NodeView promises but the metrics' text, and the figures that text is made of. */
export type NodeFacts = Omit<NodeView, 'metrics' | 'service' | 'pool'> & {
  /** As in NodeView; `read` is where traffic is read, the kernel as it is now when left out. */
  service(name: string, read?: TrafficReader): Promise<ServiceStatus | null>;
  pool(name: string, read?: TrafficReader): Promise<PoolStatus | null>;
  /** Traffic of one service to one backend of its pool. */
  traffic(service: string, backend: Backend, read?: TrafficReader): Traffic;
  /** All traffic at one moment, for `read` above. */
  allTraffic(): Promise<TrafficReader>;
  state(): Applied;
  storeState(): StoreState;
  /** Packets that asked the flow table, over all interfaces. */
  lookups(): number;
  /** Packets by the name of their reason, all interfaces. */
  outcomes(): ReadonlyMap<string, number>;
  tallies(): Promise<readonly TallyCount[]>;
  /** Of health checks; null: nobody checks. */
  checks(): ReturnType<Health['counts']> | null;
};
