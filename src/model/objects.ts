// SPDX-License-Identifier: Apache-2.0

export type Protocol = 'tcp' | 'udp';
export type BackendState = 'active' | 'drain' | 'disabled';

/** A member of a pool. `address` is canonical text (RFC 5952 for IPv6); `weight` 0..256, 0 takes no new flow. */
export interface Backend {
  readonly name: string;
  readonly address: string;
  /** Where it listens, for services with forwarding 'nat'. Default: the service's port. */
  readonly port?: number;
  readonly weight: number;
  readonly state: BackendState;
  /** With state 'drain', written by the drain verb. From `deadline` on it takes nothing any more. RFC 3339, UTC. */
  readonly drain?: { readonly since: string; readonly deadline?: string };
  /** QUIC-LB server IDs (draft-ietf-quic-load-balancers) by config rotation codepoint 0..6; `id`: 1 to 15 bytes in lower-case hex. */
  readonly serverIds?: readonly ServerId[];
}

export interface ServerId {
  readonly config: number;
  readonly id: string;
}

/** A set of backends and the ring over them. `ring.size` 0 means chosen from the member count. Backends are ordered by name. */
export interface Pool {
  readonly name: string;
  readonly backends: readonly Backend[];
  readonly ring: { readonly size: number };
  /** How long a row of the ring keeps an owner it was taken from; 0: not at all. Default: HOLD_SECONDS. */
  readonly holdSeconds?: number;
  /** Absent: nobody looks, all backends are held to be up. */
  readonly healthCheck?: HealthCheck;
  /** When more than half of the backends are down by their checks: take no notice of it, or do. Default: open. */
  readonly whenAllDown?: 'open' | 'closed';
}

/** How backends are looked after. Times are seconds, with fractions. */
export interface HealthCheck {
  readonly type: 'tcp' | 'http' | 'https' | 'udp' | 'grpc';
  /** Default: the backend's own, else that of a service of the pool. */
  readonly port?: number;
  readonly interval: number;
  /** Default: half the interval, at most 1. */
  readonly timeout?: number;
  /** So many in a row that are well bring a backend back, so many that are not take it out. */
  readonly rise: number;
  readonly fall: number;
  /** Where it goes: to the backend's address, or to the service's through the tunnel that its packets take. */
  readonly via: 'direct' | 'tunnel';
  /** How long one that came back takes to get its full weight again; 0: it has it at once. */
  readonly slowStart: number;
  /** http and https. Defaults: '/'; the address; 200 to 399. */
  readonly path?: string;
  readonly host?: string;
  readonly expect?: readonly number[];
  /** https: whether the certificate has to be good for `host`. Default: no. */
  readonly verify?: boolean;
  /** udp: text, or 'hex:' and digits. What is sent, and what the answer begins with. Defaults: nothing; anything. */
  readonly send?: string;
  readonly receive?: string;
  /** grpc: the service asked for. Default: '', the server. */
  readonly service?: string;
}

/** What the nodes have agreed on about a pool's backends; written by one of them, in the pool's document. */
export interface PoolHealth {
  /** More than half are down: all are kept in force. */
  readonly failOpen: boolean;
  /** Backends that are down, by name. `since`: Unix ms, on the clock of whoever wrote it. */
  readonly down: readonly { readonly name: string; readonly since: number }[];
  /** Backends on their way back, by name: they have `step` of SLOW_STEPS parts of their rows. */
  readonly slow: readonly { readonly name: string; readonly step: number }[];
}

/** A return moves rows so many times. */
export const SLOW_STEPS = 4;

export const HOLD_SECONDS = 900;

/** What the ring is to know of a backend. `live`: takes rows, or `part` of them (0..1); `drain`: keeps its flows; `down`: takes nothing. */
export interface RingLogMember {
  readonly name: string;
  readonly weight: number;
  readonly state: 'live' | 'drain' | 'down';
  readonly part?: number;
}

/**
 * What a pool's members were, so that every node, and a daemon that starts anew, computes the same rows with the same previous owners
 * (src/ring/history.ts). Kept with the pool, in its document; controlplane/ring-log.ts writes and reads it.
 */
export interface RingLog {
  /** Of the members in force: the number of changes the pool has had, and one. */
  readonly generation: number;
  /** Rows. Kept while the pool grows and shrinks, for rows of two sizes have nothing in common. */
  readonly size: number;
  /** The members before the first of `changes`, and since when, Unix ms. */
  readonly at: number;
  readonly members: readonly RingLogMember[];
  /** Oldest first. `set`: members that came or changed; `removed`: names. */
  readonly changes: readonly {
    readonly at: number; // Unix ms, never before the one before
    readonly set: readonly RingLogMember[];
    readonly removed: readonly string[];
  }[];
  /** Until `at`, with another size. */
  readonly before?: RingLog;
}

/** What clients connect to: `address` (the VIP, canonical text), `port` 0..65535 (0: every port without a service of its own), `protocol`. */
export interface Service {
  readonly name: string;
  readonly address: string;
  readonly port: number;
  readonly protocol: Protocol;
  readonly pool: string;
  readonly forwarding: Forwarding;
  readonly affinity: Affinity;
  /** With affinity 'source': how many bits of the client's address count. Default: all. */
  readonly affinityPrefix?: { readonly ipv4: number; readonly ipv6: number };
  /** False: no flow is remembered, the ring alone decides. Default: true. */
  readonly flowMemory?: boolean;
  /** Canonical prefixes of the service's family. Absent or empty: no list. */
  readonly allow?: readonly string[];
  readonly deny?: readonly string[];
  /** Per source. */
  readonly rateLimit?: RateLimit;
  /** With forwarding 'nat'. Default: auto. */
  readonly snat?: SourceNat;
  /** With forwarding 'nat': the most that SYNs of either side may ask for as maximum segment size, bytes. Default: what they like. */
  readonly mss?: MssClamp;
}

export interface RateLimit {
  readonly packetsPerSecond: number;
  readonly burst: number;
}

export type Forwarding = 'ipip' | 'gue' | 'l2' | 'nat';

/** Of a TCP segment: what every IPv4 host takes (RFC 9293, 3.7.1), and what an IPv4 packet has room for. */
export const MSS_MIN = 536;
export const MSS_MAX = 65_495;

/** Bytes, or 'auto': what fits the ways to the client's router and to the backend. */
export type MssClamp = 'auto' | number;

/** What becomes of a client's address on the way to a backend: it stays, or is one of the node's, or one of these. */
export type SourceNat = 'none' | 'auto' | readonly string[];
export type Affinity = 'flow' | 'source' | 'quic-cid';

/** An object as the store holds it; `revision` is the store revision of its last change and the object's ETag. */
export interface Stored<T> {
  readonly value: T;
  readonly revision: number;
}

/** Without a log: a pool that has had one set of members only. */
export interface StoredPool extends Stored<Pool> {
  readonly log?: RingLog;
  /** Without: all are up. Its changes leave `revision` as it is: to whoever edits the pool it has not changed. */
  readonly health?: PoolHealth;
  /** The store's own revision of the document, where that is a later one. */
  readonly written?: number;
}

/** Everything the store holds at one revision. `hashKey` is the cluster's secret for the ring hash: 32 hex digits (SipHash key, 16 bytes). */
export interface Snapshot {
  readonly revision: number;
  readonly hashKey: string;
  readonly services: ReadonlyMap<string, Stored<Service>>;
  readonly pools: ReadonlyMap<string, StoredPool>;
}
