// SPDX-License-Identifier: Apache-2.0
// tc_nat between IPv4 and IPv6 (RFC 7915), by packet tables.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { formatAddress } from '../../src/model/address.js';
import { type NatPath, openNatPath, TC } from '../support/nat-path.js';
import { NEXT_HOP_MAC, SOURCE_MAC } from '../support/packet-path.js';
import { pinTo } from '../support/packet-run.js';
import { checksum, type PacketSpec, packet, TCP } from '../support/packets.js';

const CLIENT = { 4: '203.0.113.7', 6: '2001:db8:1::7' } as const;
const VIP = { 4: '192.0.2.10', 6: '2001:db8::10' } as const;
const BACKEND = { 4: '10.9.0.21', 6: 'fd00:9::21' } as const;
const SOURCE = { 4: '10.9.0.10', 6: 'fd00:9::10' } as const;
const EMBEDDED = '64:ff9b::cb00:7107';
const TO_CLIENT = [Buffer.from('020000000002', 'hex'), Buffer.from('020000000001', 'hex')] as const;
const TO_BACKEND = [NEXT_HOP_MAC, SOURCE_MAC] as const;

let path: NatPath;
let ports = 30_000;
before(async () => {
  pinTo(0);
  path = await openNatPath();
  for (const family of [4, 6] as const) {
    path.backend(family, BACKEND[family], family, 1, { port: 8080 });
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

/** The frame with its IPv4 identification taken out, which is one of chance where the packet may be cut. */
function withoutId(frame: Buffer): Buffer {
  const copy = Buffer.from(frame);
  if (copy.readUInt16BE(12) !== 0x0800) return copy;
  copy.writeUInt16BE(0, 18);
  copy.writeUInt16BE(0, 24);
  copy.writeUInt16BE(checksum(copy.subarray(14, 34)), 24);
  return copy;
}

function becomes(came: Buffer, spec: PacketSpec, macs: readonly [Uint8Array, Uint8Array], what: string): void {
  const run = path.run(came);
  assert.equal(run.retval, TC.REDIRECT, what);
  const out = Buffer.from(run.data);
  if (out.readUInt16BE(12) === 0x0800)
    assert.equal(checksum(out.subarray(14, 34)), 0, `${what}: the header's checksum`);
  // RFC 7915, 5.1: what is longer than 1260 bytes must not be cut.
  const df = out.length - 14 > 1260;
  const wanted = Buffer.concat([...macs, packet({ ...spec, df }).subarray(12)]);
  assert.equal(withoutId(out).toString('hex'), withoutId(wanted).toString('hex'), what);
}

for (const [outside, inside, vipPort, protocol] of [
  [4, 6, 80, 'tcp'],
  [4, 6, 80, 'udp'],
  [4, 6, 81, 'tcp'],
  [6, 4, 80, 'tcp'],
  [6, 4, 80, 'udp'],
] as const)
  test(`nat: an IPv${outside} service with IPv${inside} backends, ${protocol}${vipPort === 81 ? ', sources stay' : ''}`, () => {
    const client = ports++;
    const request = { protocol, from: CLIENT[outside], to: VIP[outside], fromPort: client, toPort: vipPort } as const;
    assert.equal(path.run(packet({ ...request, flags: TCP.SYN })).retval, TC.REDIRECT);
    const nat = path.connections().find((each) => each.clientPort === client) ?? assert.fail();
    const source = formatAddress(nat.source.subarray(0, inside === 4 ? 4 : 16));
    assert.equal(source, vipPort === 81 ? EMBEDDED : SOURCE[inside]);
    for (const more of [
      { payload: 0 },
      { payload: 1 },
      { payload: 33, trafficClass: 0xb8 | 2 },
      { payload: 1180 },
      { payload: 1300 },
    ]) {
      const sent = {
        ...more,
        protocol,
        from: source,
        to: BACKEND[inside],
        fromPort: nat.sourcePort,
        toPort: 8080,
      } as const;
      becomes(packet({ ...more, ...request }), sent, TO_BACKEND, `request ${JSON.stringify(more)}`);
      const answer = {
        ...more,
        protocol,
        from: BACKEND[inside],
        to: source,
        fromPort: 8080,
        toPort: nat.sourcePort,
      } as const;
      const told = {
        ...more,
        protocol,
        from: VIP[outside],
        to: CLIENT[outside],
        fromPort: vipPort,
        toPort: client,
      } as const;
      becomes(packet(answer), told, TO_CLIENT, `reply ${JSON.stringify(more)}`);
    }
  });

test('nat: what cannot be translated between families is dropped and counted', () => {
  const udp = { protocol: 'udp', from: CLIENT[4], to: VIP[4], fromPort: 5, toPort: 80, payload: 9 } as const;
  assert.equal(path.run(packet(udp)).retval, TC.REDIRECT);
  for (const input of [packet({ ...udp, unsummed: true }), packet({ ...udp, options: 1 })])
    assert.equal(path.run(input).retval, TC.SHOT);
  assert.equal(path.outcomes(14).untranslatable, 2);
  const v6 = packet({ protocol: 'tcp', from: CLIENT[6], to: VIP[6], fromPort: 5, toPort: 81, flags: TCP.SYN });
  assert.equal(path.run(v6).retval, TC.SHOT);
  assert.deepEqual(path.outcomes(26), { untranslatable: 1 });
});
