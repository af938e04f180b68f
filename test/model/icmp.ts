// SPDX-License-Identifier: Apache-2.0
// docs/packet-path.md, "ICMP to a VIP". Budgets are set so high here that none is reached.
import { Reason, ServiceFlag, Tally } from '../../src/dataplane/abi.gen.js';
import { findService, flowId, ringChoice, type Tuple } from './choose.js';
import { send } from './outer.js';
import { type Packet, TCP, UDP, walk } from './parse.js';
import { type ReasonNumber, takes, type Verdict, type World } from './world.js';

export function icmp(world: World, packet: Packet): Verdict {
  const { frame, transport, ip, size, v6, linear } = packet;
  const ends = (reason: ReasonNumber, service = 0): Verdict => ({ reason, service, tallies: [], out: frame, open: [] });
  if (ip + size - transport < 8) return ends(Reason.MALFORMED);
  if (transport + 8 > linear) return ends(Reason.TRUNCATED);
  const type = frame.readUInt8(transport);
  const code = frame.readUInt8(transport + 1);
  if (type === (v6 ? 128 : 8) && code === 0) return { ...ends(Reason.ECHO_ANSWERED), out: echoReply(packet) };
  if (!(v6 ? [1, 2, 3, 4] : [3, 11, 12]).includes(type)) return ends(Reason.NOT_OURS);
  const quoted = quote(world, packet.frame, transport + 8, ip + size, linear, false);
  if (typeof quoted === 'number') return ends(quoted);
  if (!quoted.to.equals(packet.to)) return ends(Reason.ICMP_UNKNOWN);
  const service = findService(world, quoted.to, quoted.toPort, quoted.protocol);
  if (service === null) return ends(Reason.ICMP_UNKNOWN);
  if ((service.flags & ServiceFlag.NAT) !== 0) return ends(Reason.NAT);
  const stateless = (service.flags & ServiceFlag.STATELESS) !== 0;
  const number = stateless ? ringChoice(world, service, quoted) : world.flows.get(flowId(quoted))?.backend;
  if (number === undefined) return ends(Reason.ICMP_UNKNOWN, service.number);
  const backend = takes(world, number, service.flags);
  if (backend === null) return ends(Reason.NO_BACKEND, service.number);
  return send(world, service, backend, packet, null, [Tally.ICMP_ERROR]);
}

/** The flow of ours a quoted packet is an answer in: our client is its destination. */
function quote(
  world: World,
  frame: Buffer,
  at: number,
  end: number,
  linear: number,
  inner: boolean,
): Tuple | ReasonNumber {
  if (at + 20 > end) return Reason.MALFORMED;
  if (at + 20 > linear) return Reason.TRUNCATED;
  const version = frame.readUInt8(at) >> 4;
  if (version !== 4 && version !== 6) return Reason.MALFORMED;
  const v6 = version === 6;
  const header = v6 ? 40 : 20;
  if (at + header > end) return Reason.MALFORMED;
  if (at + header > linear) return Reason.TRUNCATED;
  let protocol = frame.readUInt8(at + (v6 ? 6 : 9));
  let transport = at + header;
  let offset = v6 ? 0 : frame.readUInt16BE(at + 6) & 0x1fff;
  if (v6) {
    const chain = walk(frame, transport, end, linear, protocol, false);
    if (typeof chain === 'number') return Reason.ICMP_UNKNOWN;
    ({ protocol, at: transport } = chain);
    offset = chain.fragment?.offset ?? 0;
  } else {
    const size = (frame.readUInt8(at) & 15) * 4;
    if (size < 20 || at + size > end) return Reason.MALFORMED;
    transport = at + size;
  }
  if (offset !== 0) return Reason.ICMP_UNKNOWN;
  const next = inner ? null : tunnelled(world, frame, transport, Math.min(end, linear), protocol);
  if (next !== null) return quote(world, frame, next, end, linear, true);
  if (transport + 4 > end) return Reason.MALFORMED;
  if (protocol !== TCP && protocol !== UDP) return Reason.ICMP_UNKNOWN;
  if (transport + 4 > linear) return Reason.TRUNCATED;
  return {
    from: v6 ? frame.subarray(at + 24, at + 40) : frame.subarray(at + 16, at + 20),
    to: v6 ? frame.subarray(at + 8, at + 24) : frame.subarray(at + 12, at + 16),
    fromPort: frame.readUInt16BE(transport + 2),
    toPort: frame.readUInt16BE(transport),
    protocol,
  };
}

/** Where the packet in a tunnel packet begins. */
function tunnelled(world: World, frame: Buffer, transport: number, end: number, protocol: number): number | null {
  if (protocol === 4 || protocol === 41) return transport;
  if (protocol !== UDP || transport + 9 > end || frame.readUInt16BE(transport + 2) !== world.guePort) return null;
  const version = frame.readUInt8(transport + 8) >> 4;
  return version === 4 || version === 6 ? transport + 8 : null;
}

/** RFC 1624, equation 3: the checksum after a 16-bit word of what it covers has changed. */
function corrected(checksum: number, before: number, after: number): number {
  let total = (~checksum & 0xffff) + (~before & 0xffff) + after;
  while (total > 0xffff) total = (total & 0xffff) + (total >>> 16);
  return ~total & 0xffff;
}

function echoReply(packet: Packet): Buffer {
  const { frame, ip, v6, transport } = packet;
  const reply = Buffer.from(frame);
  frame.copy(reply, 0, 6, 12);
  frame.copy(reply, 6, 0, 6);
  reply.set(packet.to, ip + (v6 ? 8 : 12));
  reply.set(packet.from, ip + (v6 ? 24 : 16));
  if (!v6) {
    const before = frame.readUInt16BE(ip + 8);
    reply.writeUInt16BE(corrected(frame.readUInt16BE(ip + 10), before, 0x4000 | (before & 0xff)), ip + 10);
  }
  reply.writeUInt8(64, ip + (v6 ? 7 : 8));
  const type = v6 ? 129 : 0;
  const was = frame.readUInt16BE(transport + 2);
  reply.writeUInt8(type, transport);
  reply.writeUInt16BE(corrected(was, frame.readUInt16BE(transport), type << 8), transport + 2);
  return reply;
}
