// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import type { Change, Store } from '../../src/controlplane/store.js';
import type { Pool, Snapshot } from '../../src/model/objects.js';

/** A pool with one backend of this weight. */
export function pool(name: string, weight = 100): Pool {
  return { name, backends: [{ name: 'b1', address: '10.0.0.1', weight, state: 'active' }], ring: { size: 0 } };
}

export function putPool(name: string, weight?: number): Change {
  return { kind: 'pool', name, value: pool(name, weight) };
}

/** Runs the contract of Store (src/controlplane/store.ts) against one kind of store; `open` gives an empty one. */
export function storeContract(kind: string, open: (t: TestContext) => Promise<Store>): void {
  const check = (behaviour: string, body: (store: Store) => Promise<void>) =>
    test(`${kind} store: ${behaviour}`, async (t) => {
      const store = await open(t);
      try {
        await body(store);
      } finally {
        await store.close();
      }
    });

  check('a new one is empty at revision 0 with a hash key of its own', async (store) => {
    const { revision, services, pools, hashKey } = store.read();
    assert.deepEqual({ revision, services: services.size, pools: pools.size }, { revision: 0, services: 0, pools: 0 });
    assert.match(hashKey, /^[0-9a-f]{32}$/);
    assert.equal(store.kind, kind);
  });

  check('all changes of one update get one new revision', async (store) => {
    await store.update(() => [putPool('a')]);
    const snapshot = await store.update(() => [putPool('b'), putPool('c')]);
    assert.equal(snapshot.revision, 2);
    assert.deepEqual(
      [...snapshot.pools].map(([name, { revision }]) => `${name}${revision}`),
      ['a1', 'b2', 'c2'],
    );
    assert.equal(store.read(), snapshot);
  });

  check('an update without changes keeps the snapshot and tells nobody', async (store) => {
    const seen: number[] = [];
    store.watch(({ revision }) => seen.push(revision));
    const before = store.read();
    assert.equal(await store.update(() => []), before);
    assert.deepEqual(seen, []);
  });

  check('null deletes', async (store) => {
    await store.update(() => [putPool('a'), putPool('b')]);
    const { pools, revision } = await store.update(() => [{ kind: 'pool', name: 'a', value: null }]);
    assert.deepEqual([[...pools.keys()], revision], [['b'], 2]);
  });

  check('an older snapshot never changes', async (store) => {
    const old = await store.update(() => [putPool('a', 1)]);
    await store.update(() => [putPool('a', 2), putPool('b')]);
    assert.deepEqual([old.revision, old.pools.size, old.pools.get('a')?.value.backends[0]?.weight], [1, 1, 1]);
  });

  check('fifty updates at once are fifty revisions, none lost', async (store) => {
    const seen: number[] = [];
    store.watch(({ revision }) => seen.push(revision));
    const count = (snapshot: Snapshot) => snapshot.pools.get('n')?.value.backends[0]?.weight ?? 0;
    await Promise.all(Array.from({ length: 50 }, () => store.update((now) => [putPool('n', count(now) + 1)])));
    assert.deepEqual([count(store.read()), store.read().revision], [50, 50]);
    assert.deepEqual(
      seen,
      Array.from({ length: 50 }, (_, i) => i + 1),
    );
  });

  check('a refusal reaches the caller, changes nothing and does not stop the next', async (store) => {
    const refused = store.update(() => {
      throw new RangeError('no');
    });
    const next = store.update(() => [putPool('a')]);
    await assert.rejects(refused, RangeError);
    assert.equal((await next).revision, 1);
  });

  check('a watcher is told until it stops, and another goes on', async (store) => {
    const seen: string[] = [];
    const stop = store.watch(({ revision }) => seen.push(`a${revision}`));
    store.watch(({ revision }) => seen.push(`b${revision}`));
    await store.update(() => [putPool('a')]);
    stop();
    await store.update(() => [putPool('b')]);
    assert.deepEqual(seen, ['a1', 'b1', 'b2']);
  });

  check('after close it refuses updates; those before it are done', async (store) => {
    const last = store.update(() => [putPool('a')]);
    const closed = store.close();
    await assert.rejects(
      store.update(() => [putPool('b')]),
      { code: 'unavailable' },
    );
    await closed;
    assert.equal((await last).revision, 1);
  });
}
