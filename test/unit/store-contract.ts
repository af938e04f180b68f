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

  check('a new one is empty with a hash key of its own', async (store) => {
    const { services, pools, hashKey } = store.read();
    assert.deepEqual({ services: services.size, pools: pools.size }, { services: 0, pools: 0 });
    assert.match(hashKey, /^[0-9a-f]{32}$/);
    assert.equal(store.kind, kind);
  });

  check('all changes of one update get one new revision', async (store) => {
    const { revision: new0 } = store.read();
    const { revision: first } = await store.update(() => [putPool('a')]);
    const snapshot = await store.update(() => [putPool('b'), putPool('c')]);
    assert.ok(new0 < first && first < snapshot.revision, `${new0}, ${first}, ${snapshot.revision}`);
    assert.deepEqual(
      [...snapshot.pools].map(([name, { revision }]) => [name, revision]),
      [
        ['a', first],
        ['b', snapshot.revision],
        ['c', snapshot.revision],
      ],
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

  check(
    'nothing is written between the snapshot that decides and the change: a lost race decides anew',
    async (store) => {
      const first = await store.update(() => [putPool('a', 1)]);
      const seen: number[] = [];
      const compared = (wanted: number, weight: number) =>
        store.update(({ pools }) => {
          seen.push(pools.get('a')?.revision ?? 0);
          if (pools.get('a')?.revision !== wanted) throw new RangeError('lost');
          return [putPool('a', weight)];
        });
      const results = await Promise.allSettled([compared(first.revision, 2), compared(first.revision, 3)]);
      assert.deepEqual(
        results.map(({ status }) => status),
        ['fulfilled', 'rejected'],
      );
      assert.equal(store.read().pools.get('a')?.value.backends[0]?.weight, 2);
      assert.equal(seen.at(-1), store.read().revision);
    },
  );

  check('the log of a pool grows with it, in the same write', async (store) => {
    await store.update(() => [putPool('a', 1)]);
    const { pools } = await store.update(() => [putPool('a', 2)]);
    const log = pools.get('a')?.log;
    assert.deepEqual([log?.generation, log?.changes.length], [2, 1]);
    assert.deepEqual(log?.changes[0]?.set, [{ name: 'b1', weight: 2, state: 'live' }]);
  });

  check('says how it does', async (store) => {
    const { connected, detail, skipped } = store.state();
    assert.deepEqual({ connected, detail, skipped }, { connected: true, detail: null, skipped: [] });
  });

  check('null deletes', async (store) => {
    const before = await store.update(() => [putPool('a'), putPool('b')]);
    const { pools, revision } = await store.update(() => [{ kind: 'pool', name: 'a', value: null }]);
    assert.deepEqual([...pools.keys()], ['b']);
    assert.ok(revision > before.revision);
  });

  check('an older snapshot never changes', async (store) => {
    const old = await store.update(() => [putPool('a', 1)]);
    const { revision } = old;
    await store.update(() => [putPool('a', 2), putPool('b')]);
    assert.deepEqual([old.revision, old.pools.size, old.pools.get('a')?.value.backends[0]?.weight], [revision, 1, 1]);
  });

  check('fifty updates at once are fifty revisions, none lost', async (store) => {
    const seen: number[] = [];
    const weights: number[] = [];
    store.watch((snapshot) => {
      seen.push(snapshot.revision);
      weights.push(count(snapshot));
    });
    const count = (snapshot: Snapshot) => snapshot.pools.get('n')?.value.backends[0]?.weight ?? 0;
    await Promise.all(Array.from({ length: 50 }, () => store.update((now) => [putPool('n', count(now) + 1)])));
    assert.deepEqual([count(store.read()), store.read().revision], [50, seen.at(-1)]);
    assert.deepEqual(
      weights,
      Array.from({ length: 50 }, (_, i) => i + 1),
    );
    assert.deepEqual(
      seen,
      [...new Set(seen)].sort((a, b) => a - b),
    );
  });

  check('a refusal reaches the caller, changes nothing and does not stop the next', async (store) => {
    const refused = store.update(() => {
      throw new RangeError('no');
    });
    const next = store.update(() => [putPool('a')]);
    await assert.rejects(refused, RangeError);
    assert.deepEqual([...(await next).pools.keys()], ['a']);
  });

  check('a watcher is told until it stops, and another goes on', async (store) => {
    const seen: string[] = [];
    const stop = store.watch(({ pools }) => seen.push(`one ${pools.size}`));
    store.watch(({ pools }) => seen.push(`other ${pools.size}`));
    await store.update(() => [putPool('a')]);
    stop();
    await store.update(() => [putPool('b')]);
    assert.deepEqual(seen, ['one 1', 'other 1', 'other 2']);
  });

  check('after close it refuses updates; those before it are done', async (store) => {
    const last = store.update(() => [putPool('a')]);
    const closed = store.close();
    await assert.rejects(
      store.update(() => [putPool('b')]),
      { code: 'unavailable' },
    );
    await closed;
    assert.deepEqual([...(await last).pools.keys()], ['a']);
  });
}
