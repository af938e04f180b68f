// SPDX-License-Identifier: Apache-2.0
// docs/packet-path.md, "What becomes of a packet", steps 1 to 6, without ICMP.
import { Reason } from '../../src/dataplane/abi.gen.js';
import type { ReasonNumber } from './world.js';

export const TCP = 6;
export const UDP = 17;
export const ICMP = 1;
export const ICMP6 = 58;
const HOP_BY_HOP = 0;
const ROUTING = 43;
const FRAGMENT = 44;
const AUTHENTICATION = 51;
const OPTIONS = 60;
const EXTENSIONS: readonly number[] = [HOP_BY_HOP, ROUTING, OPTIONS, AUTHENTICATION, FRAGMENT];
const MAX_HEADERS = 6;

/** A frame to a VIP. Offsets are of the frame. */
export interface Packet {
  readonly frame: Buffer;
  /** Bytes in the frame's first buffer. */
  readonly linear: number;
  readonly v6: boolean;
  readonly ip: number; // where the IP header begins
  readonly from: Buffer;
  readonly to: Buffer;
  readonly size: number; // IP bytes
  readonly fragment: Fragment | null;
  readonly protocol: number;
  readonly transport: number; // where TCP, UDP, ICMP or a later fragment's data begins
  readonly fromPort: number;
  readonly toPort: number;
}

export interface Fragment {
  readonly id: number;
  readonly offset: number; // bytes
  readonly more: boolean;
}

export const isFirst = (packet: Packet): boolean => packet.fragment === null || packet.fragment.offset === 0;

/** A packet to a VIP as far as its parts could be told, or the reason it ends with. */
export type Parsed = Packet | ReasonNumber;

/** Step 1: where the IP header begins, and of which family; null when it is not IP. */
function link(frame: Buffer): { ip: number; v6: boolean } | null {
  let at = 12;
  for (let tags = 0; ; tags++) {
    if (frame.length < at + 2) return null;
    const type = frame.readUInt16BE(at);
    if (type === 0x0800 || type === 0x86dd) return { ip: at + 2, v6: type === 0x86dd };
    if ((type !== 0x8100 && type !== 0x88a8) || tags === 2) return null;
    at += 4;
  }
}

export function parse(frame: Buffer, linear: number, isVip: (address: Buffer) => boolean): Parsed {
  const found = link(frame);
  if (found === null) return Reason.NOT_IP;
  const { ip, v6 } = found;
  if (frame.length < ip + (v6 ? 40 : 20)) return Reason.RUNT;
  const from = v6 ? frame.subarray(ip + 8, ip + 24) : frame.subarray(ip + 12, ip + 16);
  const to = v6 ? frame.subarray(ip + 24, ip + 40) : frame.subarray(ip + 16, ip + 20);
  if (!isVip(to)) return Reason.NOT_OURS;
  const base: Base = { frame, linear, v6, ip, from, to };
  return v6 ? parse6(base) : parse4(base);
}

type Base = Pick<Packet, 'frame' | 'linear' | 'v6' | 'ip' | 'from' | 'to'>;

function parse4(base: Base): Parsed {
  const { frame, ip } = base;
  const first = frame.readUInt8(ip);
  const header = (first & 15) * 4;
  const size = frame.readUInt16BE(ip + 2);
  if (first >> 4 !== 4 || header < 20 || size < header) return Reason.MALFORMED;
  if (ip + size > frame.length) return Reason.TRUNCATED;
  const bits = frame.readUInt16BE(ip + 6);
  const offset = (bits & 0x1fff) * 8;
  const more = (bits & 0x2000) !== 0;
  const fragment = offset > 0 || more ? { id: frame.readUInt16BE(ip + 4), offset, more } : null;
  const fault = fragment && fragmentFault(fragment, size - header);
  return fault ?? transport(base, size, fragment, frame.readUInt8(ip + 9), ip + header);
}

function parse6(base: Base): Parsed {
  const { frame, ip, linear } = base;
  if (frame.readUInt8(ip) >> 4 !== 6) return Reason.MALFORMED;
  const size = 40 + frame.readUInt16BE(ip + 4);
  const end = ip + size;
  if (end > frame.length) return Reason.TRUNCATED;
  const chain = walk(frame, ip + 40, end, linear, frame.readUInt8(ip + 6), true);
  return typeof chain === 'number' ? chain : transport(base, size, chain.fragment, chain.protocol, chain.at);
}

interface Chain {
  readonly protocol: number;
  readonly at: number;
  readonly fragment: Fragment | null;
}

/** Step 4, and step 5 on the way. Also for the packet an ICMP error quotes, which is not `whole`: its size tells nothing. */
export function walk(
  frame: Buffer,
  start: number,
  end: number,
  linear: number,
  first: number,
  whole: boolean,
): Chain | ReasonNumber {
  let protocol = first;
  let at = start;
  let fragment: Fragment | null = null;
  let seenFragment = false;
  for (let count = 0; ; count++) {
    const known = EXTENSIONS.includes(protocol);
    if (!known || (fragment !== null && fragment.offset > 0)) return { protocol, at, fragment };
    if (count === MAX_HEADERS) return Reason.EXTENSION;
    if (at + 8 > end) return Reason.MALFORMED;
    if (at + 8 > linear) return Reason.TRUNCATED;
    const units = frame.readUInt8(at + 1);
    const size = protocol === FRAGMENT ? 8 : protocol === AUTHENTICATION ? (units + 2) * 4 : (units + 1) * 8;
    if (at + size > end) return Reason.MALFORMED;
    if (protocol === ROUTING && frame.readUInt8(at + 3) !== 0) return Reason.EXTENSION;
    if (protocol === FRAGMENT) {
      if (seenFragment) return Reason.MALFORMED;
      seenFragment = true;
      const bits = frame.readUInt16BE(at + 2);
      const offset = bits & 0xfff8;
      const more = (bits & 1) !== 0;
      if (offset > 0 || more) fragment = { id: frame.readUInt32BE(at + 4), offset, more };
      if (fragment && whole && fragmentFault(fragment, end - at - 8)) return Reason.MALFORMED;
    }
    protocol = frame.readUInt8(at);
    at += size;
  }
}

/** Step 5. */
function fragmentFault(fragment: Fragment, size: number): ReasonNumber | null {
  if (fragment.offset + size > 65535) return Reason.MALFORMED;
  return fragment.more && size % 8 !== 0 ? Reason.MALFORMED : null;
}

/** Step 6, without ICMP. */
function transport(base: Base, size: number, fragment: Fragment | null, protocol: number, at: number): Parsed {
  const { frame, ip, v6, linear } = base;
  const { from, to } = base;
  // Written out: a spread would be the slowest thing here.
  const packet = (fromPort: number, toPort: number): Packet => {
    return { frame, linear, v6, ip, from, to, size, fragment, protocol, transport: at, fromPort, toPort };
  };
  const left = ip + size - at;
  if (protocol === (v6 ? ICMP6 : ICMP)) return fragment ? Reason.FRAGMENT : packet(0, 0);
  if (protocol !== TCP && protocol !== UDP) return Reason.NOT_OURS;
  if (fragment !== null && fragment.offset > 0) {
    return protocol === TCP && fragment.offset < 20 ? Reason.MALFORMED : packet(0, 0); // RFC 3128
  }
  const header = protocol === TCP ? 20 : 8;
  if (left < header) return Reason.MALFORMED;
  if (at + header > linear) return Reason.TRUNCATED;
  if (protocol === TCP) {
    const options = (frame.readUInt8(at + 12) >> 4) * 4;
    if (options < 20 || options > left) return Reason.MALFORMED;
  } else {
    const length = frame.readUInt16BE(at + 4);
    if (length < 8 || (length > left && fragment === null)) return Reason.MALFORMED;
  }
  return packet(frame.readUInt16BE(at), frame.readUInt16BE(at + 2));
}
