// SPDX-License-Identifier: Apache-2.0
// What the reference model knows of a node: the tables as the control plane fills them, and what packets left behind.
// The model is written from docs/packet-path.md and the RFCs, not from bpf/, so that the two can contradict each other.
import type { Reason, Tally } from '../../src/dataplane/abi.gen.js';

export interface ModelBackend {
  readonly number: number;
  readonly pool: number;
  readonly slot: number;
  readonly address: Buffer; // 4 or 16 bytes
  valid: boolean;
  down: boolean;
  readonly onLink: boolean;
  readonly nextHopMac: Buffer;
  readonly sourceMac: Buffer;
  /** It leaves by the interface packets come in by. */
  readonly sameInterface: boolean;
  readonly mtu: number;
  readonly tags: Buffer; // 0, 4 or 8 bytes: type and TCI of each
}

export interface ModelPool {
  readonly number: number;
  ring: Uint16Array; // backend numbers, 4 a row: the owner, then those before it; no rows: no ring
  readonly quicLengths: readonly number[]; // by config rotation codepoint
  /** Backend numbers by codepoint and server ID in hex: `0:a1b2`. */
  readonly quicServers: ReadonlyMap<string, number>;
}

export interface Prefix {
  readonly address: Buffer;
  readonly bits: number;
}

export interface ModelService {
  readonly number: number;
  readonly address: Buffer;
  readonly port: number; // 0: every port without a service of its own
  readonly protocol: number;
  readonly pool: number;
  readonly countersStart: number;
  readonly flags: number; // ServiceFlag
  readonly sourceBits: number;
  readonly allow: readonly Prefix[];
  readonly deny: readonly Prefix[];
  /** With NAT: bytes that fit all ways to its backends; 0: not known. */
  readonly natMtu: number;
}

export enum FlowState {
  NEW = 0,
  ESTABLISHED = 1,
  FINISHED = 2,
}

export interface Flow {
  backend: number;
  /** The row its backend is a guess from: whose connection it is, is not known. */
  readonly row: readonly number[] | null;
  state: FlowState;
}

export interface Datagram {
  service: ModelService;
  backend: number;
  early: boolean;
}

export interface World {
  readonly ringKey: Uint32Array; // four words, little-endian
  readonly agentKey: Uint32Array;
  readonly tunnelSource: Buffer;
  readonly tunnelSource6: Buffer;
  readonly tunnelMtu: number;
  readonly guePort: number;
  /** The node can send the second half of a packet that is split. */
  readonly splits: boolean;
  readonly services: ReadonlyMap<string, ModelService>; // by serviceId
  readonly vips: ReadonlyMap<string, readonly ModelService[]>; // by the address's bytes as latin1
  readonly pools: ReadonlyMap<number, ModelPool>;
  readonly backends: ReadonlyMap<number, ModelBackend>;
  readonly flows: Map<string, Flow>;
  readonly datagrams: Map<string, Datagram>;
  readonly pairs: Map<string, Datagram>;
}

export type ReasonNumber = (typeof Reason)[keyof typeof Reason];
export type TallyNumber = (typeof Tally)[keyof typeof Tally];

/** Bytes of the output that the text leaves open: their value is the node's own. */
export interface Open {
  readonly at: number; // of the 32-bit word it is in
  readonly shift: number;
  readonly mask: number;
  /** Whose packets all have the same value here; null: that is open too. */
  readonly flow: string | null;
  readonly least: number;
}

export interface Verdict {
  readonly reason: ReasonNumber;
  /** Number of the service a drop or answer is counted for; 0: not known. */
  readonly service: number;
  readonly tallies: readonly TallyNumber[];
  /** Number of the service the tallies are counted for. */
  readonly of?: number;
  /** The frame as it leaves; null: it cannot be observed. */
  readonly out: Buffer | null;
  readonly open: readonly Open[];
  /** It leaves with a list of owners. */
  readonly listed?: true;
  /** Where the UDP checksum of a tunnel over IPv6 is. `holds`: it is right, as all it may be derived from is. */
  readonly tunnelChecksum?: { readonly at: number; readonly holds: boolean };
  /** Where the packet is counted, and its IP bytes; absent unless it went to a backend. */
  readonly counted?: { readonly index: number; readonly bytes: number };
  /** Index of `counters` at which a connection began. */
  readonly connection?: number;
}

export const serviceId = (address: Buffer, port: number, protocol: number): string =>
  `${address.toString('latin1')}/${port}/${protocol}`;

/** Whether the backend takes packets of a service with these flags. */
export const L2 = 2;
export function takes(world: World, number: number, flags: number): ModelBackend | null {
  const backend = world.backends.get(number);
  if (!backend?.valid) return null;
  return (flags & L2) !== 0 && !backend.onLink ? null : backend;
}
