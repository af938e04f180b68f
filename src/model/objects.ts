// SPDX-License-Identifier: Apache-2.0

export type Protocol = 'tcp' | 'udp';
export type BackendState = 'active' | 'drain' | 'disabled';

/** A member of a pool. `address` is canonical text (RFC 5952 for IPv6); `weight` 0..256, 0 takes no new flow. */
export interface Backend {
  readonly name: string;
  readonly address: string;
  readonly weight: number;
  readonly state: BackendState;
}

/** A set of backends and the ring over them. `ring.size` 0 means chosen from the member count. Backends are ordered by name. */
export interface Pool {
  readonly name: string;
  readonly backends: readonly Backend[];
  readonly ring: { readonly size: number };
}

/** What clients connect to: `address` (the VIP, canonical text), `port` 1..65535, `protocol`. */
export interface Service {
  readonly name: string;
  readonly address: string;
  readonly port: number;
  readonly protocol: Protocol;
  readonly pool: string;
  readonly forwarding: 'ipip';
  readonly affinity: 'flow';
}

/** An object as the store holds it; `revision` is the store revision of its last change and the object's ETag. */
export interface Stored<T> {
  readonly value: T;
  readonly revision: number;
}

/** Everything the store holds at one revision. `hashKey` is the cluster's secret for the ring hash: 32 hex digits (SipHash key, 16 bytes). */
export interface Snapshot {
  readonly revision: number;
  readonly hashKey: string;
  readonly services: ReadonlyMap<string, Stored<Service>>;
  readonly pools: ReadonlyMap<string, Stored<Pool>>;
}
