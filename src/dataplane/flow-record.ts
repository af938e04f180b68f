// SPDX-License-Identifier: Apache-2.0
// A flow as it is told, and which are asked for.

/** What a flow has when the balancer translates it. */
export interface NatEnds {
  /** What the client's address and port are to the backend; of the backend's family, as is `destination`. */
  readonly source: Uint8Array; // 16 bytes, IPv4 in the first 4
  readonly sourcePort: number;
  readonly destination: Uint8Array;
  readonly destinationPort: number;
  readonly family: number; // of both
  readonly replyPackets: number;
  readonly replyBytes: number;
  /** TCP: SYN to SYN-ACK, which is the way to the backend, and SYN-ACK to ACK, which is the way to the client. Null: not seen. */
  readonly backendNs: number | null;
  readonly clientNs: number | null;
}

/** A flow, its records on all CPUs added up. Numbers name the service and backend as in the maps. */
export interface FlowRecord {
  readonly service: number;
  readonly backend: number;
  readonly protocol: number;
  readonly family: number;
  readonly client: Uint8Array; // 16 bytes, IPv4 in the first 4
  readonly clientPort: number;
  readonly vipPort: number;
  readonly packets: number;
  readonly bytes: number;
  readonly state: number; // FlowState
  readonly firstNs: number; // CLOCK_MONOTONIC
  readonly idleNs: number; // in steps of about half a second
  readonly handshakeNs: number | null;
  /** Only when it is translated. Then `packets` and `bytes` are those of the requests, as always. */
  readonly nat?: NatEnds;
}

export interface FlowFilter {
  readonly service?: number;
  /** Any of these; a backend has one number in each pool it belongs to. */
  readonly backends?: ReadonlySet<number>;
  /** 16 bytes, IPv4 in the first 4. */
  readonly client?: Uint8Array;
}

export type FlowOrder = 'bytes' | 'packets' | 'age';
