// SPDX-License-Identifier: Apache-2.0
// Frames from addresses in bytes: the fuzz makes millions. Checksums are right unless said otherwise.
import { pseudoSum, sum } from '../model/outer.js';

export function ip(from: Buffer, to: Buffer, protocol: number, payload: Buffer, more: IpMore = {}): Buffer {
  const { tos = 0, ttl = 64, options = Buffer.alloc(0), id = 0, fragment = 0x4000, label = 0 } = more;
  if (from.length === 16) {
    const header = Buffer.alloc(40);
    header.writeUInt32BE((0x60000000 | (tos << 20) | label) >>> 0, 0);
    header.writeUInt16BE(payload.length & 0xffff, 4);
    header.writeUInt8(protocol, 6);
    header.writeUInt8(ttl, 7);
    header.set(from, 8);
    header.set(to, 24);
    return Buffer.concat([header, payload]);
  }
  const header = Buffer.concat([Buffer.alloc(20), options]);
  header.writeUInt8(0x40 | (header.length / 4), 0);
  header.writeUInt8(tos, 1);
  header.writeUInt16BE((header.length + payload.length) & 0xffff, 2);
  header.writeUInt16BE(id & 0xffff, 4);
  header.writeUInt16BE(fragment, 6);
  header.writeUInt8(ttl, 8);
  header.writeUInt8(protocol, 9);
  header.set(from, 12);
  header.set(to, 16);
  header.writeUInt16BE(~sum(header) & 0xffff, 10);
  return Buffer.concat([header, payload]);
}

export interface IpMore {
  readonly tos?: number;
  readonly ttl?: number;
  readonly options?: Buffer; // IPv4
  readonly id?: number;
  readonly fragment?: number; // IPv4: flags and offset as on the wire
  readonly label?: number;
}

export function tcp(
  from: Buffer,
  to: Buffer,
  fromPort: number,
  toPort: number,
  flags: number,
  payload: Buffer,
  options = 0,
): Buffer {
  const header = Buffer.alloc(20 + options * 4, 1);
  header.writeUInt16BE(fromPort, 0);
  header.writeUInt16BE(toPort, 2);
  header.writeUInt8((5 + options) << 4, 12);
  header.writeUInt8(flags, 13);
  header.writeUInt16BE(0, 16);
  const segment = Buffer.concat([header, payload]);
  segment.writeUInt16BE(~sum(segment, pseudoSum(from, to, 6, segment.length)) & 0xffff, 16);
  return segment;
}

export function udp(
  from: Buffer,
  to: Buffer,
  fromPort: number,
  toPort: number,
  payload: Buffer,
  summed = true,
): Buffer {
  const datagram = Buffer.concat([Buffer.alloc(8), payload]);
  datagram.writeUInt16BE(fromPort, 0);
  datagram.writeUInt16BE(toPort, 2);
  datagram.writeUInt16BE(datagram.length, 4);
  if (summed) datagram.writeUInt16BE(~sum(datagram, pseudoSum(from, to, 17, datagram.length)) & 0xffff || 0xffff, 6);
  return datagram;
}

export function icmp(from: Buffer, to: Buffer, type: number, code: number, rest: Buffer): Buffer {
  const message = Buffer.concat([Buffer.of(type, code, 0, 0), rest]);
  const pseudo = from.length === 16 ? pseudoSum(from, to, 58, message.length) : 0;
  message.writeUInt16BE(~sum(message, pseudo) & 0xffff, 2);
  return message;
}

/** An IPv6 extension header; `rest` fills it after the two bytes every one begins with. */
export function extension(next: number, units: number, size: number, rest: Buffer): Buffer {
  const header = Buffer.alloc(size);
  header.set(rest.subarray(0, size - 2), 2);
  header.writeUInt8(next, 0);
  header.writeUInt8(units, 1);
  return header;
}

export function fragmentHeader(next: number, offset: number, more: boolean, id: number): Buffer {
  const header = Buffer.alloc(8);
  header.writeUInt8(next, 0);
  header.writeUInt16BE(offset | (more ? 1 : 0), 2);
  header.writeUInt32BE(id >>> 0, 4);
  return header;
}
