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
  readonly unsummed?: boolean; // UDP without a checksum
  readonly data?: Uint8Array; // the payload itself, instead of `payload`
  readonly df?: boolean; // default true
  readonly tcpOptions?: Uint8Array; // whole words
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
  const payload = Buffer.from(spec.data ?? Buffer.alloc(spec.payload ?? 0, 0x5a));
  const options = spec.tcpOptions ?? new Uint8Array();
  const header = Buffer.alloc(spec.protocol === 'tcp' ? 20 + options.length : 8);
  header.writeUInt16BE(spec.fromPort, 0);
  header.writeUInt16BE(spec.toPort, 2);
  if (spec.protocol === 'tcp') {
    header.writeUInt32BE(1000, 4);
    header.writeUInt8((5 + options.length / 4) << 4, 12);
    header.set(options, 20);
    header.writeUInt8(spec.flags ?? TCP.ACK, 13);
    header.writeUInt16BE(65535, 14);
  } else {
    header.writeUInt16BE(8 + payload.length, 4);
  }
  const segment = Buffer.concat([header, payload]);
  if (spec.unsummed) return segment;
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
  more: { tos?: number; ttl?: number; options?: number; fragment?: number; df?: boolean; id?: number } = {},
): Buffer {
  const header = Buffer.alloc(20 + (more.options ?? 0) * 4, 1); // option 1: no operation
  header.writeUInt8(0x40 | (5 + (more.options ?? 0)), 0);
  header.writeUInt8(more.tos ?? 0, 1);
  header.writeUInt16BE(header.length + payload, 2);
  header.writeUInt16BE(more.id ?? 0, 4);
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
  const v6 = (packet[0] ?? 0) >> 4 === 6;
  return Buffer.concat([macs, Buffer.from(v6 ? '86dd' : '0800', 'hex'), packet]);
}

/** A whole frame: Ethernet, IP, TCP or UDP, all checksums right. */
export function packet(spec: PacketSpec): Buffer {
  const segment = transport(spec);
  const protocol = PROTOCOL[spec.protocol];
  const header = spec.from.includes(':')
    ? ipv6Header(spec.from, spec.to, protocol, segment.length, { trafficClass: spec.trafficClass ?? 0 })
    : ipv4Header(spec.from, spec.to, protocol, segment.length, {
        tos: spec.trafficClass ?? 0,
        options: spec.options ?? 0,
        df: spec.df ?? true,
      });
  return frame(Buffer.concat([header, segment]));
}

/** An IP packet of the addresses' family in a frame. */
export function ipFrame(
  from: string,
  to: string,
  protocol: number,
  payload: Uint8Array,
  more: { tos?: number; ttl?: number; fragment?: number; id?: number; options?: number; df?: boolean } = {},
): Buffer {
  const header = from.includes(':')
    ? ipv6Header(from, to, protocol, payload.length, { trafficClass: more.tos ?? 0, hopLimit: more.ttl ?? 64 })
    : ipv4Header(from, to, protocol, payload.length, more);
  return frame(Buffer.concat([header, payload]));
}

/** The sum RFC 8200, 8.1 puts in front of a transport's, as `checksum` starts from it. */
export function pseudoSum(from: string, to: string, protocol: number, size: number): number {
  const rest = Buffer.alloc(8);
  rest.writeUInt32BE(size, 0);
  rest.writeUInt32BE(protocol, 4);
  return ~checksum(Buffer.concat([parseAddress(from).bytes, parseAddress(to).bytes, rest])) & 0xffff;
}

/** ICMP or ICMPv6 by the addresses' family; `rest` follows the checksum. */
export function icmpMessage(from: string, to: string, type: number, code: number, rest: Uint8Array): Buffer {
  const message = Buffer.concat([Buffer.of(type, code, 0, 0), rest]);
  message.writeUInt16BE(checksum(message, from.includes(':') ? pseudoSum(from, to, 58, message.length) : 0), 2);
  return message;
}

/** An ICMP or ICMPv6 message in a frame: type, code, the word behind the checksum, and what follows that. */
export function icmpFrame(
  from: string,
  to: string,
  [type, code, word]: readonly [number, number, number],
  body: Uint8Array,
  more: Parameters<typeof ipFrame>[4] = {},
): Buffer {
  const rest = Buffer.concat([Buffer.alloc(4), body]);
  rest.writeUInt32BE(word);
  return ipFrame(from, to, from.includes(':') ? 58 : 1, icmpMessage(from, to, type, code, rest), more);
}

/** IEEE 802.1Q tags as on the wire: type and TCI of each, the outer one first. */
export const tags = (...each: readonly (readonly [type: number, tci: number])[]): Buffer =>
  Buffer.concat(each.map(([type, tci]) => Buffer.of(type >> 8, type & 0xff, tci >> 8, tci & 0xff)));

export const withTags = (whole: Buffer, more: Uint8Array): Buffer =>
  Buffer.concat([whole.subarray(0, 12), more, whole.subarray(12)]);

/** Bytes of the IP packet that `packet` begins with, from its own header. */
export const ipSizeOf = (packet: Buffer): number =>
  packet.readUInt8(0) >> 4 === 6 ? 40 + packet.readUInt16BE(4) : packet.readUInt16BE(2);

export type Form = 'gue' | 'l2';

/** How a packet travels to its backend. */
export interface Way {
  readonly from4: string;
  readonly from6: string;
  readonly to: string;
  readonly form?: Form; // default IP in IP
  /** What is the node's own to choose: */
  readonly flowLabel: number;
  readonly sourcePort: number; // of GUE
}

/** The outer headers (RFC 2003, 2473, 4213; GUE variant 1) of a packet with padding behind it, and the packet. */
export function tunnelled(packet: Buffer, way: Way): Buffer {
  if (way.form === 'l2') return packet;
  const v6 = packet.readUInt8(0) >> 4 === 6;
  const tos = v6 ? (packet.readUInt16BE(0) >> 4) & 0xff : packet.readUInt8(1);
  const inner = packet.subarray(0, ipSizeOf(packet));
  const [from, protocol] = [way.to.includes(':') ? way.from6 : way.from4, way.form ? 17 : v6 ? 41 : 4];
  const udp = Buffer.alloc(way.form ? 8 : 0);
  const size = udp.length + inner.length;
  if (way.form) {
    udp.writeUInt16BE(way.sourcePort, 0);
    udp.writeUInt16BE(6080, 2);
    udp.writeUInt16BE(size, 4);
  }
  if (!way.to.includes(':')) return Buffer.concat([ipv4Header(from, way.to, protocol, size, { tos }), udp, packet]);
  // Over IPv6 the checksum is a must, and 0 is sent as 0xffff (RFC 8200, 8.1).
  if (way.form)
    udp.writeUInt16BE(checksum(Buffer.concat([udp, inner]), pseudoSum(from, way.to, 17, size)) || 0xffff, 6);
  const header = ipv6Header(from, way.to, protocol, size, { trafficClass: tos, flowLabel: way.flowLabel });
  return Buffer.concat([header, udp, packet]);
}
