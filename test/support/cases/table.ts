// SPDX-License-Identifier: Apache-2.0
// What the packet tables of xdp_lb are made of. They are written from docs/packet-path.md.
import { serviceKey } from '../../../src/controlplane/kernel-state.js';
import { KeyKind, ServiceOptions } from '../../../src/dataplane/abi.gen.js';
import { type Action, actionOf } from '../../../src/dataplane/reasons.js';
import { writeService } from '../../../src/dataplane/services.js';
import type { PacketPath } from '../packet-path.js';
import { type Form, type PacketSpec, packet } from '../packets.js';

export const VIP4 = '192.0.2.10';
export const VIP6 = '2001:db8::10';
export const CLIENT4 = '203.0.113.7';
export const CLIENT6 = '2001:db8:1::7';
/** An interface other than the one test runs come in by; nothing is sent, so it need not exist. */
export const OTHER_INTERFACE = 4242;

export interface PacketCase {
  readonly name: string;
  readonly packet: Buffer;
  /** struct xdp_md, when the run needs one. */
  readonly context?: Uint8Array;
  /** What happens before: packets of the same flow, a changed ring. */
  readonly state?: (path: PacketPath) => void;
  readonly action: Action;
  readonly reason: number;
  /** The backend's address; absent: the frame leaves as it came, or as `out` says. */
  readonly to?: string;
  readonly form?: Form;
  /** VLAN tags it leaves with. */
  readonly tags?: Buffer;
  /** Without `to`: the frame that leaves. */
  readonly out?: Buffer;
  /** The service a drop, a tally or, if made by `declare`, traffic is counted for; 0: not known. */
  readonly service?: number;
  /** Counted beside the reason, for `service`. */
  readonly tallies?: readonly number[];
  /** Whether it counts as a connection; absent: not looked at. */
  readonly begins?: boolean;
}

export type More = Omit<PacketCase, 'name' | 'packet' | 'action' | 'reason'>;
export type Row = readonly [name: string, packet: Buffer, more?: More];

export const all = (action: Action, reason: number, rows: readonly Row[]): PacketCase[] =>
  rows.map(([name, packet, more]) => ({ name, packet, action, reason, ...more }));

/** One case, its action by its reason: that the kernel agrees with actionOf is what each case compares. */
export const one = (name: string, reason: number, packet: Buffer, more: More = {}): PacketCase => ({
  name,
  packet,
  action: actionOf(reason),
  reason,
  ...more,
});

export interface Member {
  readonly address: string;
  readonly interface?: number;
  readonly valid?: boolean;
  readonly mtu?: number;
  readonly onLink?: boolean;
  readonly tags?: Buffer;
}

export interface Declared {
  readonly number: number; // from 30 on; its pool has the same
  readonly address: string;
  readonly port: number;
  readonly protocol?: 'tcp' | 'udp';
  readonly flags?: number;
  readonly members: readonly Member[];
  /** The only service of its address and protocol. */
  readonly alone?: boolean;
}

/** Traffic of a declared service is counted from here on, one for each of its members and one for others. */
export const countersOf = (service: number): number => service * SLOTS;
export const SLOTS = 8;
const ROWS = 16;
export const backendNumber = (service: number, slot: number): number => service * SLOTS + slot;

/** The backend's address: of its service and its place among the members. */
export const b4 = (service: number, slot = 1): string => `10.9.${service}.${slot}`;
export const b6 = (service: number, slot = 1): string => `fd00:9::${service.toString(16)}:${slot}`;

export function putMember(path: PacketPath, service: number, slot: number, member: Member): void {
  path.backend(backendNumber(service, slot), member.address, service, slot, member);
}

/** All new flows of the service go to this member. */
export const aim = (path: PacketPath, service: number, slot: number): void =>
  path.ring(service, service * ROWS, new Uint16Array(ROWS).fill(backendNumber(service, slot)));

/** Row n of the ring belongs to member n modulo their number. */
export const spread = (path: PacketPath, service: number, members: number): void =>
  path.ring(
    service,
    service * ROWS,
    Uint16Array.from({ length: ROWS }, (_, row) => backendNumber(service, 1 + (row % members))),
  );

/** The member `spread` gives a SipHash of 64 bits. */
export const memberOf = (hash: bigint, members: number): number =>
  1 + (Number(((hash >> 32n) * BigInt(ROWS)) >> 32n) % members);

/** Writes a service with a pool of its own; its ring leads to the first member. */
export function declare(path: PacketPath, it: Declared): void {
  const { number, address, port, protocol = 'tcp', flags = 0 } = it;
  for (const [at, member] of it.members.entries()) putMember(path, number, at + 1, member);
  aim(path, number, 1);
  path.service(number, address, port, protocol, number, countersOf(number), flags);
  if (it.alone) {
    const key = { ...serviceKey({ address, port: 0, protocol }), kind: KeyKind.FRAGMENTS };
    writeService(path.maps, key, { number, pool: number, countersStart: countersOf(number), flags });
  }
}

export const u32 = (value: number): Uint8Array => new Uint8Array(Uint32Array.of(value).buffer);

export function setOptions(path: PacketPath, service: number, more: Partial<ServiceOptions>): void {
  const options = { sourceMask: new Uint8Array(16), rateIntervalNs: 1n, rateBurstNs: 1n, natMtu: 0, ...more };
  path.maps.handle.service_options.set(u32(service), ServiceOptions.encode(options), 0);
}

/** A packet of a client; of the family of `to`. */
export const client = (to: string, toPort: number, more: Partial<PacketSpec> = {}): Buffer =>
  packet({
    from: to.includes(':') ? CLIENT6 : CLIENT4,
    to,
    fromPort: 40000,
    toPort,
    protocol: 'tcp',
    ...more,
  });

/** Sends packets ahead of the case's own. */
export const after =
  (...before: readonly Buffer[]) =>
  (path: PacketPath): void => {
    for (const each of before) path.program.run(each, null);
  };

/** The frame with `bytes` in place of what is at `offset`. */
export const patched = (whole: Buffer, offset: number, ...bytes: number[]): Buffer => {
  const changed = Buffer.from(whole);
  changed.set(bytes, offset);
  return changed;
};

export const padded = (whole: Buffer, bytes: number): Buffer => Buffer.concat([whole, Buffer.alloc(bytes, 0xee)]);

/** Back out of where it came from. */
export const turnedMacs = (whole: Buffer): Buffer => Buffer.concat([whole.subarray(6, 12), whole.subarray(0, 6)]);
