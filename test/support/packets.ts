// SPDX-License-Identifier: Apache-2.0
// Builds frames byte by byte, for the packet tables and the bench.
import { parseAddress } from '../../src/model/address.js';

export const TCP = { FIN: 1, SYN: 2, RST: 4, PSH: 8, ACK: 16 } as const;

export interface PacketSpec {
  readonly from: string;
  readonly to: string;
  readonly fromPort: number;
  readonly toPort: number;
  readonly protocol: 'tcp' | 'udp';
  readonly flags?: number; // TCP; default ACK
  readonly payload?: number; // bytes of it, default 0
  readonly trafficClass?: number;
  readonly options?: number; // 32-bit words of IPv4 options
}

const ETHERNET = Buffer.from('020000000001020000000002', 'hex');
const PROTOCOL = { tcp: 6, udp: 17 } as const;

/** The Internet checksum (RFC 1071) of `data`, starting from `start`. */
export function checksum(data: Uint8Array, start = 0): number {
  let sum = start;
  for (let at = 0; at < data.length; at += 2) sum += ((data[at] ?? 0) << 8) | (data[at + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}

function transport(spec: PacketSpec): Buffer {
  const payload = Buffer.alloc(spec.payload ?? 0, 0x5a);
  const header = Buffer.alloc(spec.protocol === 'tcp' ? 20 : 8);
  header.writeUInt16BE(spec.fromPort, 0);
  header.writeUInt16BE(spec.toPort, 2);
  if (spec.protocol === 'tcp') {
    header.writeUInt32BE(1000, 4);
    header.writeUInt8(5 << 4, 12);
    header.writeUInt8(spec.flags ?? TCP.ACK, 13);
    header.writeUInt16BE(65535, 14);
  } else {
    header.writeUInt16BE(8 + payload.length, 4);
  }
  const segment = Buffer.concat([header, payload]);
  const pseudo = Buffer.alloc(8);
  pseudo.writeUInt32BE(segment.length, 0);
  pseudo.writeUInt32BE(PROTOCOL[spec.protocol], 4);
  const addresses = Buffer.concat([parseAddress(spec.from).bytes, parseAddress(spec.to).bytes]);
  const start = ~checksum(Buffer.concat([addresses, pseudo])) & 0xffff;
  segment.writeUInt16BE(checksum(segment, start), spec.protocol === 'tcp' ? 16 : 6);
  return segment;
}

/** An IPv4 header for `payload` bytes. DF set, ID 0 unless given. */
export function ipv4Header(
  from: string,
  to: string,
  protocol: number,
  payload: number,
  more: { tos?: number; ttl?: number; options?: number; fragment?: number; df?: boolean } = {},
): Buffer {
  const header = Buffer.alloc(20 + (more.options ?? 0) * 4, 1); // option 1: no operation
  header.writeUInt8(0x40 | (5 + (more.options ?? 0)), 0);
  header.writeUInt8(more.tos ?? 0, 1);
  header.writeUInt16BE(header.length + payload, 2);
  header.writeUInt16BE(0, 4);
  header.writeUInt16BE(more.fragment ?? (more.df === false ? 0 : 0x4000), 6);
  header.writeUInt8(more.ttl ?? 64, 8);
  header.writeUInt8(protocol, 9);
  header.writeUInt16BE(0, 10);
  header.set(parseAddress(from).bytes, 12);
  header.set(parseAddress(to).bytes, 16);
  header.writeUInt16BE(checksum(header), 10);
  return header;
}

/** An IPv6 header for `payload` bytes. */
export function ipv6Header(
  from: string,
  to: string,
  nextHeader: number,
  payload: number,
  more: { trafficClass?: number; flowLabel?: number; hopLimit?: number } = {},
): Buffer {
  const header = Buffer.alloc(40);
  header.writeUInt32BE((0x60000000 | ((more.trafficClass ?? 0) << 20) | (more.flowLabel ?? 0)) >>> 0, 0);
  header.writeUInt16BE(payload, 4);
  header.writeUInt8(nextHeader, 6);
  header.writeUInt8(more.hopLimit ?? 64, 7);
  header.set(parseAddress(from).bytes, 8);
  header.set(parseAddress(to).bytes, 24);
  return header;
}

/** Ethernet in front of an IP packet. */
export function frame(packet: Uint8Array, macs: Uint8Array = ETHERNET): Buffer {
  const v6 = ((packet[0] ?? 0) >> 4) === 6;
  return Buffer.concat([macs, Buffer.from(v6 ? '86dd' : '0800', 'hex'), packet]);
}

/** A whole frame: Ethernet, IP, TCP or UDP, all checksums right. */
export function packet(spec: PacketSpec): Buffer {
  const segment = transport(spec);
  const protocol = PROTOCOL[spec.protocol];
  const header = spec.from.includes(':')
    ? ipv6Header(spec.from, spec.to, protocol, segment.length, { trafficClass: spec.trafficClass ?? 0 })
    : ipv4Header(spec.from, spec.to, protocol, segment.length, { tos: spec.trafficClass ?? 0, options: spec.options ?? 0 });
  return frame(Buffer.concat([header, segment]));
}
