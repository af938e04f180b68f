// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Documents, poolText, serviceText, take, type Update } from '../../src/controlplane/etcd/documents.js';
import { keysBelow } from '../../src/controlplane/etcd/keys.js';
import type { Service } from '../../src/model/objects.js';
import { pool } from './store-contract.js';

const keys = keysBelow('/f/');
const nothing: Documents = {
  snapshot: { revision: 0, hashKey: '00'.repeat(16), services: new Map(), pools: new Map() },
  skipped: new Map(),
};

const service = (name: string, port: number, poolName = 'a', forwarding: Service['forwarding'] = 'ipip'): Service => ({
  name,
  address: '192.0.2.1',
  port,
  protocol: 'tcp',
  pool: poolName,
  forwarding,
  affinity: 'flow',
});

/** Takes these documents, each at the revision; null deletes. */
function taken(now: Documents, revision: number, documents: Record<string, string | null>): Promise<Documents> {
  const updates = new Map<string, Update>();
  for (const [key, value] of Object.entries(documents)) updates.set(`/f/v1/${key}`, { value, revision });
  return take(now, keys, updates);
}

const poolOf = (name: string, weight = 1) => poolText({ value: pool(name, weight), revision: 0 }, 'w');
const serviceOf = (...args: Parameters<typeof service>) => serviceText(service(...args), 'w');
const details = ({ skipped }: Documents) =>
  Object.fromEntries([...skipped].map(([key, { detail }]) => [keys.short(key), detail]));
const weight = ({ snapshot }: Documents) => snapshot.pools.get('a')?.value.backends[0]?.weight;

const wrong: [name: string, text: string, detail: RegExp][] = [
  ['not JSON', '{', /JSON/],
  ['not an object', '[]', /^is not a JSON object$/],
  ['another name', poolOf('b'), /^\/name: is "b", the key says "a"$/],
  ['an unknown field', '{"colour":"red"}', /^\/colour: unknown field "colour"$/],
  [
    'a wrong value',
    '{"backends":[{"name":"x","address":"10.0.0.300"}]}',
    /^\/backends\/0\/address: "10.0.0.300" is not/,
  ],
  [
    'a log of other members',
    poolText(
      { value: pool('a', 7), revision: 0, log: { generation: 1, size: 251, at: 1, members: [], changes: [] } },
      'w',
    ),
    /^\/ringLog: does not end with backend "b1"/,
  ],
  ['a log that is none', '{"ringLog":7}', /^\/ringLog: got the number 7; wanted an object$/],
];
for (const [name, text, detail] of wrong) {
  test(`etcd documents: one with ${name} is skipped and named, and the last good one stays`, async () => {
    const good = await taken(nothing, 1, { 'pools/a': poolOf('a', 3), 'services/s': serviceOf('s', 80) });
    const bad = await taken(good, 2, { 'pools/a': text });
    assert.match(details(bad)['pools/a'] ?? '', detail);
    assert.equal(bad.snapshot, good.snapshot);
    const mended = await taken(bad, 3, { 'pools/a': poolOf('a', 4) });
    assert.deepEqual([details(mended), weight(mended), mended.snapshot.pools.get('a')?.revision], [{}, 4, 3]);
    const fresh = await taken(nothing, 2, { 'pools/a': text });
    assert.deepEqual([fresh.snapshot, [...fresh.skipped.keys()]], [nothing.snapshot, ['/f/v1/pools/a']]);
  });
}

test('etcd documents: a name that is none is skipped, whatever is in it', async () => {
  const { skipped } = await taken(nothing, 1, { 'pools/A b': '{}', 'services/x/y': serviceOf('s', 80) });
  assert.deepEqual([...skipped.keys()], ['/f/v1/pools/A b', '/f/v1/services/x/y']);
});

test('etcd documents: a document written by hand needs no name, log or write id', async () => {
  const { snapshot } = await taken(nothing, 1, { 'pools/a': '{"backends":[{"name":"b1","address":"10.0.0.1"}]}' });
  assert.deepEqual(snapshot.pools.get('a'), { value: pool('a'), revision: 1 });
});

test('etcd documents: a service waits for its pool', async () => {
  const early = await taken(nothing, 1, { 'services/s': serviceOf('s', 80) });
  assert.deepEqual(details(early), { 'services/s': '/pool: pool "a" does not exist' });
  const there = await taken(early, 2, { 'pools/a': poolOf('a') });
  assert.deepEqual([details(there), there.snapshot.services.get('s')?.revision], [{}, 1]);
});

test('etcd documents: a pool that is used stays when it is deleted, until it is not used', async () => {
  const good = await taken(nothing, 1, { 'pools/a': poolOf('a'), 'services/s': serviceOf('s', 80) });
  const gone = await taken(good, 2, { 'pools/a': null });
  assert.deepEqual(details(gone), { 'pools/a': 'deleted, but service "s" uses it' });
  assert.equal(gone.snapshot, good.snapshot);
  const free = await taken(gone, 3, { 'services/s': null });
  assert.deepEqual([details(free), free.snapshot.pools.size, free.snapshot.services.size], [{}, 0, 0]);
  const both = await taken(good, 2, { 'pools/a': null, 'services/s': null });
  assert.deepEqual([details(both), both.snapshot.pools.size, both.snapshot.services.size], [{}, 0, 0]);
});

test('etcd documents: two services may exchange their addresses in one write', async () => {
  const good = await taken(nothing, 1, {
    'pools/a': poolOf('a'),
    'services/s': serviceOf('s', 80),
    'services/t': serviceOf('t', 81),
  });
  const { skipped, snapshot } = await taken(good, 2, {
    'services/s': serviceOf('s', 81),
    'services/t': serviceOf('t', 80),
  });
  assert.deepEqual([skipped.size, snapshot.services.get('s')?.value.port], [0, 81]);
});

test('etcd documents: an address that is taken is refused to the second, which stays as it was', async () => {
  const good = await taken(nothing, 1, {
    'pools/a': poolOf('a'),
    'services/s': serviceOf('s', 80),
    'services/t': serviceOf('t', 81),
  });
  const bad = await taken(good, 2, { 'services/t': serviceOf('t', 80) });
  assert.deepEqual(details(bad), { 'services/t': '/address: tcp 192.0.2.1 port 80 belongs to service "s"' });
  assert.equal(bad.snapshot, good.snapshot);
  const mixed = await taken(good, 2, { 'services/t': serviceOf('t', 81, 'a', 'l2') });
  assert.match(details(mixed)['services/t'] ?? '', /^\/forwarding: pool "a" is used by service "s" with ipip/);
});

test('etcd documents: a list of ten thousand lets the event loop turn', async (t) => {
  const documents: Record<string, string> = {};
  for (let i = 0; i < 5000; i++) {
    documents[`pools/p${i}`] = poolOf(`p${i}`);
    documents[`services/s${i}`] = serviceOf(`s${i}`, i + 1, `p${i}`);
  }
  const held: number[] = [];
  let last = performance.now();
  const turns = setInterval(() => {
    held.push(performance.now() - last);
    last = performance.now();
  }, 0);
  const { snapshot, skipped } = await taken(nothing, 1, documents);
  clearInterval(turns);
  t.diagnostic(`${held.length} turns, the longest ${Math.max(...held).toFixed(1)} ms`);
  assert.deepEqual([snapshot.pools.size, snapshot.services.size, skipped.size], [5000, 5000, 0]);
  assert.ok(held.length > 10);
});
