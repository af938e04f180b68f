// SPDX-License-Identifier: Apache-2.0
// Who talks to what: clients by prefix, services, backends, and what flows between them.

export interface TopologyQuery {
  /** Bits of a client's address that count: 0..32 and 0..128. */
  readonly prefix4: number;
  readonly prefix6: number;
  /** Client prefixes shown, those with the most flows; the rest is one, "other". */
  readonly clients: number;
  /** Services shown, those with the most live flows. */
  readonly services: number;
  /** Only this one. */
  readonly service?: string | undefined;
}

/** Per second, over `intervalSeconds` of the topology. Packets and bytes are those of requests: answers do not pass here (but with NAT, which counts them apart). */
export interface Rates {
  readonly packetsPerSecond: number;
  readonly bytesPerSecond: number;
}

/** `flows`: live ones. */
export interface Carried extends Rates {
  readonly flows: number;
}

/** Counted in the kernel since the service is there. */
export interface Counted extends Carried {
  readonly connections: number;
  readonly connectionsPerSecond: number;
}

export interface Topology {
  readonly at: string; // RFC 3339
  readonly intervalSeconds: number;
  readonly servicesLeftOut: number;
  /** `prefix` null: all the others together, of which there are `prefixes`. */
  readonly clients: readonly (Carried & {
    readonly id: string;
    readonly prefix: string | null;
    readonly prefixes: number;
  })[];
  readonly services: readonly (Counted & {
    readonly name: string;
    readonly address: string;
    readonly port: number;
    readonly protocol: string;
    readonly forwarding: string;
    readonly pool: string;
  })[];
  readonly backends: readonly (Counted & {
    readonly pool: string;
    readonly name: string;
    readonly address: string;
    readonly state: string;
  })[];
  /** `client` is an id of `clients`. Rates of flows that ended between are missing here. */
  readonly clientEdges: readonly (Carried & { readonly client: string; readonly service: string })[];
  readonly backendEdges: readonly (Counted & {
    readonly service: string;
    readonly pool: string;
    readonly backend: string;
  })[];
}
