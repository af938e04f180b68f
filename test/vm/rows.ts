// SPDX-License-Identifier: Apache-2.0
// What is sent to the kernel: each way to encapsulate, each kind of packet.
import assert from 'node:assert/strict';
import { ServiceFlag } from '../../src/dataplane/abi.gen.js';
import { parseAddress } from '../../src/model/address.js';
import type { PacketPath } from '../support/packet-path.js';
import { checksum, frame, ipv4Header, ipv6Header, type PacketSpec, packet, TCP } from '../support/packets.js';

/** As test/vm/network has them. */
const VIP = { 4: '192.0.2.10', 6: '2001:db8::10' } as const;
const BACKEND = { 4: '10.9.0.21', 6: 'fd00:9::21' } as const;
const TUNNEL_SOURCE = { 4: '10.9.0.10', 6: 'fd00:9::10' } as const;
const CLIENT = { 4: '203.0.113.7', 6: '2001:db8:1::7' } as const;
const MACS = Buffer.from('020000000009020000000001', 'hex');
const IP_HEADER = { 4: 20, 6: 40 } as const;
const GUE_PORT = 6080;

export interface Row {
  readonly mode: 'ipip' | 'gue';
  readonly inner: 4 | 6;
  readonly outer: 4 | 6;
}

export const ROWS: readonly Row[] = [
  { mode: 'ipip', inner: 4, outer: 4 },
  { mode: 'ipip', inner: 6, outer: 6 },
  { mode: 'ipip', inner: 4, outer: 6 },
  { mode: 'ipip', inner: 6, outer: 4 },
  { mode: 'gue', inner: 4, outer: 4 },
  { mode: 'gue', inner: 6, outer: 4 },
  { mode: 'gue', inner: 4, outer: 6 },
  { mode: 'gue', inner: 6, outer: 6 },
];

export const rowName = ({ mode, inner, outer }: Row): string => `${mode} IPv${inner} in IPv${outer}`;

/** Bytes in front of the inner packet, Ethernet's 14 among them. */
export const overhead = ({ mode, outer }: Row): number => 14 + IP_HEADER[outer] + (mode === 'gue' ? 8 : 0);

/** A packet to a VIP, and what the kernel has to do about it. */
export interface Shape {
  readonly name: string;
  readonly protocol: 'tcp' | 'udp';
  readonly packet: (row: Row, from: number) => Buffer;
  readonly payload: (row: Row) => number;
}

function shape(name: string, more: Partial<PacketSpec>, payload: (row: Row) => number = () => 0): Shape {
  const { protocol = 'udp' } = more;
  return {
    name,
    protocol,
    payload,
    packet: (row, fromPort) =>
      packet({
        from: CLIENT[row.inner],
        to: VIP[row.inner],
        fromPort,
        toPort: protocol === 'udp' ? 53 : 80,
        protocol,
        payload: payload(row),
        ...more,
      }),
  };
}

const plain = shape('UDP', {}, () => 12);
const filling = shape('UDP that fills the MTU', {}, (row) => 1500 + 14 - overhead(row) - IP_HEADER[row.inner] - 8);
/** For IPv6, which must have one, the shape as it is. */
const withoutChecksum = (shape: Shape): Shape => ({
  ...shape,
  name: `${shape.name} without checksum`,
  packet: (row, from) => {
    const whole = shape.packet(row, from);
    if (row.inner === 4) whole.writeUInt16BE(0, 14 + 20 + 6);
    return whole;
  },
});

export const SHAPES: readonly Shape[] = [
  plain,
  shape('UDP without payload', {}),
  shape('UDP of 333 bytes', {}, () => 333),
  filling,
  // RFC 6040: a mark of congestion outside and no ECN inside would be dropped.
  shape('UDP with a mark of congestion', { trafficClass: 0xff }, () => 12),
  withoutChecksum(plain),
  withoutChecksum(filling), // more than one piece for xdp_lb to add up
  {
    ...plain,
    name: 'UDP with padding',
    packet: (row, from) => Buffer.concat([plain.packet(row, from), Buffer.alloc(5, 0xee)]),
  },
  shape('SYN', { protocol: 'tcp', flags: TCP.SYN }),
];

/** The outer header as docs/packet-path.md says, around the packet of a frame. */
export function byHand(row: Row, whole: Buffer): Buffer {
  const size = row.inner === 4 ? whole.readUInt16BE(16) : 40 + whole.readUInt16BE(18);
  const inner = whole.subarray(14);
  const trafficClass = row.inner === 4 ? whole.readUInt8(15) : (whole.readUInt16BE(14) >> 4) & 0xff;
  const [from, to] = [TUNNEL_SOURCE[row.outer], BACKEND[row.outer]];
  const outer = (protocol: number, payload: number): Buffer =>
    row.outer === 4
      ? ipv4Header(from, to, protocol, payload, { tos: trafficClass })
      : ipv6Header(from, to, protocol, payload, { trafficClass });
  if (row.mode === 'ipip') return frame(Buffer.concat([outer(row.inner === 4 ? 4 : 41, size), inner]), MACS);
  const udp = Buffer.alloc(8);
  udp.writeUInt16BE(0xc000 | (checksum(whole.subarray(14, 14 + size)) & 0x3fff), 0);
  udp.writeUInt16BE(GUE_PORT, 2);
  udp.writeUInt16BE(8 + size, 4);
  if (row.outer === 6) {
    const pseudo = Buffer.concat([
      parseAddress(from).bytes,
      parseAddress(to).bytes,
      Buffer.of(0, 0, 0, 17),
      udp.subarray(4, 6),
    ]);
    const sum = checksum(Buffer.concat([pseudo, udp, inner.subarray(0, size)]));
    udp.writeUInt16BE(sum === 0 ? 0xffff : sum, 6);
  }
  return frame(Buffer.concat([outer(17, 8 + size), udp, inner]), MACS);
}

/** What xdp_lb, whose services and backend it sets to the row's, sends for a frame. Fails when it sends none, or another header. */
export function byXdp(path: PacketPath, row: Row, whole: Buffer): Buffer {
  const at = ROWS.indexOf(row) + 1;
  path.backend(at, BACKEND[row.outer], at, 1);
  path.ring(at, at * 10, Uint16Array.of(at, at, at));
  const flags = row.mode === 'gue' ? ServiceFlag.GUE : 0;
  path.service(1, VIP[row.inner], 53, 'udp', at, 0, flags);
  path.service(2, VIP[row.inner], 80, 'tcp', at, 4, flags);
  const run = path.program.run(whole, null);
  const out = Buffer.from(run.data);
  assert.equal(run.retval, 3, 'XDP_TX');
  const hand = byHand(row, whole);
  assert.equal(out.length, hand.length);
  const protocolAt = row.outer === 4 ? 14 + 9 : 14 + 6;
  assert.deepEqual([out.readUInt16BE(12), out[protocolAt]], [hand.readUInt16BE(12), hand[protocolAt]]);
  return out;
}

/** A frame with one bit of the byte at `offset` turned; from the end when negative. */
function turned(whole: Buffer, offset: number): Buffer {
  const changed = Buffer.from(whole);
  const at = offset < 0 ? whole.length + offset : offset;
  changed.writeUInt8(changed.readUInt8(at) ^ 1, at);
  return changed;
}

/** Frames of a row the kernel must not take, from one it takes; each with one wrong checksum that counts. */
export function corrupt(row: Row, send: (whole: Buffer) => Buffer, from: number): Buffer[] {
  const whole = plain.packet(row, from);
  const innerWrong = turned(whole, -1);
  if (row.mode === 'ipip' || row.outer === 4) return [send(innerWrong)];
  // The outer checksum covers the inner packet too: each on its own, and damage on the way.
  return [byHand(row, innerWrong), turned(send(whole), 14 + 40 + 7), turned(send(whole), -1)];
}
