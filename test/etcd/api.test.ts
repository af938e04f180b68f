// SPDX-License-Identifier: Apache-2.0
// The API of two nodes over one etcd.
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { buildApi } from '../../src/api/app.js';
import type { Store } from '../../src/controlplane/store.js';
import { startEtcd } from '../support/etcd.js';
import { until } from '../support/lab.js';
import { assertProblem, webPool, wwwService } from '../unit/api-setup.js';
import { nodeDouble } from '../unit/node-double.js';
import { openStore } from './stores.js';

function apiOf(t: TestContext, store: Store) {
  const app = buildApi({ store, node: nodeDouble() });
  t.after(() => app.close());
  return (method: 'GET' | 'PUT', path: string, payload?: object, headers = {}) =>
    app.inject({ method, url: `/api/v1${path}`, headers, ...(payload && { payload }) });
}

test('api over etcd: what one node wrote the other has, and If-Match tells who was faster', async (t) => {
  const etcd = await startEtcd(t);
  const one = await openStore(t, { etcd, name: 'one' });
  const other = await openStore(t, { etcd, name: 'other' });
  const [left, right] = [apiOf(t, one.store), apiOf(t, other.store)];
  assert.equal((await left('PUT', '/pools/web', webPool)).statusCode, 201);
  const service = await left('PUT', '/services/www', wwwService);
  await until('the other has it', () => other.store.read().services.has('www'));
  const seen = await right('GET', '/services/www');
  assert.deepEqual(seen.json(), service.json());
  const tag = { 'if-match': String(seen.headers.etag) };
  const answers = await Promise.all(
    [left, right].map((call, at) => call('PUT', '/services/www', { ...wwwService, port: 81 + at }, tag)),
  );
  assert.deepEqual(answers.map(({ statusCode }) => statusCode).sort(), [200, 412]);
  for (const answer of answers) if (answer.statusCode === 412) assertProblem(answer, 412, 'precondition');
});

test('api over etcd: what would break what another node has just written is refused', async (t) => {
  const etcd = await startEtcd(t);
  const one = await openStore(t, { etcd, name: 'one' });
  const other = await openStore(t, { etcd, name: 'other' });
  await apiOf(t, one.store)('PUT', '/pools/web', webPool);
  await until('the other has it', () => other.store.read().pools.has('web'));
  const answers = await Promise.all(
    [one, other].map(({ store }, at) => apiOf(t, store)('PUT', `/services/s${at}`, wwwService)),
  );
  assert.deepEqual(answers.map(({ statusCode }) => statusCode).sort(), [201, 409]);
});

test('api over etcd: without etcd reads answer, writes get 503 and when to try again', async (t) => {
  const { etcd, store } = await openStore(t);
  const call = apiOf(t, store);
  await call('PUT', '/pools/web', webPool);
  await etcd.kill();
  await until('it is away', () => !store.state().connected);
  assert.equal((await call('GET', '/pools/web')).statusCode, 200);
  const refused = await call('PUT', '/pools/web', webPool);
  assert.equal(refused.statusCode, 200, 'the same again is no write');
  const changed = await call('PUT', '/pools/web', { ...webPool, holdSeconds: 5 });
  assertProblem(changed, 503, 'unavailable');
  assert.equal(changed.headers['retry-after'], '1');
});
