// SPDX-License-Identifier: Apache-2.0
// Connections that are cut at any moment: no event is lost, none told twice, no write done twice.
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { prefixRange } from '../../src/controlplane/etcd/client.js';
import { follow } from '../../src/controlplane/etcd/follow.js';
import type { Store } from '../../src/controlplane/store.js';
import type { Snapshot } from '../../src/model/objects.js';
import { type CutProxy, startEtcd, startProxy } from '../support/etcd.js';
import { until } from '../support/lab.js';
import { chosenSeed, randomFrom } from '../unit/random.js';
import { pool } from '../unit/store-contract.js';
import { assertEqualToEtcd, openStore } from './stores.js';

const WRITES = 5000;
const CUTS = 50;

/** Cuts at random moments until stopped; both tell how often there was something to cut so far. */
function cutter(
  t: TestContext,
  proxies: readonly CutProxy[],
  meanMs: number,
): { count(): number; stop(): Promise<number> } {
  const seed = chosenSeed();
  t.diagnostic(`seed ${seed}`);
  const random = randomFrom(seed);
  let isOver = false;
  let cuts = 0;
  const running = (async () => {
    while (!isOver) {
      await delay(random() * 2 * meanMs);
      for (const proxy of proxies) if (proxy.cut() > 0) cuts++;
    }
  })();
  return {
    count: () => cuts,
    async stop() {
      isOver = true;
      await running;
      return cuts;
    },
  };
}

test('etcd watch: cut at random moments, it tells each change once, in order', async (t) => {
  const etcd = await startEtcd(t);
  const proxy = await startProxy(t, etcd.port);
  const writer = etcd.client();
  const seen: number[] = [];
  const has = new Map<string, string>();
  let relists = 0;
  const follower = follow(
    etcd.client({ endpoints: [`http://127.0.0.1:${proxy.port}`] }),
    prefixRange('/w/'),
    {
      async relist(list) {
        const listing = await list();
        relists++;
        return listing;
      },
      async changed(events) {
        for (const { key, value, revision } of events) {
          seen.push(revision);
          if (value === null) has.delete(key);
          else has.set(key, value);
        }
      },
      connected: () => undefined,
    },
    { relistMs: 3_600_000, askMs: 10_000, silenceMs: 30_000 },
  );
  etcd.using(follower);
  await until('it has begun', () => relists === 1);
  const { count: cutsSoFar, stop } = cutter(t, [proxy], 60);
  const wrote: number[] = [];
  // A fast etcd has taken the writes before there were as many cuts: then more are written.
  for (let i = 0; i < WRITES || (cutsSoFar() < CUTS && i < 4 * WRITES); i++) {
    const value = i >= 50 && i % 7 === 0 ? null : `${i}`; // what is deleted is there
    const { revision } = await writer.commit([], [{ key: `/w/${i % 50}`, value }]);
    wrote.push(revision);
  }
  const cuts = await stop();
  await until('all is told', () => seen.at(-1) === wrote.at(-1));
  t.diagnostic(`${wrote.length} writes, ${cuts} cuts, ${seen.length} events`);
  const { items } = await writer.range(prefixRange('/w/'));
  const toldOf = new Set(seen);
  assert.deepEqual(
    wrote.filter((revision) => !toldOf.has(revision)),
    [],
    'lost',
  );
  assert.equal(seen.join(), wrote.join(), 'each once, in order');
  assert.deepEqual([...has].sort(), items.map(({ key, value }) => [key, value]).sort());
  assert.equal(relists, 1);
  assert.ok(cuts >= CUTS, `${cuts} cuts`);
});

const count = ({ pools }: Snapshot): number => pools.get('n')?.value.holdSeconds ?? 0;

const increment = (store: Store): Promise<Snapshot> =>
  store.update((now) => [{ kind: 'pool', name: 'n', value: { ...pool('n'), holdSeconds: count(now) + 1 } }]);

test('etcd store: two writers, cut at random moments, lose no write and do none twice', async (t) => {
  const etcd = await startEtcd(t);
  const proxies = [await startProxy(t, etcd.port), await startProxy(t, etcd.port)];
  const stores: Store[] = [];
  for (const [i, { port }] of proxies.entries()) {
    const over = { endpoints: [`http://127.0.0.1:${port}`] };
    stores.push((await openStore(t, { etcd, over, name: `node${i}` })).store);
  }
  const watched = (await openStore(t, { etcd, name: 'watched' })).store;
  const { stop } = cutter(t, proxies, 80);
  const done = [0, 0];
  const refused = [0, 0];
  const unknown: string[] = [];
  await Promise.all(
    stores.map(async (store, i) => {
      while ((done[i] ?? 0) < 400) {
        try {
          await increment(store);
          done[i] = (done[i] ?? 0) + 1;
        } catch (error) {
          assert.equal((error as { code: string }).code, 'unavailable', String(error));
          if (String(error).includes('nothing was changed')) refused[i] = (refused[i] ?? 0) + 1;
          else unknown.push(String(error));
        }
      }
    }),
  );
  const cuts = await stop();
  t.diagnostic(`${done.join('+')} writes, ${cuts} cuts, refused ${refused.join('+')}, unknown ${unknown.length}`);
  assert.deepEqual(unknown, []);
  const total = done.reduce((all, each) => all + each, 0);
  for (const store of [watched, ...stores]) {
    await until('it has all', () => count(store.read()) === total);
    assert.deepEqual(store.read(), watched.read());
  }
  assert.ok(cuts >= CUTS, `${cuts} cuts`);
});

test('etcd store: etcd killed again and again during writes: what was answered is there, once', async (t) => {
  const etcd = await startEtcd(t);
  const writer = (await openStore(t, { etcd, name: 'writer' })).store;
  const reader = (await openStore(t, { etcd, name: 'reader' })).store;
  const seen: number[] = [];
  reader.watch((snapshot) => seen.push(count(snapshot)));
  let isOver = false;
  const killing = (async () => {
    for (let kill = 0; kill < 5; kill++) {
      await delay(300 + Math.random() * 300);
      await etcd.kill();
      await etcd.start();
    }
    isOver = true;
  })();
  let done = 0;
  let refused = 0;
  while (!isOver) {
    await increment(writer).then(
      () => done++,
      async (error) => {
        assert.match(String(error), /nothing was changed/);
        refused++;
        await delay(20);
      },
    );
  }
  await killing;
  t.diagnostic(`${done} writes, ${refused} refused`);
  await until('the reader has all', () => count(reader.read()) === done);
  assert.deepEqual(
    seen,
    [...seen].sort((a, b) => a - b),
    'never back',
  );
  assert.deepEqual(Object.fromEntries(reader.state().relists).compacted, 0);
  await assertEqualToEtcd({ etcd, store: reader });
});
