// SPDX-License-Identifier: Apache-2.0
// What has arrived at a side, in words that are the same in both worlds when the packet is: without what a NAT may choose.
import { formatAddress } from '../../src/model/address.js';
import { checksum, pseudoSum } from '../support/packets.js';
import type { Ends } from './flow.js';

const PROTOCOLS: Readonly<Record<number, string>> = { 1: 'icmp', 6: 'tcp', 17: 'udp', 58: 'icmp' };

/** An IP packet in one piece. */
export interface Arrived {
  readonly ip: Buffer;
  readonly family: 4 | 6;
  readonly protocol: number;
  readonly from: string;
  readonly to: string;
  readonly id: number; // as in Packet
  readonly body: Buffer; // behind the IP header
  readonly pieces: number;
  readonly flaw: string; // of its outer shape; '': none
}

interface Piece {
  readonly ip: Buffer;
  readonly family: 4 | 6;
  readonly protocol: number;
  readonly id: number;
  readonly key: string; // of its datagram
  readonly header: number; // bytes
  readonly offset: number;
  readonly more: boolean;
  readonly body: Buffer;
}

/** The IP packet of a frame; null: it is none, or not for one host. */
function pieceOf(whole: Buffer): Piece | null {
  const type = whole.readUInt16BE(12);
  if (whole.readUInt8(0) & 1 || (type !== 0x0800 && type !== 0x86dd)) return null;
  const rest = whole.subarray(14);
  if (type === 0x0800) {
    const [header, word] = [(rest.readUInt8(0) & 15) * 4, rest.readUInt16BE(6)];
    const ip = rest.subarray(0, rest.readUInt16BE(2));
    const id = ip.readUInt16BE(4);
    return {
      ...{
        ip,
        family: 4,
        protocol: ip.readUInt8(9),
        id,
        header,
        offset: (word & 0x1fff) * 8,
        more: (word & 0x2000) > 0,
      },
      ...{ key: `${id} ${ip.toString('hex', 12, 20)}`, body: ip.subarray(header) },
    };
  }
  const ip = rest.subarray(0, 40 + rest.readUInt16BE(4));
  const id = ip.readUInt32BE(0) & 0xfffff;
  const isFragment = ip.readUInt8(6) === 44;
  const word = isFragment ? ip.readUInt16BE(42) : 0;
  return {
    ...{
      ip,
      family: 6,
      protocol: ip.readUInt8(isFragment ? 40 : 6),
      id,
      header: 40,
      offset: word & ~7,
      more: (word & 1) > 0,
    },
    ...{ key: `${id} ${ip.toString('hex', 8, 40)}`, body: ip.subarray(isFragment ? 48 : 40) },
  };
}

/** The packets of these frames in the order of their last pieces, fragments put together; of a datagram with a hole there is nothing. */
export function packetsOf(frames: readonly Buffer[]): Arrived[] {
  const parts = new Map<string, Piece[]>();
  return frames.flatMap((whole) => {
    const piece = pieceOf(whole);
    if (!piece) return [];
    const flaw = piece.family === 4 && checksum(piece.ip.subarray(0, piece.header)) !== 0 ? 'IP checksum wrong; ' : '';
    if (!piece.more && piece.offset === 0) return [arrived(piece, piece.body, 1, flaw)];
    const some = [...(parts.get(piece.key) ?? []), piece].sort((a, b) => a.offset - b.offset);
    parts.set(piece.key, some);
    let size = 0;
    for (const each of some) if (each.offset === size) size += each.body.length;
    const [first, last] = [some[0], some.at(-1)];
    if (!first || !last || last.more || size !== last.offset + last.body.length) return [];
    parts.delete(piece.key);
    return [arrived(first, Buffer.concat(some.map(({ body }) => body)), some.length, flaw)];
  });
}

function arrived({ ip, family, protocol, id }: Piece, body: Buffer, pieces: number, flaw: string): Arrived {
  const [from, size] = family === 4 ? [12, 4] : [8, 16];
  const address = (at: number): string => formatAddress(ip.subarray(at, at + size));
  return { ip, family, protocol, id, body, pieces, flaw, from: address(from), to: address(from + size) };
}

/** Its ends, an echo's identifier as both ports. */
export function endsIn({ protocol, body, from, to }: Arrived): Ends {
  const isEcho = PROTOCOLS[protocol] === 'icmp';
  const ports = isEcho ? [body.readUInt16BE(4), body.readUInt16BE(4)] : [body.readUInt16BE(0), body.readUInt16BE(2)];
  return { from: { address: from, port: ports[0] ?? 0 }, to: { address: to, port: ports[1] ?? 0 } };
}

export const isError = ({ family, protocol, body }: Arrived): boolean =>
  PROTOCOLS[protocol] === 'icmp' && (family === 4 ? [3, 11, 12].includes(body.readUInt8(0)) : body.readUInt8(0) < 128);

/** How far a checksum is from the right one, which no NAT may change; ones' complement. */
function sumOf({ family, protocol, body, from, to }: Arrived): string {
  const at = ({ 1: 2, 6: 16, 17: 6, 58: 2 } as Readonly<Record<number, number>>)[protocol] ?? 0;
  const stored = body.readUInt16BE(at);
  if (protocol === 17 && stored === 0) return 'none';
  const pseudo = family === 4 && protocol === 1 ? 0 : pseudoSum(from, to, protocol, body.length);
  const off = checksum(body, pseudo);
  return off === 0 || off === 0xffff ? 'right' : `off by ${off}`;
}

/** Everything but ends, identifier and checksum; these only as whether they are right. `outer`: what to say of its addresses. */
export function tell(packet: Arrived, outer: string): string {
  const { ip, family, protocol, body, flaw } = packet;
  const name = PROTOCOLS[protocol] ?? `protocol ${protocol}`;
  const header =
    family === 4
      ? `tos ${ip.readUInt8(1)} ttl ${ip.readUInt8(8)} flags ${packet.pieces > 1 ? 0 : ip.readUInt8(6) >> 5} options ${ip.toString('hex', 20, (ip.readUInt8(0) & 15) * 4)}`
      : `class ${(ip.readUInt16BE(0) >> 4) & 0xff} ttl ${ip.readUInt8(7)}`;
  const blank = Buffer.from(body);
  if (name === 'icmp') blank.fill(0, 2, 4);
  if (name === 'icmp' && !isError(packet)) blank.fill(0, 4, 6);
  if (name === 'tcp') blank.fill(0, 0, 4).fill(0, 16, 18);
  if (name === 'udp') blank.fill(0, 0, 4).fill(0, 6, 8);
  const shown = isError(packet) ? blank.subarray(0, 8) : blank;
  return `${flaw}${outer}: IPv${family} ${header} ${name} sum ${sumOf(packet)} ${shown.length} bytes ${shown.toString('hex')}`;
}

/**
 * How a quote differs from what was sent, `hops` routers before it was quoted. Of TCP headers that are cut behind their checksum's
 * beginning (17 to 19 bytes), half a checksum is never looked at, and with `lax` a whole one is not either.
 */
export function quoteOf({ body }: Arrived, sent: Buffer, hops: number, lax: boolean): string {
  const quote = Buffer.from(body.subarray(8));
  const was = Buffer.from(sent.subarray(14));
  const v6 = was.readUInt8(0) >> 4 === 6;
  const at = v6 ? 7 : 8;
  was.writeUInt8(was.readUInt8(at) - hops, at);
  const header = v6 ? 40 : (was.readUInt8(0) & 15) * 4;
  if (!v6) {
    was.writeUInt16BE(0, 10);
    was.writeUInt16BE(checksum(was.subarray(0, header)), 10);
  }
  const left = quote.length - header;
  const isCut = was.readUInt8(v6 ? 6 : 9) === 6 && left > 16 && left < 20;
  if (isCut && (lax || left === 17)) was.copy(quote, header + 16, header + 16, header + Math.min(left, 18));
  const wrong = quote.findIndex((byte, index) => byte !== was[index]);
  const cut = isCut ? ', cut in the checksum’s neighbourhood' : '';
  if (wrong < 0) return `quotes ${quote.length} bytes of what was sent${cut}`;
  return `quotes ${quote.length} bytes, byte ${wrong} (${wrong - header} of the transport) not as sent: ${quote.toString('hex', wrong, wrong + 8)}, sent ${was.toString('hex', wrong, wrong + 8)}`;
}
