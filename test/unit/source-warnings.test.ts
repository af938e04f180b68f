// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sourceWarnings } from '../../src/controlplane/source-warnings.js';
import { backendOf, poolOf, serviceOf, snapshotOf } from '../support/snapshots.js';

const pools = [poolOf('four', [backendOf('10.0.0.1')]), poolOf('six', [backendOf('2001:db8::1')])];

test("source warnings: the backends' family counts, not the service's", () => {
  const crossed = snapshotOf(pools, [serviceOf('www', 'six'), serviceOf('v6', 'four', 80, '2001:db8:1::1')]);
  assert.deepEqual(sourceWarnings(crossed, []), []);
  assert.deepEqual(sourceWarnings(crossed, [4, 6]), [
    'no IPv4 address to send to the backends of service "v6" from: set tunnel.source',
    'no IPv6 address to send to the backends of service "www" from: set tunnel.source6',
  ]);
});

test('source warnings: none for l2, which has no outer header, and not more than three by name', () => {
  assert.deepEqual(sourceWarnings(snapshotOf(pools, [{ ...serviceOf('www', 'six'), forwarding: 'l2' }]), [6]), []);
  const many = [1, 2, 3, 4, 5].map((port) => serviceOf(`s${port}`, 'six', port));
  assert.deepEqual(sourceWarnings(snapshotOf(pools, many), [6]), [
    'no IPv6 address to send to the backends of services "s1", "s2", "s3" and 2 more from: set tunnel.source6',
  ]);
});
