// SPDX-License-Identifier: Apache-2.0
// tc_health: what a check's socket sends gets the outer header that a client's packet gets.
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { addressField } from '../../src/controlplane/kernel-state.js';
import { Backend, BackendFlag, Family, ServiceFlag } from '../../src/dataplane/abi.gen.js';
import { HealthProbe, HealthProbeKey } from '../../src/dataplane/health-abi.gen.js';
import { native } from '../../src/dataplane/native.js';
import { objectPath, setConstants } from '../../src/dataplane/program.js';
import { NEXT_HOP_MAC, SOURCE_MAC, TEST_CONFIG } from '../support/packet-path.js';
import { sentTo } from '../support/packet-run.js';
import { packet, TCP } from '../support/packets.js';

const UNSPEC = 0xffff_ffff;
const REDIRECT = 7;
const VIP = { 4: '192.0.2.10', 6: '2001:db8::10' } as const;
const NODE = { 4: '10.9.0.10', 6: 'fd00:9::10' } as const;
const BACKEND = { 4: '10.9.1.1', 6: 'fd00:9::101' } as const;
type FamilyNumber = 4 | 6;

async function open(t: TestContext) {
  const object = native.openObject(objectPath('tc_health'));
  t.after(() => object.close());
  setConstants(object, TEST_CONFIG, 0);
  await object.load();
  const program = object.program('tc_health');
  const probes = object.map('health_probes');
  t.after(() => {
    program.close();
    probes.close();
  });
  const keyOf = (inner: FamilyNumber, protocol: 'tcp' | 'udp') =>
    HealthProbeKey.encode({
      address: addressField(VIP[inner]),
      family: inner === 4 ? Family.IPV4 : Family.IPV6,
      ...{ port: 80, fromPort: 40_000, protocol: protocol === 'tcp' ? 6 : 17 },
    });
  return {
    run: (frame: Uint8Array) => program.run(frame, null),
    lead(
      inner: FamilyNumber,
      outer: FamilyNumber,
      protocol: 'tcp' | 'udp',
      flags: number,
      more: Partial<Backend> = {},
    ) {
      const to = Backend.encode({
        address: addressField(BACKEND[outer]),
        nextHopMac: NEXT_HOP_MAC,
        sourceMac: SOURCE_MAC,
        flags: BackendFlag.VALID | (outer === 6 ? BackendFlag.IPV6 : 0),
        ...{ slot: 1, pool: 1, interface: 1, mtu: 1500, port: 0, tagCount: 0, tag: new Uint8Array(8) },
        ...more,
      });
      probes.set(keyOf(inner, protocol), HealthProbe.encode({ to, flags, sent: 0 }), 0);
    },
    sent: (inner: FamilyNumber, protocol: 'tcp' | 'udp') =>
      HealthProbe.decode(probes.get(keyOf(inner, protocol)) ?? new Uint8Array(72)).sent,
  };
}

const frameOf = (inner: FamilyNumber, protocol: 'tcp' | 'udp', more: object = {}) =>
  packet({
    ...{ from: NODE[inner], to: VIP[inner], fromPort: 40_000, toPort: 80, protocol, flags: TCP.SYN },
    ...more,
  });

test('tc_health: IP in IP, GUE and by MAC address, all families, as xdp_lb does it', async (t) => {
  const { run, lead, sent } = await open(t);
  for (const form of [undefined, 'gue', 'l2'] as const)
    for (const inner of [4, 6] as const)
      for (const outer of [4, 6] as const)
        for (const protocol of ['tcp', 'udp'] as const)
          for (const payload of [0, 1, 33]) {
            if (form === 'l2' && inner !== outer) continue;
            const name = `${form ?? 'ipip'} ${inner} in ${outer} ${protocol} ${payload}`;
            lead(inner, outer, protocol, form === 'gue' ? ServiceFlag.GUE : form === 'l2' ? ServiceFlag.L2 : 0);
            const frame = frameOf(inner, protocol, { payload });
            const { retval, data } = run(frame);
            assert.equal(retval, REDIRECT, name);
            const out = Buffer.from(data);
            assert.equal(
              out.toString('hex'),
              sentTo(frame, { to: BACKEND[outer], ...(form && { form }) }, out).toString('hex'),
              name,
            );
            assert.equal(sent(inner, protocol), 1, name);
          }
});

test('tc_health: every other packet is left as it is', async (t) => {
  const { run, lead } = await open(t);
  lead(4, 4, 'tcp', 0);
  lead(6, 4, 'tcp', 0);
  for (const frame of [
    frameOf(4, 'udp'),
    frameOf(4, 'tcp', { fromPort: 40_001 }),
    frameOf(4, 'tcp', { toPort: 81 }),
    frameOf(4, 'tcp', { to: '192.0.2.11' }),
    frameOf(6, 'tcp', { to: '2001:db8::11' }),
    Buffer.concat([Buffer.alloc(12, 2), Buffer.from('0806', 'hex'), Buffer.alloc(46)]),
    frameOf(4, 'tcp').subarray(0, 36), // cut off
  ]) {
    const { retval, data } = run(frame);
    assert.equal(retval, UNSPEC);
    assert.deepEqual(Buffer.from(data), Buffer.from(frame));
  }
});

test('tc_health: by MAC address, a packet that comes by again is not sent again', async (t) => {
  const { run, lead } = await open(t);
  lead(4, 4, 'tcp', ServiceFlag.L2);
  const once = run(frameOf(4, 'tcp'));
  assert.equal(once.retval, REDIRECT);
  assert.equal(run(once.data).retval, UNSPEC);
});
