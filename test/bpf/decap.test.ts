// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { type NativeProgram, native } from '../../src/dataplane/native.js';
import { objectPath } from '../../src/dataplane/program.js';
import { frame, ipv4Header, ipv6Header, packet, TCP } from '../support/packets.js';

const XDP_DROP = 1;
const XDP_PASS = 2;
let decap: NativeProgram;
before(async () => {
  const object = native.openObject(objectPath('xdp_decap'));
  await object.load();
  decap = object.program('xdp_decap');
  object.close();
});
after(() => decap?.close());

const inner4 = packet({
  from: '203.0.113.7',
  to: '192.0.2.10',
  fromPort: 40000,
  toPort: 80,
  protocol: 'tcp',
  flags: TCP.SYN,
  payload: 33,
}).subarray(14);
const inner6 = packet({
  from: '2001:db8::7',
  to: '2001:db8::10',
  fromPort: 40000,
  toPort: 53,
  protocol: 'udp',
  payload: 5,
}).subarray(14);

const over4 = (inner: Buffer, protocol = 4, more: Parameters<typeof ipv4Header>[4] = {}): Buffer =>
  frame(Buffer.concat([ipv4Header('10.9.0.10', '10.9.0.21', protocol, inner.length, more), inner]));
const over6 = (inner: Buffer, next = 41, more: Parameters<typeof ipv6Header>[4] = {}): Buffer =>
  frame(Buffer.concat([ipv6Header('fd00:9::10', 'fd00:9::21', next, inner.length, more), inner]));
/** GUE variant 1: a UDP header, and the packet right behind it. */
const gue = (inner: Buffer, port = 6080): Buffer => {
  const size = inner.length + 8;
  return Buffer.concat([Buffer.of(0xc0, 1, port >> 8, port & 255, size >> 8, size & 255, 0, 0), inner]);
};
const variant0 = (header: string, inner: Buffer): Buffer => Buffer.concat([Buffer.from(header, 'hex'), inner]);
const CE = 3;
/** The packet with these ECN bits. */
const ecn4 = (bits: number): Buffer =>
  packet({
    from: '203.0.113.7',
    to: '192.0.2.10',
    fromPort: 4,
    toPort: 80,
    protocol: 'tcp',
    trafficClass: 0xb8 | bits,
  }).subarray(14);
const ecn6 = (bits: number): Buffer =>
  packet({
    from: '2001:db8::7',
    to: '2001:db8::10',
    fromPort: 4,
    toPort: 80,
    protocol: 'tcp',
    trafficClass: 0xb8 | bits,
  }).subarray(14);
const padding = Buffer.alloc(7, 0xee);

const CASES: readonly { name: string; packet: Buffer; out: Buffer }[] = [
  { name: '4in4', packet: over4(inner4), out: frame(inner4) },
  { name: '6in6', packet: over6(inner6), out: frame(inner6) },
  {
    name: '4in4 with padding',
    packet: Buffer.concat([over4(inner4), padding]),
    out: frame(Buffer.concat([inner4, padding])),
  },
  { name: '4in4 with TOS and without DF', packet: over4(inner4, 4, { tos: 0xfc, df: false }), out: frame(inner4) },
  { name: '6in4', packet: over4(inner6, 41), out: frame(inner6) },
  { name: '4in6', packet: over6(inner4, 4), out: frame(inner4) },
  { name: 'GUE over IPv4 with IPv4', packet: over4(gue(inner4), 17), out: frame(inner4) },
  { name: 'GUE over IPv4 with IPv6', packet: over4(gue(inner6), 17), out: frame(inner6) },
  { name: 'GUE over IPv6 with IPv4', packet: over6(gue(inner4), 17), out: frame(inner4) },
  { name: 'GUE over IPv6 with IPv6', packet: over6(gue(inner6), 17), out: frame(inner6) },
  { name: 'GUE variant 0 over IPv4', packet: over4(gue(variant0('00040000', inner4)), 17), out: frame(inner4) },
  { name: 'GUE variant 0 over IPv6', packet: over6(gue(variant0('00290000', inner6)), 17), out: frame(inner6) },
  {
    name: 'GUE variant 0 with private data',
    packet: over6(gue(variant0('02040000aaaaaaaabbbbbbbb', inner4)), 17),
    out: frame(inner4),
  },
  ...[1, 2, 3].flatMap((bits) => [
    { name: `a mark around IPv4 with ECN ${bits}`, packet: over4(ecn4(bits), 4, { tos: CE }), out: frame(ecn4(CE)) },
    {
      name: `a mark around IPv6 with ECN ${bits}`,
      packet: over6(ecn6(bits), 41, { trafficClass: CE }),
      out: frame(ecn6(CE)),
    },
  ]),
  ...[
    { name: 'IPv4 TCP', packet: frame(inner4) },
    { name: 'IPv6 UDP', packet: frame(inner6) },
    { name: 'UDP to another port', packet: over4(gue(inner4, 6081), 17) },
    { name: 'GUE variant 0 with control bit', packet: over4(gue(variant0('20040000', inner4)), 17) },
    { name: 'GUE variant 0 with optional fields', packet: over4(gue(variant0('0104000100000000', inner4)), 17) },
    { name: 'GUE variant 0 around something else', packet: over4(gue(variant0('00060000', inner4)), 17) },
    { name: 'GUE variant 2', packet: over4(gue(variant0('80040000', inner4)), 17) },
    { name: 'GRE', packet: over4(inner4, 47) },
    { name: '4in4 with options in the outer header', packet: over4(inner4, 4, { options: 1 }) },
    { name: 'the first fragment of 4in4', packet: over4(inner4, 4, { fragment: 0x2000 }) },
    { name: 'a later fragment of 4in4', packet: over4(inner4, 4, { fragment: 0x00b9 }) },
    { name: '6in6 behind an extension header', packet: over6(inner6, 60) },
    { name: 'ARP', packet: Buffer.concat([inner4.subarray(0, 12), Buffer.from('0806', 'hex'), inner4]) },
  ].map((one) => ({ ...one, out: one.packet })),
];

for (const { name, packet, out } of CASES)
  test(`xdp_decap: ${name}: ${out === packet ? 'left as it is' : 'outer header off'}`, () => {
    const run = decap.run(packet, null);
    assert.equal(run.retval, XDP_PASS);
    assert.equal(Buffer.from(run.data).toString('hex'), out.toString('hex'));
  });

test('xdp_decap: a mark around a packet that knows none is a drop (RFC 6040, 4.2)', () => {
  assert.equal(decap.run(over4(ecn4(0), 4, { tos: CE }), null).retval, XDP_DROP);
  assert.equal(decap.run(over6(ecn6(0), 41, { trafficClass: CE }), null).retval, XDP_DROP);
});

test('xdp_decap: a packet cut at any length is passed, without a whole outer header or untouched', () => {
  for (const [whole, outer] of [
    [over4(inner4), 20],
    [over6(inner6), 40],
  ] as const) {
    for (let length = 14; length <= whole.length; length++) {
      const cut = whole.subarray(0, length);
      const run = decap.run(cut, null);
      const out = length < 14 + outer ? cut : Buffer.concat([cut.subarray(0, 14), cut.subarray(14 + outer)]);
      assert.equal(run.retval, XDP_PASS);
      assert.equal(Buffer.from(run.data).toString('hex'), out.toString('hex'), `${length} bytes`);
    }
  }
});
