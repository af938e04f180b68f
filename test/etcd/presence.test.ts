// SPDX-License-Identifier: Apache-2.0
// Leases on a real etcd.
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { openEtcdPresence } from '../../src/controlplane/etcd/presence.js';
import type { Presence } from '../../src/controlplane/presence.js';
import { type CutProxy, type Etcd, startEtcd, startProxy } from '../support/etcd.js';
import { until } from '../support/lab.js';
import { presenceContract } from '../unit/presence-contract.js';

const log = { info: () => undefined, warn: () => undefined };

function open(etcd: Etcd, ttlSeconds: number, proxy?: CutProxy): Presence {
  const client = etcd.client(proxy && { endpoints: [`http://127.0.0.1:${proxy.port}`] });
  const presence = openEtcdPresence({ node: 'edge-1', client, prefix: '/fairlead/', log, ttlSeconds });
  etcd.using(presence);
  return presence;
}

presenceContract('etcd', async (t, nodes) => {
  const etcd = await startEtcd(t);
  return Array.from({ length: nodes }, () => open(etcd, 10));
});

async function two(t: TestContext) {
  const etcd = await startEtcd(t);
  const proxy = await startProxy(t, etcd.port);
  const one = open(etcd, 2, proxy);
  let seen = '';
  open(etcd, 2).watch('nodes/', (documents) => {
    seen = [...documents.keys()].sort().join(' ');
  });
  one.set('nodes/one', {});
  await until('it is there', () => seen === 'nodes/one');
  return { etcd, proxy, one, seen: () => seen };
}

test('etcd presence: who cannot keep its lease knows before the others, and comes back', async (t) => {
  const { proxy, one, seen } = await two(t);
  proxy.shut(true);
  let isGone = false;
  await until('it knows', () => {
    isGone ||= seen() === '';
    return one.leftMs() === 0;
  });
  assert.equal(isGone, false);
  await until('it is gone', () => seen() === '');
  proxy.shut(false);
  await until('it is back', () => seen() === 'nodes/one' && one.leftMs() > 0);
});

test('etcd presence: a lease outlives its time, and a restart of etcd', async (t) => {
  const { etcd, one, seen } = await two(t);
  const end = performance.now() + 5000;
  await until('five seconds are over', () => {
    assert.equal(seen(), 'nodes/one');
    assert.ok(one.leftMs() > 0);
    return performance.now() > end;
  });
  await etcd.kill();
  etcd.wipe();
  await etcd.start();
  await until('it is there again', () =>
    etcd.ctl('get', '--prefix', '/fairlead/v1/nodes/', '--keys-only').includes('one'),
  );
});
