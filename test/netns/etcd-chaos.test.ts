// SPDX-License-Identifier: Apache-2.0
// The short form of `npm run chaos -- --scenario etcd`.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { runEtcd } from '../chaos/etcd.js';
import { chosenSeed } from '../unit/random.js';

test('etcd chaos: no fault of etcd breaks a connection, and etcd, the daemons and the kernels end equal', async (t) => {
  const seed = chosenSeed();
  t.diagnostic(`seed ${seed}`);
  const faults = (process.env.FAULTS ?? 'etcd killed,compacted while cut off,wiped and restored').split(',');
  const result = await runEtcd(faults, {
    ...{ name: 'fa-etcd', backends: 4, long: 40, short: 6, writes: 5, seed },
    say: (line) => t.diagnostic(line),
  });
  const { violations, ...figures } = result;
  t.diagnostic(JSON.stringify(figures));
  assert.ok(result.connections > 40 && result.records > 1000);
  assert.deepEqual(violations, []);
});
