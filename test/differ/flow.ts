// SPDX-License-Identifier: Apache-2.0
// Flows of the differential run, and the packets of theirs, the same in both worlds up to who their ends are.
import type { Random } from '../fuzz/random.js';
import { checksum, frame, ipv4Header, ipv6Header, pseudoSum, TCP } from '../support/packets.js';
import { type Family, macsOf, PRIVATE, SERVICE_PORT, type Side, type Snat, VIP, type WorldName } from './world.js';

export interface End {
  readonly address: string;
  readonly port: number; // of an echo the identifier, at one end
}

export type Protocol = 'tcp' | 'udp' | 'echo';
export const NUMBER = { tcp: 6, udp: 17 } as const;

/** Who a flow is between, as the far side sees it. */
export interface Ends {
  readonly from: End;
  readonly to: End;
}

export type TcpState = 'closed' | 'asked' | 'answered' | 'open';

export interface Flow {
  readonly kind: Snat | 'egress' | 'foreign';
  readonly family: Family;
  readonly protocol: Protocol;
  readonly near: Side; // where it begins
  readonly from: End;
  readonly to: End;
  /** By world, from the first packet that has arrived at the far side. */
  readonly seen: Map<WorldName, Ends>;
  /** The last packet that has arrived whole, by world and side. */
  readonly last: Map<string, Buffer>;
  tcp: TcpState;
  readonly sequence: [near: number, far: number];
  readonly finished: [near: boolean, far: boolean];
  left: number; // packets until it is given up
}

/** What both worlds' packets have in common. */
export interface Packet {
  readonly id: number; // 1..65535: IPv4's ID, or IPv6's flow label
  readonly flow: Flow;
  readonly way: 0 | 1; // 0: from the near side
  readonly what: string;
  readonly begins: boolean;
  /** To reach nobody behind the node, in either world. */
  readonly stray: boolean;
  /** Frames for a world, as `side` is to send them. */
  frames(world: WorldName): Buffer[];
}

export const otherSide = (side: Side): Side => (side === 'client' ? 'backend' : 'client');

/** What the node takes off a packet's hops: a router one; a balancer none, for its requests and replies do not pass the kernel's routing. */
export const hopsOf = (world: WorldName, { kind }: Flow): number =>
  world === 'fairlead' && kind !== 'egress' && kind !== 'foreign' ? 0 : 1;

/** The ends of a packet that goes this way, as its sender knows them; null: nothing has arrived yet. */
export function endsOf(flow: Flow, way: 0 | 1, world: WorldName): Ends | null {
  if (way === 0) return flow;
  const seen = flow.seen.get(world);
  return seen ? { from: seen.to, to: seen.from } : null;
}

const word = (random: Random): number => random.below(65_536);

function host(random: Random, family: Family, prefix4: string, prefix6: string): string {
  const [a, b] = [1 + random.below(255), 1 + random.below(254)];
  return family === 4 ? `${prefix4}.${a}.${b}` : `${prefix6}::${a.toString(16)}:${b.toString(16)}`;
}

const KINDS = ['none', 'auto', 'auto', 'pool', 'pool', 'egress', 'egress', 'foreign'] as const;

export function flowOf(random: Random): Flow {
  const kind = random.pick(KINDS);
  const family = random.pick([4, 6] as const);
  const near: Side = kind === 'egress' ? 'backend' : 'client';
  const protocol = random.pick(kind === 'egress' ? (['tcp', 'udp', 'echo'] as const) : (['tcp', 'udp'] as const));
  const outside = host(random, family, '172.16', 'fd01');
  const from = kind === 'egress' ? host(random, family, PRIVATE[4].split('.').slice(0, 2).join('.'), 'fd20') : outside;
  const to = kind === 'egress' ? outside : kind === 'foreign' ? host(random, family, '10.21', 'fd21') : VIP[family];
  const port = kind === 'egress' || kind === 'foreign' ? 1 + random.below(60_000) : SERVICE_PORT[kind];
  return {
    ...{ kind, family, protocol, near, seen: new Map(), last: new Map(), tcp: 'closed' },
    from: { address: from, port: 1024 + random.below(64_000) },
    to: { address: to, port: protocol === 'echo' ? 0 : port },
    sequence: [word(random) * 65_536, word(random) * 65_536],
    finished: [false, false],
    left: 3 + random.below(40),
  };
}

interface Header {
  readonly id: number;
  readonly tos: number;
  readonly ttl: number;
  readonly df: boolean;
  readonly options: number;
}

/** Checksums: right, off by one bit, or none at all (UDP). */
type Sum = 'right' | 'wrong' | 'none';

/** `body` behind the ports and, in UDP, the length. Wrong or missing checksums stay so on any way. */
function segment({ from, to }: Ends, protocol: Protocol, family: Family, body: Buffer, sum: Sum, way: 0 | 1): Buffer {
  if (protocol === 'echo') {
    const types = family === 4 ? [8, 0] : [128, 129];
    const message = Buffer.concat([Buffer.of(types[way] ?? 0, 0, 0, 0, 0, 0), body]);
    message.writeUInt16BE(from.port | to.port, 4);
    message.writeUInt16BE(
      checksum(message, family === 6 ? pseudoSum(from.address, to.address, 58, message.length) : 0),
      2,
    );
    return message;
  }
  const ports = Buffer.alloc(protocol === 'udp' ? 8 : 4);
  ports.writeUInt16BE(from.port, 0);
  ports.writeUInt16BE(to.port, 2);
  if (protocol === 'udp') ports.writeUInt16BE(8 + body.length, 4);
  const whole = Buffer.concat([ports, body]);
  if (sum === 'none') return whole;
  const right = checksum(whole, pseudoSum(from.address, to.address, NUMBER[protocol], whole.length)) || 0xffff;
  // Off by as much in both worlds, in ones' complement: the right one is another where ports are others.
  const off = (right + 0x0100) % 0xffff || 0xffff;
  whole.writeUInt16BE(sum === 'wrong' ? off : right, protocol === 'udp' ? 6 : 16);
  return whole;
}

/** `cuts`: sizes of the fragments but the last, in 8 bytes; empty: whole. */
function wrap(
  side: Side,
  ends: Ends,
  protocol: number,
  body: Buffer,
  header: Header,
  cuts: readonly number[],
): Buffer[] {
  const [from, to] = [ends.from.address, ends.to.address];
  const v6 = from.includes(':');
  const { id, tos, ttl, df, options } = header;
  const pieces: Buffer[] = [];
  let at = 0;
  for (const cut of [...cuts, Number.POSITIVE_INFINITY]) {
    const piece = body.subarray(at, at + cut * 8);
    if (piece.length === 0) break;
    const more = at + piece.length < body.length ? 1 : 0;
    const isWhole = at === 0 && more === 0;
    const extra = v6 && !isWhole ? Buffer.alloc(8) : Buffer.alloc(0);
    if (extra.length > 0) {
      extra.writeUInt8(protocol, 0);
      extra.writeUInt16BE(at | more, 2);
      extra.writeUInt32BE(id * 65_537, 4);
    }
    const size = extra.length + piece.length;
    const ip = v6
      ? ipv6Header(from, to, isWhole ? protocol : 44, size, { trafficClass: tos, flowLabel: id, hopLimit: ttl })
      : ipv4Header(from, to, protocol, size, {
          ...{ tos, ttl, options, id },
          fragment: isWhole ? (df ? 0x4000 : 0) : (at / 8) | (more << 13),
        });
    pieces.push(frame(Buffer.concat([ip, extra, piece]), macsOf(side)));
    at += piece.length;
  }
  return pieces;
}

function tcpOptions(random: Random, syn: boolean): Buffer {
  const each = [
    Buffer.of(1, 1, 8, 10, ...random.bytes(8)),
    Buffer.of(1, 1, 1, 1),
    Buffer.of(253, 4, ...random.bytes(2)),
    ...(syn ? [Buffer.of(2, 4, 5, 0xb4), Buffer.of(4, 2, 1, 1), Buffer.of(1, 3, 3, 7)] : []),
  ];
  return Buffer.concat(each.filter(() => random.once(2)));
}

const hop = (world: WorldName, flow: Flow): number => hopsOf(world, flow) - hopsOf('fairlead', flow);

interface Built {
  readonly what: string;
  readonly protocol: Protocol;
  readonly body: Buffer;
  readonly sum: Sum;
  readonly cuts: readonly number[];
}

/** The packet of what `next` has thought of. */
export function packetOf(random: Random, id: number, flow: Flow, way: 0 | 1, built: Built, begins: boolean): Packet {
  const { protocol, body, sum, cuts, what } = built;
  const ttl = 2 + random.below(250);
  const options = flow.family === 4 && cuts.length === 0 && random.once(15) ? 1 + random.below(3) : 0;
  const header = { id, tos: random.below(256), df: cuts.length === 0 && random.once(2), options };
  const side = way === 0 ? flow.near : otherSide(flow.near);
  const number = protocol === 'echo' ? (flow.family === 4 ? 1 : 58) : NUMBER[protocol];
  return {
    ...{ id, flow, way, what, begins, stray: what === 'stray' || what === 'ping' },
    frames(world) {
      const ends = endsOf(flow, way, world);
      if (!ends) return [];
      const whole = segment(ends, protocol, flow.family, body, sum, way);
      // In the world where the node is a router everything starts with a hop more.
      return wrap(side, ends, number, whole, { ...header, ttl: ttl + hop(world, flow) }, cuts);
    },
  };
}

/** TCP behind the ports. */
function tcpBody(
  random: Random,
  sequence: number,
  other: number,
  flags: number,
  options: Buffer,
  payload: Buffer,
): Buffer {
  const fixed = Buffer.alloc(16);
  fixed.writeUInt32BE(sequence >>> 0, 0);
  fixed.writeUInt32BE(flags & TCP.ACK ? other >>> 0 : 0, 4);
  fixed.writeUInt8((5 + options.length / 4) << 4, 8);
  fixed.writeUInt8(flags, 9);
  fixed.writeUInt16BE(word(random), 10);
  if (flags & 0x20) fixed.writeUInt16BE(payload.length, 14); // URG
  return Buffer.concat([fixed, options, payload]);
}

const payloadOf = (random: Random, most: number): Buffer =>
  random.bytes(random.pick([0, 1, random.below(64), random.below(most + 1), most]));

/** What may be sent on this flow by this side now; null: nothing. */
export function next(random: Random, id: number, flow: Flow, way: 0 | 1): Packet | null {
  const { protocol } = flow;
  if (way === 1 && flow.seen.size < 2) return null; // nothing has arrived there
  flow.left--;
  const sum: Sum = random.once(20) ? 'wrong' : 'right';
  if (protocol === 'tcp') return nextTcp(random, id, flow, way, sum);
  const begins = flow.seen.size === 0;
  const long = random.once(5);
  if (protocol === 'echo') {
    const body = Buffer.concat([random.bytes(2), payloadOf(random, 1_400)]);
    return packetOf(random, id, flow, way, { what: 'echo', protocol, body, sum: 'right', cuts: [] }, begins);
  }
  const body = long ? random.bytes(200 + random.below(4_000)) : payloadOf(random, 1_400);
  const cuts = long ? Array.from({ length: 1 + Math.floor(body.length / 800) }, () => 1 + random.below(150)) : [];
  const rest = body.length + 8 - cuts.reduce((all, cut) => all + cut * 8, 0);
  if (rest > 1_440) cuts.push(...Array.from({ length: Math.floor(rest / 1_200) }, () => 150));
  const built = { what: long ? 'fragments' : 'datagram', protocol, body, cuts };
  return packetOf(random, id, flow, way, { ...built, sum: random.once(8) ? 'none' : sum }, begins);
}

function nextTcp(random: Random, id: number, flow: Flow, way: 0 | 1, sum: Sum): Packet | null {
  const { sequence, finished } = flow;
  const other = (1 - way) as 0 | 1;
  const send = (what: string, flags: number, payload: Buffer, begins = false, tcp = flow.tcp): Packet => {
    const more = random.pick([0, 0, 0x40, 0x80, 0xc0]); // ECE, CWR
    const options = tcpOptions(random, (flags & TCP.SYN) !== 0);
    const body = tcpBody(random, sequence[way], sequence[other], flags | more, options, payload);
    sequence[way] += payload.length + (flags & (TCP.SYN | TCP.FIN) ? 1 : 0);
    flow.tcp = tcp;
    return packetOf(random, id, flow, way, { what, protocol: 'tcp', body, sum, cuts: [] }, begins);
  };
  const none = Buffer.alloc(0);
  if (flow.tcp === 'closed') {
    if (way === 1) return null;
    finished.fill(false);
    sequence[0] = word(random) * 65_536;
    sequence[1] = word(random) * 65_536;
    return send('syn', TCP.SYN, none, true, 'asked');
  }
  if (flow.tcp === 'asked') {
    if (way === 0) return null;
    if (random.once(10)) return send('refused', TCP.RST | TCP.ACK, none, false, 'closed');
    return send('syn-ack', TCP.SYN | TCP.ACK, none, false, 'answered');
  }
  if (flow.tcp === 'answered') return way === 1 ? null : send('ack', TCP.ACK, none, false, 'open');
  if (random.once(25)) return send('rst', TCP.RST | (random.once(2) ? TCP.ACK : 0), none, false, 'closed');
  if (finished[way]) return send('ack', TCP.ACK, none, false, finished[other] && random.once(2) ? 'closed' : 'open');
  if (random.once(12)) {
    finished[way] = true;
    return send('fin', TCP.FIN | TCP.ACK, payloadOf(random, 1_300));
  }
  return send('data', TCP.ACK | random.pick([0, TCP.PSH, 0x20]), payloadOf(random, 1_300));
}

/** TCP in the middle of a connection that nobody has begun, to a service. */
export function stray(random: Random, id: number, flow: Flow): Packet | null {
  if (flow.protocol !== 'tcp' || flow.kind === 'foreign') return null;
  const flags = random.pick([TCP.ACK, TCP.FIN | TCP.ACK, TCP.RST, TCP.SYN | TCP.ACK, TCP.PSH | TCP.ACK]);
  const body = tcpBody(random, 1, 1, flags, Buffer.alloc(0), payloadOf(random, 100));
  return packetOf(random, id, flow, 0, { what: 'stray', protocol: 'tcp', body, sum: 'right', cuts: [] }, false);
}

/** An echo request to a VIP: the node answers it. */
export function ping(random: Random, id: number, flow: Flow): Packet | null {
  if (flow.near !== 'client' || flow.kind === 'foreign') return null;
  const to = { address: flow.to.address, port: 0 };
  const asking: Flow = { ...flow, protocol: 'echo', kind: 'none', to };
  const body = Buffer.concat([random.bytes(2), payloadOf(random, 1_400)]);
  return packetOf(random, id, asking, 0, { what: 'ping', protocol: 'echo', body, sum: 'right', cuts: [] }, false);
}
