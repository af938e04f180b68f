// SPDX-License-Identifier: Apache-2.0
// The short form of `npm run chaos -- --scenario etcd`: the faults that take seconds.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { runEtcd } from '../chaos/etcd.js';
import { chosenSeed } from '../unit/random.js';

const FAULTS = [
  'etcd killed',
  'wiped and restored',
  'connections cut',
  'compacted while a daemon is dead',
  'daemon restarted without etcd',
];
const LOAD = { backends: 4, long: 40, short: 6 } as const;

test('etcd chaos: no fault of etcd breaks a connection, and etcd, the daemons and the kernels end equal', async (t) => {
  const seed = chosenSeed();
  t.diagnostic(`seed ${seed}`);
  const say = (line: string): void => t.diagnostic(line);
  const { violations, ...figures } = await runEtcd(FAULTS, { ...LOAD, name: 'ftetcd', writes: 5, seed, say });
  t.diagnostic(JSON.stringify(figures));
  assert.ok(figures.connections > LOAD.long && figures.records > 1000);
  assert.deepEqual(violations, []);
  assert.ok(figures.writes >= 5 * FAULTS.length && figures.checks === 2 * FAULTS.length && figures.looks > 20);
});
