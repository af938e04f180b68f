// SPDX-License-Identifier: Apache-2.0
// docs/packet-path.md, "The outer header" and step 11: every form, across families, with tags and other lengths.
import { Reason, ServiceFlag } from '../../../src/dataplane/abi.gen.js';
import type { PacketPath } from '../packet-path.js';
import { packetOf } from '../packet-run.js';
import { type Form, ipFrame, type PacketSpec, TCP, tags, withTags } from '../packets.js';
import {
  b4,
  b6,
  CLIENT4,
  CLIENT6,
  client,
  declare,
  type Member,
  type More,
  OTHER_INTERFACE,
  one,
  type PacketCase,
  padded,
} from './table.js';

const V4 = '192.0.2.30';
const V6 = '2001:db8::30';
const ONE_TAG = tags([0x8100, 0x0064]);
const TWO_TAGS = tags([0x88a8, 0x2007], [0x8100, 0xe123]);

/** A service of each transport on one port of V4 or V6. */
interface Leg {
  readonly vip: string;
  readonly port: number;
  readonly number: number; // TCP's; UDP's is the next one
  readonly form?: Form;
  readonly member: Member;
}

const FLAGS = { gue: ServiceFlag.GUE, l2: ServiceFlag.L2 };
const leg = (number: number, vip: string, form: Form | null, v6: boolean, more: Partial<Member> = {}): Leg => ({
  vip,
  port: 47000 + number,
  number,
  member: { address: v6 ? b6(number) : b4(number), onLink: true, ...more },
  ...(form && { form }),
});

const LEGS: Readonly<Record<string, Leg>> = {
  '4in4': leg(30, V4, null, false),
  '4in6': leg(32, V4, null, true),
  '6in4': leg(34, V6, null, false),
  '6in6': leg(36, V6, null, true),
  'GUE 4in4': leg(38, V4, 'gue', false),
  'GUE 4in6': leg(40, V4, 'gue', true),
  'GUE 6in4': leg(42, V6, 'gue', false),
  'GUE 6in6': leg(44, V6, 'gue', true),
  'L2 IPv4': leg(46, V4, 'l2', false),
  'L2 IPv6': leg(48, V6, 'l2', true),
};

/** The same with the next hop behind one tag, behind two, and on another interface. */
const TAGGED: Readonly<Record<string, Leg>> = {
  '4in4 to one tag': leg(50, V4, null, false, { tags: ONE_TAG }),
  '6in6 to two tags': leg(52, V6, null, true, { tags: TWO_TAGS }),
  'GUE 4in6 to one tag': leg(54, V4, 'gue', true, { tags: ONE_TAG }),
  'GUE 6in4 to two tags': leg(56, V6, 'gue', false, { tags: TWO_TAGS }),
  'L2 IPv4 to one tag': leg(58, V4, 'l2', false, { tags: ONE_TAG }),
  'L2 IPv6 to two tags': leg(60, V6, 'l2', true, { tags: TWO_TAGS }),
};
const ELSEWHERE: Readonly<Record<string, Leg>> = {
  '6in4 to another interface': leg(62, V6, null, false, { interface: OTHER_INTERFACE }),
  'GUE 4in6 to another interface': leg(64, V4, 'gue', true, { interface: OTHER_INTERFACE }),
  'L2 IPv4 to another interface, two tags': leg(66, V4, 'l2', false, { interface: OTHER_INTERFACE, tags: TWO_TAGS }),
};
/** L2 forwarding to a backend that is not on link. */
const OFF_LINK = leg(68, V4, 'l2', false, { onLink: false });

export function prepareForwarding(path: PacketPath): void {
  const each = [...Object.values(LEGS), ...Object.values(TAGGED), ...Object.values(ELSEWHERE), OFF_LINK];
  for (const { number, vip, port, form, member } of each) {
    const both = { address: vip, port, members: [member], flags: form ? FLAGS[form] : 0 };
    declare(path, { ...both, number, protocol: 'tcp' });
    declare(path, { ...both, number: number + 1, protocol: 'udp' });
  }
}

function isUdp(whole: Buffer): boolean {
  const packet = packetOf(whole);
  return packet.readUInt8(packet.readUInt8(0) >> 4 === 6 ? 6 : 9) === 17;
}

const sent = (name: string, of: Leg, packet: Buffer, more: More = {}): PacketCase =>
  one(name, of.member.interface ? Reason.REDIRECTED : Reason.FORWARDED, packet, {
    service: of.number + (isUdp(packet) ? 1 : 0),
    to: of.member.address,
    ...(of.form && { form: of.form }),
    ...(of.member.tags && { tags: of.member.tags }),
    ...more,
  });

let fromPort = 30000;
/** A packet of a flow of its own. */
const flow = (of: Leg, more: Partial<PacketSpec>): Buffer => client(of.vip, of.port, { fromPort: ++fromPort, ...more });

const UDP = { protocol: 'udp' } as const;
const client4or6 = (of: Leg): string => (of.vip === V6 ? CLIENT6 : CLIENT4);

function legCases([name, of]: readonly [string, Leg]): PacketCase[] {
  const short = flow(of, { ...UDP, payload: 8 });
  const udpAt = of.vip === V6 ? 54 : 34;
  return [
    sent(`${name}: SYN`, of, flow(of, { flags: TCP.SYN }), { begins: true }),
    sent(`${name}: ACK`, of, flow(of, { payload: 400 }), { begins: false }),
    ...[1, 333, 1391].map((payload) => sent(`${name}: TCP with ${payload} bytes`, of, flow(of, { payload }))),
    sent(`${name}: UDP`, of, flow(of, { ...UDP, payload: 64 }), { begins: true }),
    ...[0, 1, 777].map((payload) => sent(`${name}: UDP with ${payload} bytes`, of, flow(of, { ...UDP, payload }))),
    // The checksum of GUE over IPv6 has nothing to be derived from; 483 to 485 are about a piece of its sum.
    ...[0, 1, 483, 484, 485, 1001].map((payload) =>
      sent(`${name}: UDP of ${payload} bytes without a checksum`, of, flow(of, { ...UDP, payload, unsummed: true })),
    ),
    sent(
      `${name}: UDP shorter than its IP packet`,
      of,
      ipFrame(client4or6(of), of.vip, 17, Buffer.concat([short.subarray(udpAt), Buffer.alloc(16, 0x77)])),
    ),
    sent(`${name}: padding`, of, padded(flow(of, { payload: 3 }), 13)),
    sent(`${name}: UDP without a checksum, padding`, of, padded(flow(of, { ...UDP, payload: 3, unsummed: true }), 11)),
    ...[1, 2, 3, 0xb9, 0xff].map((trafficClass) =>
      sent(`${name}: TOS ${trafficClass}`, of, flow(of, { trafficClass, payload: 9 })),
    ),
    sent(`${name}: behind a tag`, of, withTags(flow(of, { payload: 50 }), ONE_TAG)),
    sent(`${name}: behind two tags`, of, withTags(flow(of, { ...UDP, payload: 51 }), TWO_TAGS)),
    sent(`${name}: behind two tags, padding`, of, padded(withTags(flow(of, { payload: 1 }), TWO_TAGS), 7)),
  ];
}

const optioned = (['4in4', '4in6', 'GUE 4in4', 'GUE 4in6', 'L2 IPv4'] as const).flatMap((name) => {
  const of = LEGS[name] as Leg;
  return [
    sent(`${name}: TCP behind options`, of, flow(of, { options: 3, payload: 77 })),
    sent(`${name}: UDP behind ten words of options`, of, flow(of, { ...UDP, options: 10, payload: 78 })),
    sent(`${name}: without DF`, of, flow(of, { df: false, payload: 5 })),
  ];
});

const tagCases = [...Object.entries(TAGGED), ...Object.entries(ELSEWHERE)].flatMap(([name, of]) => [
  sent(name, of, flow(of, { payload: 99 })),
  sent(`${name}: UDP with no bytes`, of, flow(of, { ...UDP, payload: 0 })),
  sent(`${name}: behind a tag`, of, withTags(flow(of, { payload: 100 }), ONE_TAG)),
  sent(`${name}: behind two tags, padding`, of, padded(withTags(flow(of, { trafficClass: 0xb9 }), TWO_TAGS), 9)),
]);

export const forwarding: readonly PacketCase[] = [
  ...Object.entries(LEGS).flatMap(legCases),
  ...optioned,
  ...tagCases,
  one('L2 to a backend that is not on link', Reason.NO_BACKEND, flow(OFF_LINK, {}), { service: OFF_LINK.number }),
];
