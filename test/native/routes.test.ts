// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { native } from '../../src/dataplane/native.js';

/** struct nlmsghdr and struct rtmsg. */
function message(type: number, flags: number): Buffer {
  const bytes = Buffer.alloc(28);
  bytes.writeUInt32LE(bytes.length, 0);
  bytes.writeUInt16LE(type, 4);
  bytes.writeUInt16LE(flags, 6);
  bytes.writeUInt8(2, 16); // AF_INET
  return bytes;
}

test('askRoutes: a dump answers with messages, each as long as it says', async () => {
  const answer = Buffer.from(await native.askRoutes(message(26, 0x301)));
  let count = 0;
  for (let at = 0; at < answer.length; at += (answer.readUInt32LE(at) + 3) & ~3) {
    assert.equal(answer.readUInt16LE(at + 4), 24); // RTM_NEWROUTE
    count++;
  }
  assert.ok(count > 0, 'there is a local route at least');
});

test('askRoutes: what the kernel refuses is its error by name', async () => {
  // A type there is none of: nothing that could touch this machine's own routes.
  await assert.rejects(native.askRoutes(message(9999, 0x5)), { code: 'EOPNOTSUPP', call: 'rtnetlink' });
});

test('askRoutes: what is no message is not sent', async () => {
  for (const bytes of [new Uint8Array(0), new Uint8Array(15), message(26, 0x301).subarray(0, 27), Buffer.alloc(28)])
    await assert.rejects(native.askRoutes(bytes), { code: 'EINVAL', message: /not as long as its header says/ });
  await assert.rejects(native.askRoutes('x' as unknown as Uint8Array), { code: 'ARGUMENT' });
});
