// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openNextHops } from '../../src/controlplane/next-hops.js';

test('next hops: the same map as long as none moves, and one with what is wanted now, no more and no less', async (t) => {
  const resolver = openNextHops();
  t.after(() => resolver.close());
  // Loopback has a way and no neighbours.
  const [one, both] = [new Set(['127.0.0.2']), new Set(['127.0.0.2', '127.0.0.3'])];
  const before = await resolver.resolve(one);
  assert.deepEqual([...before], [['127.0.0.2', null]]);
  assert.equal(await resolver.resolve(one), before);
  assert.equal(await resolver.resolve(new Set(one)), before);
  const more = await resolver.resolve(both);
  assert.deepEqual([...more.keys()].sort(), [...both]);
  const less = await resolver.resolve(new Set(['127.0.0.3']));
  assert.deepEqual([...less], [['127.0.0.3', null]]);
});
