// SPDX-License-Identifier: Apache-2.0
// What XDP does with packets of services in NAT mode before tc_nat has them.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Reason, ServiceFlag, ServiceOptions } from '../../src/dataplane/abi.gen.js';
import { addSources, listNumber } from '../../src/dataplane/sources.js';
import { outcome } from '../fuzz/compare.js';
import { fragmentsOf } from '../support/fragments.js';
import { openPacketPath, type PacketPath } from '../support/packet-path.js';
import { packet, TCP } from '../support/packets.js';

const CLIENT = { 4: '203.0.113.7', 6: '2001:db8:1::7' } as const;
const VIP = { 4: '192.0.2.10', 6: '2001:db8::10' } as const;
const MTU = 1400;
const PASS = 2;
const TX = 3;
const DROP = 1;
let path: PacketPath;

before(async () => {
  path = await openPacketPath();
  const u32 = (value: number): Uint8Array => new Uint8Array(Uint32Array.of(value).buffer);
  const none = { sourceMask: new Uint8Array(16), rateIntervalNs: 0n, rateBurstNs: 0n };
  for (const family of [4, 6] as const) {
    path.service(family, VIP[family], 80, 'tcp', 1, 0, ServiceFlag.NAT);
    path.service(10 + family, VIP[family], 80, 'udp', 1, 0, ServiceFlag.NAT | ServiceFlag.DENY);
    path.service(20 + family, VIP[family], 81, 'udp', 1, 0, ServiceFlag.NAT);
    for (const number of [family, 10 + family])
      path.maps.handle.service_options.set(u32(number), ServiceOptions.encode({ ...none, natMtu: MTU }), 0);
  }
  await addSources(path.maps, listNumber(14, true), ['203.0.113.0/24']);
});
after(() => path?.close());

for (const family of [4, 6] as const) {
  const head = family === 4 ? 20 : 40;
  const tcp = (size: number): Buffer =>
    packet({
      protocol: 'tcp',
      from: CLIENT[family],
      to: VIP[family],
      fromPort: 5,
      toPort: 80,
      flags: TCP.ACK,
      payload: size - head - 20,
    });

  test(`nat: IPv${family}: XDP leaves what fits to tc_nat, as it came`, () => {
    for (const size of [60, 1280, 1281, MTU]) {
      const before = outcome(path.maps, Reason.NAT);
      const run = path.program.run(tcp(size), null);
      assert.equal(run.retval, PASS);
      assert.equal(Buffer.from(run.data).toString('hex'), tcp(size).toString('hex'));
      assert.equal(outcome(path.maps, Reason.NAT), before + 1);
    }
  });

  test(`nat: IPv${family}: what does not fit is answered with what would`, () => {
    const run = path.program.run(tcp(MTU + 1), null);
    assert.equal(run.retval, TX);
    const icmp = Buffer.from(run.data).subarray(14 + head);
    assert.deepEqual([icmp[0], icmp[1], icmp.readUInt32BE(4)], family === 4 ? [3, 4, MTU] : [2, 0, MTU]);
  });
}

for (const family of [4, 6] as const)
  test(`nat: IPv${family}: XDP leaves the fragments behind a first one to tc_nat, also where the VIP has other services`, () => {
    const datagram = packet({
      protocol: 'udp',
      from: CLIENT[family],
      to: VIP[family],
      fromPort: 5,
      toPort: 81,
      payload: 3000,
    });
    const [first = assert.fail(), ...later] = fragmentsOf(datagram, 7);
    for (const part of later) assert.equal(path.program.run(part, null).retval, DROP, 'of a datagram nobody knows');
    for (const part of [first, ...later]) {
      const run = path.program.run(part, null);
      assert.equal(run.retval, PASS);
      assert.equal(Buffer.from(run.data).toString('hex'), part.toString('hex'));
    }
  });

test('nat: XDP guards a NAT service like any other', () => {
  const from = packet({ protocol: 'udp', from: CLIENT[4], to: VIP[4], fromPort: 5, toPort: 80, payload: 9 });
  assert.equal(path.program.run(from, null).retval, DROP);
  const other = packet({ protocol: 'udp', from: '198.51.100.1', to: VIP[4], fromPort: 5, toPort: 80, payload: 9 });
  assert.equal(path.program.run(other, null).retval, PASS);
});
