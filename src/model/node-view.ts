// SPDX-License-Identifier: Apache-2.0
import type { Effect } from './effect.js';
import type { Snapshot } from './objects.js';
import type { Topology, TopologyQuery } from './topology.js';

/** How far a drain is, as this node's flow table has it. */
export interface DrainStatus {
  /** Live flows: a packet within the last five minutes, not closing or closed. */
  readonly flowsLeft: number;
  /** Seconds since they began; of the thousand oldest. Null when there are none. */
  readonly ages: { readonly youngest: number; readonly median: number; readonly oldest: number } | null;
  /**
   * Seconds until none is expected to be left, at most until the deadline: flows are taken to live on as long, on average, as they have lived (exponential
   * lives), so the last of n ends after their mean age times the n-th harmonic number.
   */
  readonly etaSeconds: number;
  /** No flow is left, or the deadline is over. */
  readonly done: boolean;
}

/** How a backend is by its checks. */
export interface BackendHealth {
  /** What the nodes have agreed on. 'unknown': nobody has a result yet, so it is held to be up. 'off': nobody looks. */
  readonly state: 'up' | 'down' | 'unknown' | 'off';
  readonly since: string | null; // RFC 3339; null: since before this daemon's start
  /** On its way back, the part of its weight that it has. */
  readonly slowStart?: number;
  /** What was wrong with the last check of this node that was not well. */
  readonly lastError: string | null;
  readonly lastCheck: { readonly at: string; readonly result: string; readonly latencyMs: number } | null;
  /** What each node finds. */
  readonly nodes: Readonly<
    Record<string, { readonly state: 'up' | 'down'; readonly since: string; readonly detail: string }>
  >;
}

/** What the running node knows of one backend of one pool, beyond what the store says. Shares are 0..1. */
export interface BackendStatus {
  readonly shareWanted: number;
  readonly shareReal: number; // of the ring's rows, read back from the kernel
  readonly health: BackendHealth;
  readonly flows: number;
  /** While it drains. */
  readonly drain?: DrainStatus;
  readonly packets: number;
  readonly bytes: number;
  readonly connections: number;
  /** 'off_link': there is a router between, and a service with forwarding l2 uses the pool, so it takes nothing. */
  readonly nextHop: {
    readonly state: 'resolved' | 'unresolved' | 'off_link';
    readonly interface: string | null;
    readonly mac: string | null;
  };
}

export interface ServiceStatus {
  readonly flows: number;
  readonly packets: number;
  readonly bytes: number;
  readonly connections: number;
  readonly appliedRevision: number;
}

export interface PoolStatus {
  /** More than half of the backends are down by their checks, so all are kept in force. */
  readonly failOpen: boolean;
  readonly backends: ReadonlyMap<string, BackendStatus>;
  readonly ringRows: number;
  /** Null while the pool has no ring. */
  readonly ring: RingStatus | null;
  readonly appliedRevision: number;
}

export interface RingStatus {
  /** Of the members its rows come from: counts the changes of the pool. */
  readonly generation: number;
  /** Rows that have had another owner within the hold time. */
  readonly inTransition: number;
  /** Of those, rows that wait to move on: all three places for previous owners are held. */
  readonly deferred: number;
}

/** One flow, its records on all CPUs merged. Times are Unix milliseconds; `lastSeen` is coarse (about half a second). */
export interface FlowView {
  readonly service: string | null; // null: the service is gone
  readonly backend: string | null;
  readonly protocol: 'tcp' | 'udp' | null;
  readonly client: string; // 192.0.2.7:40000, [2001:db8::7]:40000
  readonly vip: string; // same form
  readonly packets: number;
  readonly bytes: number;
  readonly state: 'new' | 'established' | 'closing' | 'closed';
  readonly firstSeen: number;
  readonly lastSeen: number;
  readonly handshakeNs: number | null;
  /** Only with NAT: of services with forwarding 'nat', and of private sources on their way out (service null). `packets` and `bytes` are those of the requests; a handshake then is the sum of its halves. */
  readonly nat?: {
    readonly source: string; // what the client is to the backend, in the same form
    readonly destination: string; // the backend
    readonly replyPackets: number;
    readonly replyBytes: number;
    /** SYN to SYN-ACK and SYN-ACK to ACK; null: not seen. */
    readonly handshake: { readonly backendNs: number | null; readonly clientNs: number | null };
  };
}

/** Where the last flow of a page stands; null: there are no more behind it. */
export interface FlowPage {
  readonly items: readonly FlowView[];
  readonly last: { readonly value: number; readonly place: number } | null;
}

export interface FlowQuery {
  readonly service?: string;
  readonly backend?: string;
  readonly client?: string; // address without port
  readonly sort: 'bytes' | 'packets' | 'age';
  readonly limit: number; // 1..1000
}

export interface DropCount {
  readonly service: string | null; // null: before a service was known
  readonly reason: string;
  readonly packets: number;
}

/** Connections of services with forwarding 'nat' and of private sources on their way out, and the programs that keep them. */
export interface NatStatus {
  readonly capacity: number;
  readonly entries: number; // those just ended included
  readonly programs: readonly {
    readonly interface: string;
    readonly program: string;
    readonly mode: 'tcx' | 'clsact';
    readonly tag: string;
  }[];
}

export interface NodeStatus {
  readonly node: string;
  readonly version: string;
  readonly startedAt: string; // RFC 3339
  readonly ready: boolean;
  readonly notReady: readonly string[]; // sentences
  readonly warnings: readonly string[]; // sentences: generic XDP, a table made anew
  readonly store: {
    readonly kind: string;
    readonly revision: number;
    readonly connected: boolean; // false: it may be old, and writes are refused
    readonly detail: string | null; // why it is not connected, and what is in force
    /** Documents that are not in force for what is wrong with them; the first hundred. */
    readonly skipped: readonly { readonly key: string; readonly revision: number; readonly detail: string }[];
  };
  readonly appliedRevision: number;
  readonly lastError: string | null; // of the newest reconcile
  readonly interfaces: readonly {
    readonly name: string;
    readonly mode: 'native' | 'generic';
    readonly program: string;
    readonly tag: string;
    readonly packets: Readonly<Record<string, number>>; // by action: tx, redirect, pass, drop, aborted
  }[];
  readonly flowTable: {
    readonly capacity: number;
    readonly entries: number;
    readonly misses: number;
    readonly inserts: number;
    readonly evictions: number;
    readonly overBudget: number;
    readonly bucketFull: number;
  };
  /** Once there has been a service with forwarding 'nat', or egress. */
  readonly nat?: NatStatus;
  /** With `announce.table`. */
  readonly announce?: AnnounceStatus;
}

/** A node of the cluster, as this one sees it. What is null is not known: its document cannot be read. */
export interface NodeInfo {
  readonly name: string;
  readonly self: boolean;
  /** 'behind': it has not had a revision of the store in force for too long; 'differs': its kernel has another ring than it should, or than most others have. */
  readonly state: 'ok' | 'behind' | 'differs' | 'unreadable';
  readonly detail: string | null; // why it is not ok
  readonly host: string | null;
  readonly version: string | null;
  readonly startedAt: string | null; // RFC 3339
  readonly revision: number | null; // the newest of the store it knows
  readonly appliedRevision: number | null;
  readonly error: string | null;
  readonly ready: boolean;
  readonly notReady: readonly string[];
  readonly announcing: number | null; // addresses; null: it is not configured to announce
  /** Rings in its kernel, by pool. */
  readonly rings: Readonly<
    Record<
      string,
      {
        readonly digest: string;
        readonly generation: number;
        readonly without: readonly string[]; // backends it cannot reach
        readonly asWanted: boolean;
      }
    >
  >;
}

/** Announcement of VIPs: which have a route in the table, and why the others have none. */
export interface AnnounceStatus {
  readonly table: number;
  readonly vips: readonly { readonly address: string; readonly announced: boolean; readonly detail: string | null }[];
}

/** What the API asks of the running node; src/observability/node.ts provides it. */
export interface NodeView {
  status(): Promise<NodeStatus>;
  /** Null while the node has not applied an object of this name. */
  service(name: string): Promise<ServiceStatus | null>;
  pool(name: string): Promise<PoolStatus | null>;
  /** Behind `after`, the `last` of the page before. A flow whose value changes meanwhile may be in two pages or in none; with sort 'age' none does. */
  flows(query: FlowQuery, after?: FlowPage['last']): Promise<FlowPage>;
  drops(): Promise<readonly DropCount[]>;
  /** All nodes of the cluster by name, this one among them. */
  nodes(): Promise<readonly NodeInfo[]>;
  /** Resolves when the kernel holds at least this store revision; rejects (code 'unavailable') at the deadline or when it cannot be applied. */
  applied(revision: number, timeoutMs: number): Promise<void>;
  /** Prometheus text and its content type. */
  metrics(): Promise<{ readonly contentType: string; readonly text: string }>;
  /** What would come of the store going from `before` to `next`: rows and live flows that would move. Changes nothing. */
  effect(before: Snapshot, next: Snapshot): Promise<Effect>;
  topology(query: TopologyQuery): Promise<Topology>;
  /** Throws 'full' (naming the field) when the kernel's tables have no room for these objects beside what they hold; called inside Store.update. */
  admit(next: Snapshot): void;
}
