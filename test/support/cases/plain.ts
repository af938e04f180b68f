// SPDX-License-Identifier: Apache-2.0
// What has a length or a type of its own, one packet each, to plain services.
import { Reason, Tally, VipFilterLimit } from '../../../src/dataplane/abi.gen.js';
import type { PacketPath } from '../packet-path.js';
import { checksum, frame, ipv4Header, ipv6Header, type PacketSpec, packet, TCP } from '../packets.js';
import { all, OTHER_INTERFACE, type PacketCase, padded, patched, type Row, VIP4, VIP6 } from './table.js';

const OTHER4 = '198.51.100.1';
const OTHER6 = '2001:db8:ffff::1';

const RING = Uint16Array.of(1, 1, 1);

/** Fills the tables the cases are written for. */
export function preparePlain(path: PacketPath): void {
  const pool = (number: number, address: string, interfaceIndex?: number): void => {
    path.backend(number, address, number, 1, interfaceIndex === undefined ? {} : { interface: interfaceIndex });
    path.ring(
      number,
      number * 10,
      RING.map(() => number),
    );
  };
  pool(1, '10.9.0.21');
  pool(2, 'fd00:9::21');
  pool(3, '10.9.0.23', OTHER_INTERFACE);
  pool(4, 'fd00:9::23', OTHER_INTERFACE);
  pool(6, 'fd00:9::26');
  path.backend(6, 'fd00:9::26', 6, 1, { valid: false });
  pool(7, '10.9.0.27');
  path.backend(8, '10.9.0.28', 7, 2);
  path.service(1, VIP4, 80, 'tcp', 1, 0);
  path.service(2, VIP4, 53, 'udp', 1, 4);
  path.service(3, VIP6, 80, 'tcp', 2, 8);
  path.service(4, VIP6, 53, 'udp', 2, 12);
  path.service(5, VIP4, 8080, 'tcp', 3, 16);
  path.service(6, VIP6, 8080, 'udp', 4, 20);
  path.service(7, VIP4, 81, 'tcp', 5, 24); // a pool without a ring
  path.service(8, VIP6, 81, 'udp', 6, 28); // its backend takes no packets
  path.service(9, VIP4, 82, 'tcp', 7, 32); // its ring is changed by cases
}

const spec = (port: number, more: Partial<PacketSpec>): PacketSpec => ({
  from: '203.0.113.7',
  to: VIP4,
  fromPort: 40000,
  toPort: port,
  protocol: 'tcp',
  ...more,
});
const tcp4 = (more: Partial<PacketSpec> = {}): Buffer => packet(spec(80, more));
const udp4 = (more: Partial<PacketSpec> = {}): Buffer => packet(spec(53, { protocol: 'udp', payload: 12, ...more }));
const tcp6 = (more: Partial<PacketSpec> = {}): Buffer => packet(spec(80, { from: '2001:db8:1::7', to: VIP6, ...more }));
const udp6 = (more: Partial<PacketSpec> = {}): Buffer =>
  packet(spec(53, { from: '2001:db8:1::7', to: VIP6, protocol: 'udp', payload: 12, ...more }));

const typed = (whole: Buffer, type: number): Buffer => patched(whole, 12, type >> 8, type & 0xff);
const ip4 = (to: string, protocol: number, more: { fragment?: number; size?: number } = {}): Buffer => {
  const payload = Buffer.alloc(more.size ?? 32, 0x11);
  return frame(Buffer.concat([ipv4Header('203.0.113.7', to, protocol, payload.length, more), payload]));
};
/** TCP to VIP6 behind these extension headers of eight bytes. */
function extended(types: number | readonly number[], segment: Buffer): Buffer {
  const chain = [types].flat();
  const headers = chain.map((type, at) => Buffer.of(chain[at + 1] ?? 6, 0, 0, 0, 0, 0, 0, type === 44 ? 9 : 0));
  const payload = Buffer.concat([...headers, segment]);
  return frame(Buffer.concat([ipv6Header('2001:db8:1::7', VIP6, chain[0] ?? 6, payload.length), payload]));
}
/** ICMP to VIP4 with this type, code and body after the first four bytes. */
function icmp4(type: number, code: number, body = Buffer.alloc(20, 0x42), to = VIP4, from = '203.0.113.7'): Buffer {
  const message = Buffer.concat([Buffer.of(type, code, 0, 0), body]);
  message.writeUInt16BE(checksum(message), 2);
  return frame(Buffer.concat([ipv4Header(from, to, 1, message.length), message]));
}
/** What a router says of the answer to this packet: it quotes a packet with its addresses and ports turned round. */
function icmpError4(about: Buffer, size = about.length - 14): Buffer {
  const quote = Buffer.concat([about.subarray(14), Buffer.alloc(Math.max(0, size - about.length + 14))]);
  quote.set(about.subarray(30, 34), 12);
  quote.set(about.subarray(26, 30), 16);
  quote.set(about.subarray(36, 38), 20);
  quote.set(about.subarray(34, 36), 22);
  return icmp4(3, 4, Buffer.concat([Buffer.of(0, 0, 5, 0), quote]), VIP4, '198.51.100.99');
}
const ip6 = (to: string, next: number): Buffer =>
  frame(Buffer.concat([ipv6Header('2001:db8:1::7', to, next, 32), Buffer.alloc(32)]));
/** IEEE 802.1Q in front of the EtherType. */
const tagged = (whole: Buffer, tag = 0x8100): Buffer =>
  Buffer.concat([whole.subarray(0, 12), Buffer.of(tag >> 8, tag & 0xff, 0, 7), whole.subarray(12)]);

const B4 = { to: '10.9.0.21' };
const B6 = { to: 'fd00:9::21' };

const forwarded = all('tx', Reason.FORWARDED, [
  ['IPv4 SYN', tcp4({ flags: TCP.SYN, fromPort: 40001 }), B4],
  ['IPv4 ACK of no known flow', tcp4({ fromPort: 40002 }), B4],
  ['IPv4 RST of no known flow', tcp4({ fromPort: 40003, flags: TCP.RST }), B4],
  ['IPv4 UDP', udp4({ fromPort: 40004 }), B4],
  ['IPv4 UDP without payload', udp4({ fromPort: 40005, payload: 0 }), B4],
  ['IPv6 SYN', tcp6({ flags: TCP.SYN, fromPort: 40001 }), B6],
  ['IPv6 ACK of no known flow', tcp6({ fromPort: 40002 }), B6],
  ['IPv6 UDP', udp6({ fromPort: 40004 }), B6],
  ['IPv4 TCP with one byte', tcp4({ payload: 1 }), B4],
  ['IPv4 UDP with seven bytes', udp4({ payload: 7 }), B4],
  ['IPv6 TCP with 333 bytes', tcp6({ payload: 333 }), B6],
  ['IPv4 with one word of options', tcp4({ options: 1 }), B4],
  ['IPv4 with ten words of options', tcp4({ options: 10, payload: 3 }), B4],
  ['IPv4 UDP with ten words of options', udp4({ options: 10 }), B4],
  ['TCP with 40 bytes of options', patched(tcp4({ payload: 40 }), 46, 0xf0), B4],
  ['IPv4 with padding', padded(tcp4(), 6), B4],
  ['IPv6 with padding', padded(udp6(), 19), B6],
  ['UDP shorter than its IP packet', patched(udp4({ payload: 20 }), 38, 0, 18), B4],
  ['IPv4 that fills the tunnel MTU', tcp4({ payload: 1440 }), B4],
  ['IPv6 that fills the tunnel MTU', tcp6({ payload: 1400 }), B6],
  ['IPv4 that fills the tunnel MTU, with padding', padded(tcp4({ payload: 1440 }), 30), B4],
  ['IPv4 reserved fragment bit', patched(tcp4(), 20, 0x80), B4],
  ['802.1Q', tagged(tcp4()), B4],
  ['802.1ad and 802.1Q', tagged(tagged(tcp6()), 0x88a8), B6],
  ['an IPv6 fragment that is none (RFC 6946)', extended(44, tcp6().subarray(54)), B6],
  ['IPv6 with six extension headers', extended([0, 60, 43, 60, 51, 60], tcp6().subarray(54)), B6],
  ...[1, 2, 3, 0xb8, 0xff].flatMap((trafficClass): Row[] => [
    [`IPv4 TOS ${trafficClass}`, tcp4({ trafficClass }), B4],
    [`IPv6 traffic class ${trafficClass}`, tcp6({ trafficClass }), B6],
  ]),
]);

const known = (more: Partial<PacketSpec>): Buffer => packet(spec(82, more));
const moveRing =
  (...before: readonly Buffer[]) =>
  (path: PacketPath): void => {
    path.ring(7, 70, Uint16Array.of(7, 7, 7));
    for (const one of before) path.program.run(one, null);
    path.ring(7, 80, Uint16Array.of(8, 8, 8));
  };
const stateful: PacketCase[] = [
  {
    name: 'a known flow keeps its backend when the ring changes',
    state: moveRing(known({ flags: TCP.SYN })),
    packet: known({ payload: 100 }),
    action: 'tx',
    reason: Reason.FORWARDED,
    to: '10.9.0.27',
  },
  {
    name: 'an unknown flow goes by the changed ring',
    state: moveRing(known({ flags: TCP.SYN, fromPort: 40001 })),
    packet: known({ fromPort: 40002 }),
    action: 'tx',
    reason: Reason.FORWARDED,
    to: '10.9.0.28',
  },
];

const redirected = all('redirect', Reason.REDIRECTED, [
  ['IPv4 to a backend on another interface', packet(spec(8080, {})), { to: '10.9.0.23' }],
  ['IPv6 to a backend on another interface', udp6({ toPort: 8080 }), { to: 'fd00:9::23' }],
]);

const notIp = all('pass', Reason.NOT_IP, [
  ['ARP', typed(frame(Buffer.from('0001080006040001020000000001cb007107000000000000c000020a', 'hex')), 0x0806)],
  ['three VLAN tags', tagged(tagged(tagged(tcp4())))],
  ['a frame that ends in its tag', tagged(tcp4()).subarray(0, 17)],
  ['an Ethernet length instead of a type', typed(tcp4(), 64)],
  ['an Ethernet header alone, of no IP', Buffer.from('0200000000010200000000021234', 'hex')],
]);

const runts = all('pass', Reason.RUNT, [
  ['IPv4 type and nothing behind', tcp4().subarray(0, 14)],
  ['IPv4 header short of one byte', tcp4().subarray(0, 33)],
  ['IPv6 type and nothing behind', tcp6().subarray(0, 14)],
  ['IPv6 header short of one byte', tcp6().subarray(0, 53)],
]);

/** Another address with VIP4's bit in vip_filter: only the hash lookup tells it apart. */
function sameFilterBit(): string {
  const bit = (address: string): number =>
    Math.imul(Buffer.from(address.split('.').map(Number)).readUInt32LE(), VipFilterLimit.FACTOR) >>>
    VipFilterLimit.SHIFT;
  for (let host = 1; ; host++) {
    const address = `10.77.${host >> 8}.${host & 255}`;
    if (bit(address) === bit(VIP4)) return address;
  }
}

const notOurs = all('pass', Reason.NOT_OURS, [
  ['IPv4 to another address', tcp4({ to: OTHER4 })],
  ['IPv6 to another address', udp6({ to: OTHER6 })],
  ['IPv4 to another port of a VIP', tcp4({ toPort: 443 })],
  ['IPv4 to port 0 of a VIP', tcp4({ toPort: 0 })],
  ['IPv6 to another port of a VIP', tcp6({ toPort: 443 })],
  ['UDP to a TCP port of a VIP', udp4({ toPort: 80 })],
  ['TCP to a UDP port of a VIP', tcp6({ toPort: 53 })],
  ['IPv6 address that begins like an IPv4 VIP', tcp6({ to: 'c000:20a::' })],
  ['TCP from a VIP', tcp4({ from: VIP4, to: OTHER4, fromPort: 80, toPort: 80 })],
  ...[4, 41, 47, 50, 58, 132].map((protocol): Row => [`protocol ${protocol} to a VIP`, ip4(VIP4, protocol)]),
  ['ICMP that is neither echo nor error', icmp4(13, 0)],
  ['an echo reply', icmp4(0, 0)],
  ...[1, 41, 50, 59].map((next): Row => [`next header ${next} to a VIP`, ip6(VIP6, next)]),
  ['fragment to another address', ip4(OTHER4, 6, { fragment: 0x2000 })],
  ['IPv6 fragment to another address', ip6(OTHER6, 44)],
  ['IPv6 extension to another address', ip6(OTHER6, 0)],
  ['truncated, to another address', tcp4({ to: OTHER4, payload: 20 }).subarray(0, 60)],
  ['IPv6 truncated, to another address', tcp6({ to: OTHER6, payload: 20 }).subarray(0, 80)],
  ['header length 0, to another address', patched(tcp4({ to: OTHER4 }), 14, 0x40)],
  ['UDP length 0, to another address', patched(udp4({ to: OTHER4 }), 38, 0, 0)],
  ['too big, to another address', tcp4({ to: OTHER4, payload: 1460 })],
  ['an address with the filter bit of a VIP', tcp4({ to: sameFilterBit() })],
]);

const malformed = all('drop', Reason.MALFORMED, [
  ['IPv4 header length 4 words', patched(tcp4(), 14, 0x44)],
  ['IPv4 total length below its header', patched(tcp4(), 16, 0, 19)],
  ['IPv4 total length below its options', patched(tcp4({ options: 10 }), 16, 0, 59)],
  ['IPv4 type with version 6', patched(tcp4(), 14, 0x65)],
  ['IPv6 type with version 4', patched(tcp6(), 14, 0x40)],
  ['IPv4 TCP of 19 bytes', patched(tcp4(), 16, 0, 39)],
  ['IPv4 options that leave no room for TCP', patched(tcp4({ payload: 3 }), 14, 0x46)],
  ['IPv6 TCP of 19 bytes', patched(tcp6(), 18, 0, 19)],
  ['IPv6 TCP without payload length', patched(tcp6(), 18, 0, 0)],
  ['TCP header length 4 words', patched(tcp4(), 46, 0x40)],
  ['TCP header longer than the packet', patched(tcp4({ payload: 3 }), 46, 0x60)],
  ['IPv6 TCP header longer than the packet', patched(tcp6(), 66, 0xf0)],
  ['TCP header longer than the packet, within the padding', padded(patched(tcp4(), 46, 0x60), 8)],
  ['IPv4 UDP of 7 bytes', patched(udp4(), 16, 0, 27)],
  ['UDP length 7', patched(udp4(), 38, 0, 7)],
  ['UDP length past the packet', patched(udp4(), 38, 0, 21)],
  ['UDP length past the packet, within the padding', padded(patched(udp6(), 58, 0, 21), 8)],
  ['first fragment with less than its TCP header', ip4(VIP4, 6, { fragment: 0x2000, size: 16 })],
  ['TCP fragment that begins within the header', ip4(VIP4, 6, { fragment: 0x2002 })],
  ['fragment that ends past the largest packet', ip4(VIP4, 17, { fragment: 0x1fff })],
  ['fragment with more to come and an odd size', ip4(VIP4, 17, { fragment: 0x2010, size: 33 })],
  ['two fragment headers', extended([44, 44], tcp6().subarray(54))],
  ['an extension header longer than the packet', patched(extended(60, tcp6().subarray(54)), 55, 9)],
  ['extension headers and nothing behind', extended([0, 60], Buffer.alloc(0))],
  ['ICMP of 7 bytes', ip4(VIP4, 1, { size: 7 })],
  ['malformed to a port no service has', patched(tcp4({ toPort: 443 }), 46, 0x40)],
]);

const truncated = all('drop', Reason.TRUNCATED, [
  ['IPv4 short of one byte', tcp4({ payload: 20 }).subarray(0, 73)],
  ['IPv4 options cut', tcp4({ options: 10 }).subarray(0, 60)],
  ['IPv4 UDP header cut', udp4().subarray(0, 40)],
  ['IPv6 short of one byte', udp6().subarray(0, 73)],
  ['IPv6 header alone', tcp6().subarray(0, 54)],
  ['ICMP to a VIP, cut', ip4(VIP4, 1).subarray(0, 60)],
]);

const fragments = all('drop', Reason.FRAGMENT, [
  ['middle fragment of an unknown datagram', ip4(VIP4, 17, { fragment: 0x2064 })],
  ['last fragment of an unknown datagram', ip4(VIP4, 6, { fragment: 0x64 })],
  ['first fragment of ICMP', ip4(VIP4, 1, { fragment: 0x2000 })],
  ['last fragment of ICMP', ip4(VIP4, 1, { fragment: 0x64 })],
]);

const extensions = all('drop', Reason.EXTENSION, [
  ['seven extension headers', extended([0, 60, 60, 60, 60, 60, 60], tcp6().subarray(54))],
  ['a routing header with a segment left', patched(extended(43, tcp6().subarray(54)), 57, 1)],
]);

const noBackend = all('drop', Reason.NO_BACKEND, [
  ['a pool without a ring', packet(spec(81, {})), { service: 7 }],
  ['a pool whose backend takes no packets', udp6({ toPort: 81 }), { service: 8 }],
]);

const tooBig = all('drop', Reason.TOO_BIG, [
  [
    'an ICMP error over the tunnel MTU',
    icmpError4(tcp4({ fromPort: 40001, flags: TCP.SYN }), 1460),
    { service: 1, tallies: [Tally.ICMP_ERROR] },
  ],
]);
const icmpUnknown = all('drop', Reason.ICMP_UNKNOWN, [
  ['an error about a flow nobody has', icmpError4(tcp4({ fromPort: 9 })), { service: 1 }],
  ['an error about a port no service has', icmpError4(tcp4({ toPort: 9 }))],
  ['an error about a packet of another address', icmpError4(tcp4({ to: OTHER4 }))],
]);
const known4 = icmpError4(tcp4({ fromPort: 40001, flags: TCP.SYN }));
const CARRIED = { ...B4, service: 1, tallies: [Tally.ICMP_ERROR] };
const icmp: readonly PacketCase[] = [
  ...all('tx', Reason.FORWARDED, [
    ['an error about a known flow', known4, CARRIED],
    ['an error with eight bytes of the transport', icmpError4(tcp4({ fromPort: 40001 }).subarray(0, 42)), CARRIED],
  ]),
];

/** Metadata in front of the frame, so that 216 - `size` bytes of headroom are left. */
function withMetadata(size: number, whole: Buffer): Pick<PacketCase, 'packet' | 'context'> {
  const packet = Buffer.concat([Buffer.alloc(size, 0x77), whole]);
  return { packet, context: new Uint8Array(Uint32Array.of(size, packet.length, 0, 1, 0, 0).buffer) };
}

/** Needs a kernel whose test runs take metadata, more than 32 bytes of it, from the headroom. */
export const HEADROOM_CASES: readonly PacketCase[] = [
  {
    name: 'no room for the IPv4 header',
    ...withMetadata(200, tcp4()),
    action: 'drop',
    reason: Reason.NO_HEADROOM,
    service: 1,
  },
  {
    name: 'no room for the IPv6 header',
    ...withMetadata(180, tcp6()),
    action: 'drop',
    reason: Reason.NO_HEADROOM,
    service: 3,
  },
];

/** Every case that needs nothing but prepareCases. */
export const plain: readonly PacketCase[] = [
  ...[...forwarded, ...stateful, ...redirected, ...notIp, ...runts, ...notOurs],
  ...[...malformed, ...truncated, ...fragments, ...extensions, ...noBackend, ...tooBig],
  ...[...icmp, ...icmpUnknown],
];
