// SPDX-License-Identifier: Apache-2.0
// Ten thousand random bodies against the API over its socket, on a store in memory and on one in a file; test/netns/effect.test.ts has a real node too.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { buildApi } from '../../src/api/app.js';
import { listenApi } from '../../src/api/listen.js';
import { openFileStore } from '../../src/controlplane/file-store.js';
import { openMemoryStore } from '../../src/controlplane/memory-store.js';
import { formatState } from '../../src/controlplane/state-file.js';
import type { Store } from '../../src/controlplane/store.js';
import { operationsOf } from '../support/api-client.js';
import { storm, type Target } from '../support/api-storm.js';
import { ask } from '../support/serve.js';
import { webPool, wwwService } from './api-setup.js';
import { nodeDouble } from './node-double.js';
import { chosenSeed, randomFrom } from './random.js';

async function open(
  t: TestContext,
  openStore: (directory: string) => Promise<Store>,
): Promise<Target & { store: Store }> {
  const directory = mkdtempSync(join(tmpdir(), 'fairlead-fuzz-'));
  const store = await openStore(directory);
  const app = buildApi({ store, node: nodeDouble() });
  const socket = join(directory, 'api.sock');
  t.after(async () => {
    await app.close();
    await store.close();
    rmSync(directory, { recursive: true });
  });
  await listenApi(app, { socket, listen: null });
  const operations = operationsOf((await ask(socket, 'GET', '/openapi.json')).body);
  let last = { snapshot: store.read(), text: '' };
  const held = async (): Promise<string> => {
    const snapshot = store.read();
    if (snapshot !== last.snapshot || last.text === '') last = { snapshot, text: textOf(store) };
    return last.text;
  };
  return { socket, operations, held, store };
}

/** All the store holds, the logs of the rings too. */
function textOf(store: Store): string {
  const snapshot = store.read();
  const values = (objects: ReadonlyMap<string, { readonly value: object }>) =>
    [...objects.values()].map(({ value }) => value);
  return JSON.stringify({
    services: values(snapshot.services),
    pools: values(snapshot.pools),
    whole: formatState(snapshot),
  });
}

for (const [kind, count, openStore] of [
  ['memory', 8000, async () => openMemoryStore()],
  ['file', 2000, (directory: string) => openFileStore(join(directory, 'state.json'))],
] as const)
  test(`api fuzz: ${count} random bodies on a store in ${kind}: no 5xx, nothing half done, always a pointer`, async (t) => {
    const seed = chosenSeed();
    t.diagnostic(`seed ${seed}`);
    const target = await open(t, openStore);
    const { accepted, refused } = await storm(target, randomFrom(seed), count);
    t.diagnostic(`${accepted} accepted, ${refused} refused; revision ${target.store.read().revision}`);
    assert.ok(accepted > count / 20 && refused > count / 4, 'both kinds were tried');
  });

test('api fuzz: of two writers on one object exactly one wins, the other gets 412', async (t) => {
  const { socket, store } = await open(t, async () => openMemoryStore());
  await ask(socket, 'PUT', '/api/v1/pools/web', webPool);
  await ask(socket, 'PUT', '/api/v1/services/www', wwwService);
  const paths = ['/api/v1/services/www', '/api/v1/pools/web', '/api/v1/pools/web/backends/b1', '/api/v1/configuration'];
  for (let round = 0; round < 200; round++) {
    const path = paths[round % paths.length] ?? '';
    const { etag = '' } = await ask(socket, 'GET', path);
    const before = store.read().revision;
    const bodies = [1, 2].map((writer) => {
      const number = 101 + ((round * 2 + writer) % 150); // never what is there: that would be no change
      if (path.endsWith('www')) return { ...wwwService, port: number };
      if (path.endsWith('web')) return { ...webPool, holdSeconds: number };
      if (path.endsWith('b1')) return { address: '10.0.0.1', weight: number };
      return { pools: [{ name: 'web', ...webPool, holdSeconds: number }], services: [{ name: 'www', ...wwwService }] };
    });
    const replies = await Promise.all(bodies.map((body) => ask(socket, 'PUT', path, body, { 'if-match': etag })));
    assert.deepEqual(
      replies.map(({ status }) => status).sort(),
      [200, 412],
      `${path} in round ${round}: ${JSON.stringify(replies)}`,
    );
    assert.equal(store.read().revision, before + 1);
    const winner = replies.findIndex(({ status }) => status === 200);
    const now = (await ask(socket, 'GET', path)).body as Record<string, unknown>;
    for (const [field, value] of Object.entries(bodies[winner] ?? {}))
      if (typeof value === 'number') assert.equal(now[field], value);
  }
});
