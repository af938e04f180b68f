// SPDX-License-Identifier: Apache-2.0
// What becomes of flows when their backend is down by its checks.
import assert from 'node:assert/strict';
import { availableParallelism } from 'node:os';
import { test } from 'node:test';
import type { PoolHealth, Service } from '../../src/model/objects.js';
import { pinTo } from '../support/packet-run.js';
import { openReconciled } from '../support/reconciled.js';
import { backendsOf, poolOf, serviceOf } from '../support/snapshots.js';

const FLOWS = 60;
const clients = Array.from({ length: FLOWS }, (_, at) => at);

const cpus = availableParallelism();

/** Flows of four backends, begun on the first CPU, which this stays on. */
async function withFlows(t: Parameters<typeof openReconciled>[0], protocol: 'tcp' | 'udp') {
  pinTo(0);
  t.after(() => pinTo(`0-${cpus - 1}`));
  const node = await openReconciled(t);
  const pool = poolOf('web', backendsOf(4), 251);
  const service: Service = { ...serviceOf('www', 'web'), protocol };
  await node.put({ ...pool, healthCheck: { type: 'tcp', interval: 2, rise: 2, fall: 3, via: 'direct', slowStart: 0 } });
  await node.put(service);
  const before = clients.map((client) => node.send(service, client));
  if (protocol === 'tcp') for (const client of clients) node.send(service, client, 'ack');
  const lost = '10.0.0.2';
  const theirs = clients.filter((client) => before[client] === lost);
  assert.ok(theirs.length >= 3, `${theirs.length} flows`);
  const agree = async (down: readonly string[], failOpen = false): Promise<void> => {
    const value: PoolHealth = { failOpen, down: down.map((name) => ({ name, since: 1 })), slow: [] };
    const { revision } = await node.store.update(() => [{ kind: 'health', name: 'web', value }]);
    await node.reconciler.applied(revision, 20_000);
  };
  return { node, service, before, lost, theirs, agree };
}

test('tcp: connections of a backend that is down stay; SYNs go elsewhere at once, on used ports too', async (t) => {
  const { node, service, before, lost, theirs, agree } = await withFlows(t, 'tcp');
  await agree([`at-${lost}`]);
  assert.deepEqual(
    clients.map((client) => node.send(service, client, 'ack')),
    before,
  );
  const after = clients.map((client) => node.send(service, client, 'syn'));
  for (const client of clients) {
    if (theirs.includes(client)) assert.notEqual(after[client], lost, `client ${client}`);
    else assert.equal(after[client], before[client], `client ${client} is not touched`);
  }
  assert.deepEqual(
    clients.map((client) => node.send(service, client, 'ack')),
    after,
    'what began anew stays where it began',
  );
  assert.ok(clients.every((client) => node.send(service, client + 1000, 'syn') !== lost));
  await agree([]);
  assert.deepEqual(
    clients.map((client) => node.send(service, client, 'ack')),
    after,
    'its return breaks nothing',
  );
  assert.ok(clients.some((client) => node.send(service, client + 2000, 'syn') === lost));
});

test('tcp: connections of a backend that is down stay when they move to another CPU', {
  skip: cpus < 2 && 'one CPU',
}, async (t) => {
  const { node, service, before, lost, agree } = await withFlows(t, 'tcp');
  await agree([`at-${lost}`]);
  pinTo(1);
  assert.deepEqual(
    clients.map((client) => node.send(service, client, 'ack')),
    before,
  );
  const unknown = clients.map((client) => node.send(service, client + 1000, 'ack'));
  assert.ok(!unknown.includes(lost), 'what nobody remembers is not sent where nobody answers');
});

test('udp: flows of a backend that is down go elsewhere at once', async (t) => {
  const { node, service, before, lost, theirs, agree } = await withFlows(t, 'udp');
  await agree([`at-${lost}`]);
  const after = clients.map((client) => node.send(service, client));
  for (const client of clients) {
    if (theirs.includes(client)) assert.notEqual(after[client], lost, `client ${client}`);
    else assert.equal(after[client], before[client], `client ${client} is not touched`);
  }
  await agree([]);
  assert.deepEqual(
    clients.map((client) => node.send(service, client)),
    after,
    'they stay where they are now',
  );
});

test('a pool that fails open goes on as if nothing was down', async (t) => {
  const { node, service, before, agree } = await withFlows(t, 'udp');
  await agree(['at-10.0.0.1', 'at-10.0.0.2', 'at-10.0.0.3'], true);
  assert.deepEqual(
    clients.map((client) => node.send(service, client)),
    before,
  );
});
