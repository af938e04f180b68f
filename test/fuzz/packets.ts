// SPDX-License-Identifier: Apache-2.0
// Random packets to (mostly) VIPs, from few clients, so that flows repeat. Each kind gives the IP packets it is made of.
import { ICMP, ICMP6, TCP, UDP } from '../model/parse.js';
import type { ModelService, World } from '../model/world.js';
import { extension, fragmentHeader, type IpMore, icmp, ip, tcp, udp } from './build.js';
import type { Random } from './random.js';
import { CLIENTS4, CLIENTS6, PORTS, quicId, VIPS4, VIPS6 } from './setup.js';

export interface Make {
  readonly random: Random;
  readonly world: World;
}

export interface Ends {
  readonly from: Buffer;
  readonly to: Buffer;
  readonly fromPort: number;
  readonly toPort: number;
  readonly protocol: number;
  readonly service: ModelService | null;
}

/** A client and what it talks to; mostly a service. */
export function ends({ random, world }: Make, protocol?: number): Ends {
  const services = [...world.services.values()].filter((one) => protocol === undefined || one.protocol === protocol);
  const service = services.length > 0 && !random.once(12) ? random.pick(services) : null;
  const v6 = service ? service.address.length === 16 : random.once(2);
  const to = service?.address ?? random.pick(v6 ? VIPS6 : VIPS4);
  const port = service && service.port !== 0 ? service.port : random.pick(PORTS);
  return {
    from: random.pick(v6 ? CLIENTS6 : CLIENTS4),
    to,
    fromPort: 40000 + random.below(6),
    toPort: random.once(40) ? random.below(65536) : port,
    protocol: service?.protocol ?? protocol ?? random.pick([TCP, UDP]),
    service,
  };
}

const SIZES = [0, 0, 1, 2, 7, 8, 12, 40, 100, 101];

/** Payload sizes: mostly small, some about the MTUs, few large ones. */
function payloadSize({ random, world }: Make): number {
  if (random.once(25)) return 1150 + random.below(350);
  if (random.once(60)) return world.tunnelMtu - 110 + random.below(90);
  return random.once(400) ? 3000 + random.below(5900) : random.pick(SIZES);
}

const FLAGS = [2, 2, 2, 16, 16, 16, 24, 17, 4, 20, 18, 0, 3, 6, 0xc2];

function quicPayload({ random, world }: Make, service: ModelService): Buffer {
  const pool = world.pools.get(service.pool);
  const config = random.below(8);
  const length = pool?.quicLengths[config] ?? 0;
  const members = [...world.backends.values()].filter((one) => one.pool === service.pool || random.once(10));
  const server = random.once(6) ? random.bytes(length) : quicId(random.pick(members).number, config, length);
  const id = Buffer.concat([Buffer.of((config << 5) | random.below(32)), server, random.bytes(random.below(5))]);
  if (random.once(3)) return Buffer.concat([Buffer.of(0x40 | random.below(64)), id, random.bytes(random.below(20))]);
  const version = random.pick([1, 1, 1, 0x6b3343cf, 0x6b3343cf, 0, 0xff00001d, 0x0a0a0a0a]);
  const head = Buffer.alloc(6);
  head.writeUInt8(0xc0 | (random.below(4) << 4) | random.below(16), 0);
  head.writeUInt32BE(version, 1);
  head.writeUInt8(random.once(12) ? random.below(256) : id.length, 5);
  return Buffer.concat([head, id, random.bytes(random.below(30))]);
}

export function transport(make: Make, to: Ends): Buffer {
  const { random } = make;
  const quic = to.service !== null && (to.service.flags & 8) !== 0 && !random.once(6);
  const payload =
    quic && to.service ? quicPayload(make, to.service) : Buffer.alloc(payloadSize(make), 0x5a + random.below(5));
  if (to.protocol === TCP) {
    return tcp(to.from, to.to, to.fromPort, to.toPort, random.pick(FLAGS), payload, random.pick([0, 0, 0, 3, 10]));
  }
  const datagram = udp(to.from, to.to, to.fromPort, to.toPort, payload, !random.once(8));
  // Some bytes behind the datagram, inside the IP packet.
  return random.once(30) ? Buffer.concat([datagram, random.bytes(1 + random.below(9))]) : datagram;
}

function header({ random }: Make): IpMore {
  return {
    tos: random.once(3) ? random.below(256) : 0,
    ttl: random.once(8) ? random.below(256) : 64,
    options: random.once(10) ? Buffer.alloc(4 * (1 + random.below(10)), 1) : Buffer.alloc(0),
    id: random.below(65536),
    fragment: random.pick([0x4000, 0x4000, 0, 0x8000]),
    label: random.below(1 << 20),
  };
}

/** Up to `most` extension headers in front of `payload`; the first one's number comes with them. */
function chain({ random }: Make, protocol: number, payload: Buffer, most: number): [number, Buffer] {
  let next = protocol;
  let whole = payload;
  for (let count = 1 + random.below(most); count > 0; count--) {
    const kind = random.pick([0, 0, 60, 60, 43, 51, 44]);
    const units = random.once(20) ? random.below(256) : random.below(3);
    const sizes: Record<number, number> = { 51: (units + 2) * 4, 44: 8 };
    const size = sizes[kind] ?? (units + 1) * 8;
    const rest = kind === 43 || kind === 44 ? Buffer.alloc(size) : random.bytes(Math.min(size, 64));
    if (kind === 43 && random.once(5)) rest[1] = 1 + random.below(3);
    if (kind === 44) rest.writeUInt32BE(random.below(2 ** 32), 2);
    whole = Buffer.concat([extension(next, kind === 44 ? 0 : units, Math.max(size, 8), rest), whole]);
    next = kind;
  }
  return [next, whole];
}

export function wholePacket(make: Make): Buffer[] {
  const to = ends(make);
  const segment = transport(make, to);
  if (to.from.length === 16 && make.random.once(12)) {
    const [next, payload] = chain(make, to.protocol, segment, 8);
    return [ip(to.from, to.to, next, payload, header(make))];
  }
  return [ip(to.from, to.to, to.protocol, segment, header(make))];
}

/** A datagram in pieces: in order, shuffled, with one twice or one missing. */
export function fragmented(make: Make): Buffer[] {
  const { random } = make;
  const to = ends(make);
  const v6 = to.from.length === 16;
  const grown = { ...make, world: { ...make.world, tunnelMtu: 1700 } };
  const segment = Buffer.concat([transport(grown, to), random.bytes(random.pick([8, 24, 64, 300]))]);
  if (to.protocol === UDP && !random.once(10)) segment.writeUInt16BE(segment.length & 0xffff, 4);
  const id = random.once(4) ? random.below(3) : random.below(2 ** 32);
  const pieces: Buffer[] = [];
  const more = header(make);
  const extra = v6 && random.once(8);
  for (let offset = 0; offset < segment.length; ) {
    const left = segment.length - offset;
    const size = Math.min(left, random.pick([8, 16, 24, 40, 64, 128, 512, 1024]));
    const last = size === left;
    const data = segment.subarray(offset, offset + size);
    if (v6) {
      const own = Buffer.concat([fragmentHeader(to.protocol, offset, !last, id), data]);
      const [next, payload] = extra ? chain(make, 44, own, 2) : [44, own];
      pieces.push(ip(to.from, to.to, next, payload, more));
    } else {
      pieces.push(
        ip(to.from, to.to, to.protocol, data, { ...more, id, fragment: (last ? 0 : 0x2000) | (offset >> 3) }),
      );
    }
    offset += size;
    if (pieces.length === 5 && !last) break;
  }
  if (random.once(2)) {
    for (let at = pieces.length - 1; at > 0; at--) {
      const with_ = random.below(at + 1);
      [pieces[at], pieces[with_]] = [pieces[with_] as Buffer, pieces[at] as Buffer];
    }
  }
  if (random.once(6)) pieces.push(random.pick(pieces));
  if (random.once(6)) pieces.splice(random.below(pieces.length), 1);
  return pieces;
}

export function echo(make: Make): Buffer[] {
  const { random } = make;
  const { from, to } = ends(make);
  const v6 = from.length === 16;
  const type = v6 ? random.pick([128, 128, 128, 129, 135, 136, 130]) : random.pick([8, 8, 8, 0, 5, 13]);
  const message = icmp(from, to, type, random.once(10) ? 1 : 0, random.bytes(random.pick([4, 12, 56, 60, 61, 0, 3])));
  if (random.once(10)) message.writeUInt16BE(random.below(65536), 2 % message.length);
  return [ip(from, to, v6 ? ICMP6 : ICMP, message, header(make))];
}

/** An ICMP error that quotes an answer of a flow, mostly one there has been. */
export function icmpError(make: Make): Buffer[] {
  const { random } = make;
  const to = ends(make);
  const v6 = to.from.length === 16;
  const answer = { from: to.to, to: to.from, fromPort: to.toPort, toPort: to.fromPort };
  const protocol = to.protocol;
  const body = Buffer.alloc(random.pick([0, 4, 20, 100, 600, 1400]), 0x51);
  const segment =
    protocol === TCP
      ? tcp(answer.from, answer.to, answer.fromPort, answer.toPort, 24, body)
      : udp(answer.from, answer.to, answer.fromPort, answer.toPort, body);
  const more = header(make);
  const later = random.once(20);
  const [next, payload] = v6 && random.once(8) ? chain(make, protocol, segment, 7) : [protocol, segment];
  let quoted = ip(answer.from, answer.to, next, payload, later ? { ...more, fragment: 1 + random.below(9) } : more);
  if (random.once(8)) quoted = nest(make, quoted);
  const shown = random.once(3) ? quoted.subarray(0, random.below(quoted.length + 1)) : quoted;
  const type = v6 ? random.pick([1, 2, 3, 4]) : random.pick([3, 3, 11, 12]);
  const rest = Buffer.concat([random.bytes(4), shown.subarray(0, random.once(4) ? 1400 : v6 ? 1232 : 548)]);
  const source = random.once(2) ? to.from : random.pick(v6 ? CLIENTS6 : CLIENTS4);
  // At times to another VIP than the one it is about.
  const target = random.once(12) ? random.pick(v6 ? VIPS6 : VIPS4) : to.to;
  const message = icmp(source, target, type, random.below(6), rest);
  return [ip(source, target, v6 ? ICMP6 : ICMP, message, more)];
}

/** The packet in a tunnel of its own kind: IP in IP or GUE, with plain outer addresses. */
function nest({ random }: Make, packet: Buffer): Buffer {
  const inner6 = (packet[0] ?? 0) >> 4 === 6;
  const [from, to] = random.once(2) ? [CLIENTS6[0], VIPS6[0]] : [CLIENTS4[0], VIPS4[0]];
  if (!from || !to) throw new Error('no addresses');
  if (random.once(2)) return ip(from, to, inner6 ? 41 : 4, packet);
  return ip(from, to, UDP, udp(from, to, 50000 + random.below(9), 6080, packet, from.length === 16));
}

/** A tunnel packet to a VIP, twice or three times. */
export function nested(make: Make): Buffer[] {
  let packet = wholePacket(make)[0] as Buffer;
  for (let times = 1 + make.random.below(2); times > 0; times--) packet = nest(make, packet);
  return [packet];
}

/** Other protocols to a VIP, and packets to nobody here. */
export function foreign(make: Make): Buffer[] {
  const { random } = make;
  const { from, to } = ends(make);
  const v6 = from.length === 16;
  const other = random.pick(v6 ? [VIPS6[4], from] : [VIPS4[4], from]) ?? to;
  if (random.once(2)) return [ip(from, other, random.pick([TCP, UDP, ICMP]), random.bytes(40), header(make))];
  return [
    ip(from, to, random.pick([1, 2, 4, 41, 47, 50, 58, 59, 132, 255]), random.bytes(random.below(64)), header(make)),
  ];
}
