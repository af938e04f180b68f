// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Config, Reason } from '../../src/dataplane/abi.gen.js';
import { native } from '../../src/dataplane/native.js';
import { objectPath } from '../../src/dataplane/program.js';
import { REASON_NAMES } from '../../src/dataplane/reasons.js';
import type { PacketCase } from '../support/cases/table.js';
import { HEADROOM_CASES, PACKET_CASES, prepareCases } from '../support/packet-cases.js';
import { checker } from '../support/packet-check.js';
import { openPacketPath, type PacketPath } from '../support/packet-path.js';
import { pinTo } from '../support/packet-run.js';

let path: PacketPath;
let check: (one: PacketCase) => void;
before(async () => {
  pinTo(0);
  path = await openPacketPath();
  prepareCases(path);
  check = checker(path);
});
after(() => path?.close());

for (const one of PACKET_CASES) test(`xdp_lb: ${one.name}: ${REASON_NAMES[one.reason]}`, () => check(one));

/** Whether a test run takes this many bytes of metadata. */
function takesMetadata(size: number): boolean {
  try {
    path.program.run(new Uint8Array(size + 64), new Uint8Array(Uint32Array.of(size, size + 64, 0, 1, 0, 0).buffer));
    return true;
  } catch {
    return false;
  }
}

for (const one of HEADROOM_CASES)
  test(`xdp_lb: ${one.name}: ${REASON_NAMES[one.reason]}`, (t) => {
    // 252 bytes are refused exactly where they are taken from the 256 of headroom.
    if (!takesMetadata(200) || takesMetadata(252))
      return t.skip('kernel feature missing: BPF_PROG_TEST_RUN with metadata in the headroom');
    return check(one);
  });

test('xdp_lb: a flow table smaller than its index: internal', async () => {
  const broken = await openPacketPath({}, async () => {
    const object = native.openObject(objectPath('xdp_lb'));
    object.setVariable(Config.flowBucketMask.name, Uint8Array.of(0xff, 0xff, 0, 0));
    await object.load();
    return object;
  });
  prepareCases(broken);
  const syn = PACKET_CASES.find((one) => one.name === 'IPv4 SYN');
  assert.ok(syn);
  const { packet, name } = syn;
  checker(broken)({ name, packet, action: 'aborted', reason: Reason.INTERNAL, service: 1 });
  broken.close();
});

test('xdp_lb: the tables reach every reason', () => {
  const reached = new Set([...PACKET_CASES, ...HEADROOM_CASES].map((one) => one.reason))
    .add(Reason.INTERNAL)
    .add(Reason.ICMP_LIMITED); // packets-apart.test.ts
  // Two frames of one: seen in test/netns/split.test.ts only.
  reached.add(Reason.SPLIT);
  assert.deepEqual(
    REASON_NAMES.filter((_, reason) => !reached.has(reason)),
    [],
  );
});
