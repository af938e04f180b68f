// SPDX-License-Identifier: Apache-2.0
// tc_nat between IPv4 and IPv6 (RFC 7915), by packet tables.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { fragmentsOf } from '../support/fragments.js';
import {
  BACKEND,
  BACKEND_PORT,
  becomes,
  begin,
  CLIENT,
  type Ends,
  embedded,
  FAMILIES,
  SOURCE,
  TO_BACKEND,
  TO_CLIENT,
  turned,
  VIP,
} from '../support/nat-ends.js';
import { type NatPath, openNatPath, TC } from '../support/nat-path.js';
import { pinTo } from '../support/packet-run.js';
import { type PacketSpec, packet, TCP } from '../support/packets.js';

let path: NatPath;
before(async () => {
  pinTo(0);
  path = await openNatPath();
  for (const family of FAMILIES) {
    path.backend(family, BACKEND[family], family, 1, { port: BACKEND_PORT, mtu: 9000 });
    path.ring(family, family * 1000, new Uint16Array(251).fill(family));
    path.pool(family, [SOURCE[family]]);
  }
  // Services whose backend is of the other family.
  path.nat(4, VIP[4], 80, 'tcp', 6, 4, 6);
  path.nat(14, VIP[4], 80, 'udp', 6, 4, 6);
  path.nat(24, VIP[4], 81, 'tcp', 6, 0, 0);
  path.nat(6, VIP[6], 80, 'tcp', 4, 6, 4);
  path.nat(16, VIP[6], 80, 'udp', 4, 6, 4);
  path.nat(26, VIP[6], 81, 'tcp', 4, 6, 0);
});
after(() => path?.close());

/** The packet of these ends: what is longer than 1260 bytes in IPv4 must not be cut (RFC 7915, 5.1). */
function translated(ends: Ends, spec: Omit<PacketSpec, keyof Ends>): Buffer {
  const short = packet({ ...spec, ...ends, df: false });
  return short.length - 14 > 1260 ? packet({ ...spec, ...ends }) : short;
}

for (const [outside, inside, vipPort, protocol] of [
  [4, 6, 80, 'tcp'],
  [4, 6, 80, 'udp'],
  [4, 6, 81, 'tcp'],
  [6, 4, 80, 'tcp'],
  [6, 4, 80, 'udp'],
] as const)
  test(`nat: an IPv${outside} service with IPv${inside} backends, ${protocol}${vipPort === 81 ? ', sources stay' : ''}`, () => {
    const ends = begin(path, { outside, inside }, protocol, vipPort);
    assert.equal(ends.inside.from, vipPort === 81 ? embedded(CLIENT[4]) : SOURCE[inside]);
    for (const more of [
      { payload: 0 },
      { payload: 1 },
      { payload: 33, trafficClass: 0xb8 | 2 },
      { payload: 1180 },
      { payload: 1220 },
      { payload: 1221 },
      { payload: 1232 },
      { payload: 1233 },
      { payload: 1300 },
    ]) {
      const spec = { ...more, protocol };
      const told = `${protocol} ${JSON.stringify(more)}`;
      becomes(path, packet({ ...spec, ...ends.outside }), translated(ends.inside, spec), TO_BACKEND, `request ${told}`);
      const [reply, back] = [turned(ends.inside), turned(ends.outside)];
      becomes(path, packet({ ...spec, ...reply }), translated(back, spec), TO_CLIENT, `reply ${told}`);
    }
  });

test('nat: between families: what an Ethernet frame is padded with is no payload', () => {
  const ends = begin(path, { outside: 4, inside: 6 }, 'tcp');
  const came = packet({ ...ends.outside, protocol: 'tcp' });
  const padding = Buffer.alloc(6, 0xee);
  const wanted = translated(ends.inside, { protocol: 'tcp' });
  becomes(path, Buffer.concat([came, padding]), Buffer.concat([wanted, padding]), TO_BACKEND, 'padded');
});

for (const outside of FAMILIES)
  test(`nat: an IPv${outside} service with backends of the other family: fragments, in any order, both ways`, () => {
    const inside = outside === 4 ? 6 : 4;
    const ends = begin(path, { outside, inside }, 'udp');
    let id = 0xfff0;
    for (const [from, to, macs] of [
      [ends.outside, ends.inside, TO_BACKEND],
      [turned(ends.inside), turned(ends.outside), TO_CLIENT],
    ] as const)
      for (const late of [false, true])
        for (const size of [1400, 800, 8]) {
          const payload = size === 8 ? 17 : 4000;
          // IPv4 has the lower half of IPv6's identification.
          const high = from.from.includes(':') ? 0x5a5a0000 : 0;
          id++;
          const [came, wanted] = [from, to].map((of, at) =>
            fragmentsOf(packet({ ...of, protocol: 'udp', payload }), (at === 0 ? high : 0) + id, size),
          );
          const order = [...(came ?? []).keys()];
          for (const at of late ? order.reverse() : order)
            becomes(path, came?.[at] ?? assert.fail(), wanted?.[at] ?? assert.fail(), macs, `${size}: fragment ${at}`);
        }
  });

test('nat: between families: a fragment header without fragments makes a packet that may be cut', () => {
  const ends = begin(path, { outside: 6, inside: 4 }, 'udp');
  const [came = assert.fail()] = fragmentsOf(
    packet({ ...ends.outside, protocol: 'udp', payload: 1300 }),
    0x10007,
    1400,
  );
  const [wanted = assert.fail()] = fragmentsOf(packet({ ...ends.inside, protocol: 'udp', payload: 1300 }), 7, 1400);
  becomes(path, came, wanted, TO_BACKEND, 'atomic');
});

test('nat: UDP without a checksum has one in IPv6, whatever it adds up to', () => {
  const ends = begin(path, { outside: 4, inside: 6 }, 'udp');
  const sizes = [0, 1, 2, 63, 503, 504, 505, 511, 512, 513, 1400, 3300];
  for (const payload of sizes) {
    const data = Buffer.from(Array.from({ length: payload }, (_, at) => (at * 7 + payload) & 255));
    const came = packet({ ...ends.outside, protocol: 'udp', data, unsummed: true });
    becomes(path, came, translated(ends.inside, { protocol: 'udp', data }), TO_BACKEND, `${payload} bytes`);
  }
  // Two bytes that make the sum 0, which is sent as 0xffff.
  const zero = translated(ends.inside, { protocol: 'udp', data: Buffer.of(0, 0) });
  const data = zero.subarray(60, 62);
  const wanted = translated(ends.inside, { protocol: 'udp', data });
  assert.ok([0, 0xffff].includes(wanted.readUInt16BE(60)), 'adds up to 0');
  wanted.writeUInt16BE(0xffff, 60);
  becomes(path, packet({ ...ends.outside, protocol: 'udp', data, unsummed: true }), wanted, TO_BACKEND, '0');
});

test('nat: what cannot be translated between families is dropped and counted', () => {
  const udp = { protocol: 'udp', from: CLIENT[4], to: VIP[4], fromPort: 5, toPort: 80, payload: 9 } as const;
  assert.equal(path.run(packet(udp)).retval, TC.REDIRECT);
  const [first = assert.fail()] = fragmentsOf(packet({ ...udp, payload: 3000, unsummed: true }), 1);
  for (const input of [first, packet({ ...udp, options: 1 })]) assert.equal(path.run(input).retval, TC.SHOT);
  assert.equal(path.outcomes(14).untranslatable, 2);
  const v6 = packet({ protocol: 'tcp', from: CLIENT[6], to: VIP[6], fromPort: 5, toPort: 81, flags: TCP.SYN });
  assert.equal(path.run(v6).retval, TC.SHOT);
  assert.deepEqual(path.outcomes(26), { untranslatable: 1 });
});
