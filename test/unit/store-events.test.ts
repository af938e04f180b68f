// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openMemoryStore } from '../../src/controlplane/memory-store.js';
import type { Change } from '../../src/controlplane/store.js';
import type { EventLog } from '../../src/model/events.js';
import type { Backend, Pool, Service } from '../../src/model/objects.js';
import { openEventLog } from '../../src/observability/event-log.js';
import { storeEvents } from '../../src/observability/store-events.js';
import { tellHops } from '../../src/observability/tell.js';
import { serviceOf } from '../support/snapshots.js';

const backend = (name: string, address: string, rest: Partial<Backend> = {}): Backend => ({
  ...{ name, address, weight: 100, state: 'active' },
  ...rest,
});
const b1 = backend('b1', '10.0.0.1');
const b2 = backend('b2', '10.0.0.2');
const pool = (backends: readonly Backend[], rest: Partial<Pool> = {}): Change => ({
  kind: 'pool',
  name: 'web',
  value: { name: 'web', backends, ring: { size: 0 }, ...rest },
});
const service = (value: Service | null): Change => ({ kind: 'service', name: 'www', value });

test('store events: each object that came, changed or went is one event that says what', async () => {
  const store = openMemoryStore();
  const told = async (...changes: readonly Change[]): Promise<string[]> => {
    const before = store.read();
    const after = await store.update(() => changes);
    return [...storeEvents(before, after)].map(({ type, object, message }) => `${type} ${object}: ${message}`);
  };
  assert.deepEqual(await told(pool([b1, b2]), service(serviceOf('www', 'web'))), [
    'pool.created /pools/web: pool "web" created',
    'backend.created /pools/web/backends/b1: backend "b1" of pool "web" created',
    'backend.created /pools/web/backends/b2: backend "b2" of pool "web" created',
    'service.created /services/www: service "www" created',
  ]);
  assert.deepEqual(await told(pool([{ ...b1, weight: 7, state: 'drain' }])), [
    'backend.changed /pools/web/backends/b1: backend "b1" of pool "web" changed: weight 100 -> 7, state active -> drain',
    'backend.deleted /pools/web/backends/b2: backend "b2" of pool "web" deleted',
  ]);
  const deny = Array.from({ length: 50 }, (_, at) => `10.${at}.0.0/16`);
  assert.deepEqual(await told(pool([b1], { holdSeconds: 5 }), service({ ...serviceOf('www', 'web'), deny })), [
    'pool.changed /pools/web: pool "web" changed: holdSeconds none -> 5',
    'backend.changed /pools/web/backends/b1: backend "b1" of pool "web" changed: weight 7 -> 100, state drain -> active',
    'service.changed /services/www: service "www" changed: deny',
  ]);
  assert.deepEqual(await told(service(null), { kind: 'pool', name: 'web', value: null }), [
    'pool.deleted /pools/web: pool "web" deleted',
    'backend.deleted /pools/web/backends/b1: backend "b1" of pool "web" deleted',
    'service.deleted /services/www: service "www" deleted',
  ]);
});

test('store events: a write of the same content tells nothing', async () => {
  const store = openMemoryStore();
  const before = await store.update(() => [pool([b1])]);
  const after = await store.update(() => [pool([{ ...b1 }])]);
  assert.deepEqual([...storeEvents(before, after)], []);
});

test('events: a backend without a next hop is told once, and once when it has one', async () => {
  const store = openMemoryStore();
  const snapshot = await store.update(() => [pool([b1, b2])]);
  const events: EventLog = openEventLog(10, Date.now, 1);
  const hop = { onLink: true } as never;
  const with1 = new Map([
    ['10.0.0.1', hop],
    ['10.0.0.2', null],
  ]);
  const one = { snapshot, hops: with1 };
  const both = { snapshot, hops: new Map([...with1, ['10.0.0.2', hop]]) };
  tellHops(events, one, null);
  tellHops(events, one, one);
  tellHops(events, both, one);
  tellHops(events, one, both);
  assert.deepEqual(
    events.since(0).events.map(({ type, object }) => `${type} ${object}`),
    ['unreachable', 'reachable', 'unreachable'].map((what) => `backend.${what} /pools/web/backends/b2`),
  );
});
