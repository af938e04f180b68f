// SPDX-License-Identifier: Apache-2.0
// docs/packet-path.md: steps 10 and 11, "Too big" and "The outer header".
import { Reason, ServiceFlag } from '../../src/dataplane/abi.gen.js';
import { flowId, type Tuple } from './choose.js';
import { ICMP, ICMP6, isFirst, type Packet, TCP, UDP } from './parse.js';
import { sipHash } from './siphash.js';
import type { ModelBackend, ModelService, Open, TallyNumber, Verdict, World } from './world.js';

/** RFC 1071 over the bytes, as a sum that is folded but not complemented. */
export function sum(data: Buffer, start = 0): number {
  let total = start;
  const even = data.length & ~1;
  for (let at = 0; at < even; at += 2) total += ((data[at] ?? 0) << 8) | (data[at + 1] ?? 0);
  if (even < data.length) total += (data[even] ?? 0) << 8;
  while (total > 0xffff) total = (total & 0xffff) + (total >>> 16);
  return total;
}

export function pseudoSum(from: Buffer, to: Buffer, protocol: number, size: number): number {
  return sum(to, sum(from, protocol + (size & 0xffff) + (size >>> 16)));
}

/** Whether every checksum that the tunnel's may be derived from is right. */
function checksumsHold(packet: Packet): boolean {
  const { frame, ip, transport, v6, protocol } = packet;
  if (!v6 && sum(frame.subarray(ip, ip + (frame.readUInt8(ip) & 15) * 4)) !== 0xffff) return false;
  if (packet.fragment !== null) return true; // computed over the payload
  const whole = ip + packet.size - transport;
  if (protocol === UDP && frame.readUInt16BE(transport + 6) === 0) return true;
  const size = protocol === UDP ? frame.readUInt16BE(transport + 4) : whole;
  const pseudo = protocol === ICMP ? 0 : pseudoSum(packet.from, packet.to, protocol, size);
  return sum(frame.subarray(transport, transport + size), pseudo) === 0xffff;
}

/** Whose list it is: the packet inside. */
interface Inside extends Pick<Tuple, 'from' | 'to' | 'fromPort' | 'toPort'> {
  readonly v6: boolean;
}

/** "Second chance": the other owners behind the UDP header, GUE variant 0 with private data. Nothing for none. */
export function ownersList(key: Uint32Array, inside: Inside, addresses: readonly Buffer[]): Buffer {
  if (addresses.length === 0) return Buffer.alloc(0);
  const wide = (address: Buffer): Buffer => Buffer.concat([address, Buffer.alloc(16 - address.length)]);
  const list = Buffer.concat(addresses);
  const family = addresses[0]?.length === 16 ? 6 : 4;
  const text = Buffer.alloc(87);
  text.set(wide(inside.from), 0);
  text.set(wide(inside.to), 16);
  for (const [at, address] of addresses.entries()) text.set(address, 32 + 16 * at);
  text.writeUInt16BE(inside.fromPort, 80);
  text.writeUInt16BE(inside.toPort, 82);
  text.set([addresses.length, family, inside.v6 ? 6 : 4], 84);
  const [low, high] = sipHash(key, text);
  const head = Buffer.from([3 + list.length / 4, inside.v6 ? 41 : 4, 0, 0, 1, 0, addresses.length, family]);
  const tag = Buffer.alloc(8);
  tag.writeUInt32LE(low, 0);
  tag.writeUInt32LE(high, 4);
  return Buffer.concat([head, tag, list]);
}

const overhead = (service: ModelService, backend: ModelBackend): number =>
  (service.flags & ServiceFlag.L2) !== 0
    ? 0
    : (backend.address.length === 16 ? 40 : 20) + ((service.flags & ServiceFlag.GUE) !== 0 ? 8 : 0);

function limit(world: World, service: ModelService, backend: ModelBackend): number {
  const way = (service.flags & ServiceFlag.L2) !== 0 ? backend.mtu : Math.min(world.tunnelMtu, backend.mtu);
  return way - overhead(service, backend);
}

/** Steps 10 and 11. `tuple` is the flow the entropy goes by; null where the text names none. */
export function send(
  world: World,
  service: ModelService,
  backend: ModelBackend,
  packet: Packet,
  tuple: Tuple | null,
  tallies: readonly TallyNumber[],
  others: readonly ModelBackend[] = [],
): Verdict {
  const counted = { index: service.countersStart + backend.slot, bytes: packet.size };
  const addresses = others.map(({ address }) => address);
  const list = ownersList(world.agentKey, packet, addresses);
  const fits = limit(world, service, backend) - list.length;
  // What may be cut goes to the guess alone.
  if (list.length > 0 && packet.size > fits && !packet.v6 && (packet.frame.readUInt8(packet.ip + 6) & 0x40) === 0) {
    return send(world, service, backend, packet, tuple, tallies);
  }
  if (packet.size > fits) return tooBig(world, service, backend, packet, fits, counted, tallies);
  const l2 = (service.flags & ServiceFlag.L2) !== 0;
  const open: Open[] = [];
  const head = [backend.nextHopMac, backend.sourceMac, backend.tags];
  if (l2) head.push(Buffer.from(packet.v6 ? '86dd' : '0800', 'hex'));
  else head.push(outer(world, service, backend, packet, tuple, open, list));
  const summed = !l2 && (service.flags & ServiceFlag.GUE) !== 0 && backend.address.length === 16;
  const at = 12 + backend.tags.length + 2 + 40 + 6;
  return {
    ...(summed && { tunnelChecksum: { at, holds: checksumsHold(packet) } }),
    ...(list.length > 0 && { listed: true as const }),
    reason: backend.sameInterface ? Reason.FORWARDED : Reason.REDIRECTED,
    service: 0,
    tallies,
    of: service.number,
    out: Buffer.concat([...head, packet.frame.subarray(packet.ip)]),
    open,
    counted,
  };
}

/** The type, the outer IP header and, for GUE, UDP. */
function outer(
  world: World,
  service: ModelService,
  backend: ModelBackend,
  packet: Packet,
  tuple: Tuple | null,
  open: Open[],
  list: Buffer,
): Buffer {
  const { frame, ip, v6, size } = packet;
  const v6outer = backend.address.length === 16;
  const gue = (service.flags & ServiceFlag.GUE) !== 0;
  const tos = v6 ? (frame.readUInt16BE(ip) >> 4) & 0xff : frame.readUInt8(ip + 1);
  const protocol = gue ? UDP : v6 ? 41 : 4;
  const payload = size + (gue ? 8 : 0) + list.length;
  const header = Buffer.alloc(v6outer ? 40 : 20);
  const flow = tuple && flowId(tuple);
  const start = 12 + backend.tags.length + 2;
  if (v6outer) {
    header.writeUInt32BE((0x60000000 | (tos << 20)) >>> 0, 0);
    header.writeUInt16BE(payload, 4);
    header.writeUInt8(protocol, 6);
    header.writeUInt8(64, 7);
    header.set(world.tunnelSource6, 8);
    header.set(backend.address, 24);
    open.push({ at: start, shift: 0, mask: 0xfffff, flow: flow && `label ${flow}`, least: 0 });
  } else {
    header.writeUInt8(0x45, 0);
    header.writeUInt8(tos, 1);
    header.writeUInt16BE(20 + payload, 2);
    header.writeUInt16BE(0x4000, 6);
    header.writeUInt8(64, 8);
    header.writeUInt8(protocol, 9);
    header.set(world.tunnelSource, 12);
    header.set(backend.address, 16);
    header.writeUInt16BE(~sum(header) & 0xffff, 10);
  }
  const type = Buffer.from(v6outer ? '86dd' : '0800', 'hex');
  if (!gue) return Buffer.concat([type, header]);
  const udp = Buffer.alloc(8);
  // The checksum covers the port, which is open: whoever compares fills in both.
  udp.writeUInt16BE(world.guePort, 2);
  udp.writeUInt16BE(payload, 4);
  open.push({ at: start + header.length, shift: 16, mask: 0xffff, flow: flow && `port ${flow}`, least: 49152 });
  return Buffer.concat([type, header, udp, list]);
}

function tooBig(
  world: World,
  service: ModelService,
  backend: ModelBackend,
  packet: Packet,
  fits: number,
  counted: Verdict['counted'] & object,
  tallies: readonly TallyNumber[],
): Verdict {
  const { frame, ip, v6 } = packet;
  const base = { service: service.number, of: service.number, tallies, open: [] };
  if (world.splits && !v6 && (frame.readUInt8(ip + 6) & 0x40) === 0 && splits(packet, backend, fits)) {
    return { ...base, service: 0, reason: Reason.SPLIT, out: null, counted };
  }
  const answer =
    isFirst(packet) && (packet.protocol === TCP || packet.protocol === UDP) ? complaint(packet, fits) : null;
  if (answer === null) return { ...base, reason: Reason.TOO_BIG, out: frame };
  return { ...base, reason: Reason.TOO_BIG_ANSWERED, out: answer };
}

/** A packet for a service in NAT mode: as it came, unless it does not fit. */
export function leaveToNat(service: ModelService, packet: Packet): Verdict {
  const base = { service: 0, of: service.number, tallies: [], open: [] };
  const { natMtu, number } = service;
  if (natMtu === 0 || packet.size <= natMtu || packet.fragment)
    return { ...base, reason: Reason.NAT, out: packet.frame };
  const answer = complaint(packet, natMtu);
  if (answer === null) return { ...base, service: number, reason: Reason.TOO_BIG, out: packet.frame };
  return { ...base, service: number, reason: Reason.TOO_BIG_ANSWERED, out: answer };
}

/** Bytes a frame may have to be split. */
const SPLIT_MAX = 3500;

/** Whether two fragments do, RFC 791 section 3.2: all but the last carry a multiple of 8 bytes. No options: some would be for the first only. */
function splits(packet: Packet, backend: ModelBackend, fits: number): boolean {
  const { frame, ip, size, linear } = packet;
  if (!backend.sameInterface || linear < frame.length || frame.length > SPLIT_MAX) return false;
  if ((frame.readUInt8(ip) & 15) !== 5) return false;
  const first = (fits - 20) & ~7;
  return first >= 8 && 20 + (size - 20 - first) <= fits;
}

/** ICMP 3/4 (RFC 1191) or ICMPv6 2/0 (RFC 4443 section 3.2) to the sender; null when the first buffer has too little to quote. */
function complaint(packet: Packet, mtu: number): Buffer | null {
  const { frame, ip, v6, size, linear } = packet;
  const has = Math.min(size, linear - ip);
  const quoted = [v6 ? 1232 : 548, 128].find((bytes) => bytes <= has);
  if (quoted === undefined) return null;
  const icmp = Buffer.alloc(8 + quoted);
  icmp.writeUInt8(v6 ? 2 : 3, 0);
  icmp.writeUInt8(v6 ? 0 : 4, 1);
  icmp.writeUInt32BE(mtu, 4); // RFC 1191: the 16 bits before it are zero
  frame.copy(icmp, 8, ip, ip + quoted);
  const header = Buffer.alloc(v6 ? 40 : 20);
  if (v6) {
    header.writeUInt8(0x60, 0);
    header.writeUInt16BE(icmp.length, 4);
    header.writeUInt8(ICMP6, 6);
    header.writeUInt8(64, 7);
    header.set(packet.to, 8);
    header.set(packet.from, 24);
    icmp.writeUInt16BE(~sum(icmp, pseudoSum(packet.to, packet.from, ICMP6, icmp.length)) & 0xffff, 2);
  } else {
    header.writeUInt8(0x45, 0);
    header.writeUInt16BE(20 + icmp.length, 2);
    header.writeUInt16BE(0x4000, 6); // DF: an ID of 0 promises that nobody splits it (RFC 6864)
    header.writeUInt8(64, 8);
    header.writeUInt8(ICMP, 9);
    header.set(packet.to, 12);
    header.set(packet.from, 16);
    header.writeUInt16BE(~sum(header) & 0xffff, 10);
    icmp.writeUInt16BE(~sum(icmp) & 0xffff, 2);
  }
  return Buffer.concat([frame.subarray(6, 12), frame.subarray(0, 6), frame.subarray(12, ip), header, icmp]);
}
