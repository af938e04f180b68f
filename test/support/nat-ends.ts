// SPDX-License-Identifier: Apache-2.0
// Who talks to whom in the packet tables of tc_nat, and what has to be equal of what it makes of a frame.
import assert from 'node:assert/strict';
import { formatAddress } from '../../src/model/address.js';
import { type NatPath, TC } from './nat-path.js';
import { NEXT_HOP_MAC, SOURCE_MAC } from './packet-path.js';
import { checksum, packet, TCP } from './packets.js';

export type Family = 4 | 6;
export const FAMILIES = [4, 6] as const;
export const CLIENT = { 4: '203.0.113.7', 6: '2001:db8:1::7' } as const;
export const VIP = { 4: '192.0.2.10', 6: '2001:db8::10' } as const;
export const BACKEND = { 4: '10.9.0.21', 6: 'fd00:9::21' } as const;
export const BACKEND_PORT = 8080;
/** The one address of the pool of a family. */
export const SOURCE = { 4: '10.9.0.10', 6: 'fd00:9::10' } as const;
/** Routers on either side of the node. */
export const NEAR_BACKEND = { 4: '10.8.0.1', 6: 'fd00:8::1' } as const;
export const NEAR_CLIENT = { 4: '203.0.113.1', 6: '2001:db8:1::1' } as const;

/** MACs a frame leaves with, the receiver's first. */
export type Macs = readonly [Uint8Array, Uint8Array];
export const TO_CLIENT: Macs = [Buffer.from('020000000002', 'hex'), Buffer.from('020000000001', 'hex')];
export const TO_BACKEND: Macs = [NEXT_HOP_MAC, SOURCE_MAC];
/** As it came, back to where it came from. */
export const BACK = TO_CLIENT;

/** The IPv4 address in 64:ff9b::/96. */
export const embedded = (address: string): string =>
  formatAddress(
    Buffer.from(`0064ff9b0000000000000000${Buffer.from(address.split('.').map(Number)).toString('hex')}`, 'hex'),
  );

export interface Ends {
  readonly from: string;
  readonly to: string;
  readonly fromPort: number;
  readonly toPort: number;
}

export const turned = ({ from, to, fromPort, toPort }: Ends): Ends => ({
  from: to,
  to: from,
  fromPort: toPort,
  toPort: fromPort,
});

let ports = 30_000;

/** Begins a connection with a client's port of its own: the ends of its requests outside and inside. */
export function begin(
  path: NatPath,
  { outside, inside }: { readonly outside: Family; readonly inside: Family },
  protocol: 'tcp' | 'udp',
  vipPort = 80,
): { readonly outside: Ends; readonly inside: Ends } {
  const client = ports++;
  const request: Ends = { from: CLIENT[outside], to: VIP[outside], fromPort: client, toPort: vipPort };
  assert.equal(path.run(packet({ ...request, protocol, flags: TCP.SYN })).retval, TC.REDIRECT);
  const nat = path.connections().find((each) => each.clientPort === client) ?? assert.fail('no connection');
  const from = formatAddress(nat.source.subarray(0, inside === 4 ? 4 : 16));
  return {
    outside: request,
    inside: { from, to: BACKEND[inside], fromPort: nat.sourcePort, toPort: BACKEND_PORT },
  };
}

/** The IPv4 header at `at` without its identification, which is one of chance where the packet may be cut. */
function withoutIdAt(frame: Buffer, at: number): void {
  const header = frame.subarray(at, at + 20);
  assert.equal(checksum(header), 0, 'the checksum of an IPv4 header');
  if (header.readUInt16BE(6) !== 0) return;
  header.writeUInt16BE(0, 4);
  header.writeUInt16BE(0, 10);
  header.writeUInt16BE(checksum(header), 10);
}

/** The frame without what is of chance in its IPv4 header, and in one it quotes. */
function withoutId(frame: Buffer): Buffer {
  const copy = Buffer.from(frame);
  if (copy.readUInt16BE(12) !== 0x0800) return copy;
  withoutIdAt(copy, 14);
  if (copy.readUInt8(23) === 1 && [3, 11, 12].includes(copy.readUInt8(34))) withoutIdAt(copy, 42);
  return copy;
}

/** Fails unless tc_nat sends `wanted`, with these MACs, for what came. */
export function becomes(path: NatPath, came: Buffer, wanted: Buffer, macs: Macs, what: string): void {
  const run = path.run(came);
  assert.equal(run.retval, TC.REDIRECT, what);
  const out = withoutId(Buffer.from(run.data));
  assert.equal(out.toString('hex'), withoutId(Buffer.concat([...macs, wanted.subarray(12)])).toString('hex'), what);
}

/** Fails unless tc_nat leaves the frame as it came. */
export function untouched(path: NatPath, came: Buffer, what = 'not ours'): void {
  const run = path.run(came);
  assert.equal(run.retval >>> 0, TC.UNSPEC, what);
  assert.equal(Buffer.from(run.data).toString('hex'), came.toString('hex'), what);
}
