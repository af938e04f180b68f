// SPDX-License-Identifier: Apache-2.0
// docs/packet-path.md, "Too big": the answers, byte for byte. The budget needs a program of its own, see packets.test.ts.
import { Reason, ServiceFlag } from '../../../src/dataplane/abi.gen.js';
import type { PacketPath } from '../packet-path.js';
import { packetOf } from '../packet-run.js';
import { icmpMessage, ipFrame, tags, withTags } from '../packets.js';
import {
  b4,
  b6,
  CLIENT4,
  CLIENT6,
  client,
  declare,
  type More,
  OTHER_INTERFACE,
  one,
  type PacketCase,
  turnedMacs,
} from './table.js';

const V4 = '192.0.2.32';
const V6 = '2001:db8::32';
const portOf = (service: number): number => 47000 + service;
/** What a service's backends are reached by: the packet that just fits is this long. */
interface Leg {
  readonly name: string;
  readonly number: number;
  readonly fits: number;
  readonly flags?: number;
  readonly backend6?: boolean;
  readonly mtu?: number;
  readonly interface?: number;
}
const { GUE, L2 } = ServiceFlag;
const LEGS4: readonly Leg[] = [
  { name: '4in4', number: 80, fits: 1480 },
  { name: '4in6', number: 81, fits: 1460, backend6: true },
  { name: 'GUE 4in4', number: 82, fits: 1472, flags: GUE },
  { name: 'GUE 4in6', number: 83, fits: 1452, flags: GUE, backend6: true },
  { name: 'L2', number: 84, fits: 1500, flags: L2 },
  { name: 'a next hop of MTU 1400', number: 85, fits: 1380, mtu: 1400 },
  { name: 'a next hop of MTU 9000 behind tunnel.mtu 1500', number: 86, fits: 1480, mtu: 9000 },
  { name: 'another interface', number: 87, fits: 1480, interface: OTHER_INTERFACE },
];
const LEGS6: readonly Leg[] = [
  { name: '6in6', number: 88, fits: 1460, backend6: true },
  { name: '6in4', number: 89, fits: 1480 },
  { name: 'GUE 6in6', number: 90, fits: 1452, flags: GUE, backend6: true },
  { name: 'L2, IPv6', number: 91, fits: 1500, flags: L2, backend6: true },
];
/** No tunnel.mtu counts for L2: jumbo frames in several buffers. */
const JUMBO4: Leg = { name: 'L2', number: 92, fits: 9000, flags: L2, mtu: 9000 };

export function prepareBig(path: PacketPath): void {
  for (const leg of [...LEGS4, ...LEGS6, JUMBO4]) {
    const { number, flags = 0 } = leg;
    declare(path, {
      number,
      address: LEGS6.includes(leg) ? V6 : V4,
      port: portOf(number),
      flags,
      members: [{ address: leg.backend6 ? b6(number) : b4(number), onLink: true, ...leg }],
    });
  }
}

/** RFC 792, RFC 1191; RFC 4443, RFC 8201: what the sender of this frame is told. */
export function tooBigAnswer(whole: Buffer, mtu: number, most?: number): Buffer {
  const packet = packetOf(whole);
  const v6 = packet.readUInt8(0) >> 4 === 6;
  const quote = packet.subarray(0, most ?? (v6 ? 1232 : 548));
  const rest = Buffer.concat([Buffer.alloc(4), quote]);
  rest.writeUInt32BE(mtu, 0);
  const [from, to] = v6 ? [V6, CLIENT6] : [V4, CLIENT4];
  const message = v6 ? icmpMessage(from, to, 2, 0, rest) : icmpMessage(from, to, 3, 4, rest);
  const answer = ipFrame(from, to, v6 ? 58 : 1, message);
  const l2 = whole.length - packet.length;
  return Buffer.concat([turnedMacs(whole), whole.subarray(12, l2), answer.subarray(14)]);
}

const TAGS = tags([0x88a8, 0x2007], [0x8100, 0xe123]);
const sized = (leg: Leg, ipBytes: number, more = {}): Buffer => {
  const v6 = LEGS6.includes(leg);
  return client(v6 ? V6 : V4, portOf(leg.number), {
    fromPort: 21000 + ipBytes,
    payload: ipBytes - (v6 ? 60 : 40),
    ...more,
  });
};
const sent = (name: string, leg: Leg, packet: Buffer): PacketCase => {
  const { number, flags = 0 } = leg;
  const more: More = { to: leg.backend6 ? b6(number) : b4(number), service: number };
  const form: More = flags & GUE ? { form: 'gue' } : flags & L2 ? { form: 'l2' } : {};
  return one(name, leg.interface ? Reason.REDIRECTED : Reason.FORWARDED, packet, { ...more, ...form });
};
const told = (name: string, leg: Leg, packet: Buffer, most?: number): PacketCase =>
  one(name, Reason.TOO_BIG_ANSWERED, packet, { service: leg.number, out: tooBigAnswer(packet, leg.fits, most) });

/** What a frame has in its first buffer; the rest lies in others. */
const firstBuffer = (bytes: number): { context: Uint8Array } => ({
  context: new Uint8Array(Uint32Array.of(0, bytes, 0, 1, 0, 0).buffer),
});

const [IPV4, IPV6] = [LEGS4[0] as Leg, LEGS6[0] as Leg];
const steps = [
  { leg: IPV4, l3: 14, most: 548 },
  { leg: IPV6, l3: 14, most: 1232 },
].flatMap(({ leg, l3, most }) => {
  const big = sized(leg, 1499);
  const name = leg === IPV4 ? 'IPv4' : 'IPv6';
  return [
    { ...told(`${name}: a first buffer with all that is quoted`, leg, big), ...firstBuffer(l3 + most) },
    { ...told(`${name}: a first buffer with less than is quoted`, leg, big, 128), ...firstBuffer(l3 + most - 1) },
    { ...told(`${name}: a first buffer with 128 bytes`, leg, big, 128), ...firstBuffer(l3 + 128) },
    {
      ...one(`${name}: a first buffer with 127 bytes`, Reason.TOO_BIG, big, { service: leg.number }),
      ...firstBuffer(l3 + 127),
    },
  ];
});

export const big: readonly PacketCase[] = [
  ...[...LEGS4, ...LEGS6].flatMap((leg) => [
    sent(`${leg.name}: just fits`, leg, sized(leg, leg.fits)),
    told(`${leg.name}: one byte too big`, leg, sized(leg, leg.fits + 1)),
    told(`${leg.name}: far too big, TOS set, a SYN`, leg, sized(leg, 3000, { trafficClass: 0xb9, flags: 2 })),
    told(`${leg.name}: too big behind tags`, leg, withTags(sized(leg, leg.fits + 9), TAGS)),
  ]),
  told('too big behind IP options', IPV4, sized(IPV4, 1481, { options: 5 })),
  told('too big without DF, by another interface', LEGS4[7] as Leg, sized(LEGS4[7] as Leg, 1481, { df: false })),
  told('too big without DF, where no packet may be split', IPV4, sized(IPV4, 1481, { df: false })),
  ...[3507, 5000, 8999, 9000].map((size) => sent(`a jumbo frame of ${size} bytes`, JUMBO4, sized(JUMBO4, size))),
  told('a jumbo frame that is too big', JUMBO4, sized(JUMBO4, 9001)),
  ...steps,
];
