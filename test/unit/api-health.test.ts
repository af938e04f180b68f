// SPDX-License-Identifier: Apache-2.0
// Health checks in the API: what a pool takes, and that the nodes' findings are no edit.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { assertProblem, setup, webPool } from './api-setup.js';

const web = '/api/v1/pools/web';

test('api: a health check gets its defaults, and can be patched and taken away', async (t) => {
  const { call } = setup(t);
  const put = await call('PUT', web, {
    ...webPool,
    healthCheck: { type: 'http', path: '/healthz' },
    whenAllDown: 'closed',
  });
  assert.equal(put.statusCode, 201, put.body);
  assert.deepEqual(put.json().healthCheck, {
    ...{ type: 'http', path: '/healthz', interval: 2, rise: 2, fall: 3, via: 'direct', slowStart: 10 },
  });
  const patched = await call('PATCH', web, { healthCheck: { interval: 0.5, via: 'tunnel' }, whenAllDown: null });
  assert.deepEqual(
    [patched.json().healthCheck.interval, patched.json().healthCheck.via, patched.json().whenAllDown],
    [0.5, 'tunnel', undefined],
  );
  assert.equal((await call('PATCH', web, { healthCheck: null })).json().healthCheck, undefined);
});

for (const [what, fields, errors] of [
  [
    'field by field',
    {
      healthCheck: {
        type: 'icmp',
        interval: '2s',
        timeout: 0,
        rise: 0,
        fall: 1.5,
        via: 'road',
        host: 'a\r\nb',
        ttl: 1,
      },
      whenAllDown: 'maybe',
    },
    {
      '/healthCheck/type': '"icmp" is not one of "tcp", "http", "https", "udp", "grpc"',
      '/healthCheck/interval': 'got a string; wanted a number',
      '/healthCheck/timeout': '0 is out of range; use 0.05 to 60',
      '/healthCheck/rise': '0 is out of range; use 1 to 100',
      '/healthCheck/fall': 'got the number 1.5; wanted an integer',
      '/healthCheck/via': '"road" is not one of "direct", "tunnel"',
      '/healthCheck/host': '"a\\r\\nb" is not a host name, with a port if wanted: sent as Host, and as server name',
      '/healthCheck/ttl': 'unknown field "ttl"',
      '/whenAllDown': '"maybe" is not one of "open", "closed"',
    },
  ],
  [
    'what does not go together',
    { healthCheck: { type: 'tcp', path: '/', interval: 1, timeout: 2 } },
    {
      '/healthCheck/path': 'is for type http or https, this is "tcp"',
      '/healthCheck/timeout': '2 is longer than the interval, 1',
    },
  ],
  ['no type', { healthCheck: {} }, { '/healthCheck/type': '"type" is missing' }],
] as const)
  test(`api: a health check is refused: ${what}`, async (t) => {
    const { call, store } = setup(t);
    const answer = await call('PUT', web, { ...webPool, ...fields });
    assertProblem(answer, 400, 'invalid', Object.keys(errors));
    const got = answer.json().errors.map((each: { pointer: string; detail: string }) => [each.pointer, each.detail]);
    assert.deepEqual(Object.fromEntries(got), errors);
    assert.equal(store.read().pools.size, 0);
  });

test('api: what the nodes find changes no ETag, and an edit with If-Match goes through', async (t) => {
  const { call, store } = setup(t);
  const healthCheck = { type: 'tcp' };
  const { etag } = (await call('PUT', web, { ...webPool, healthCheck })).headers;
  const find = (name: string) =>
    store.update(() => [
      { kind: 'health', name: 'web', value: { failOpen: false, down: [{ name, since: 1 }], slow: [] } },
    ]);
  await find('b1');
  const got = await call('GET', web);
  assert.deepEqual([got.headers.etag, got.json().health, got.json().ringLog], [etag, undefined, undefined]);
  const edit = await call('PUT', web, { ...webPool, healthCheck, holdSeconds: 60 }, { 'if-match': String(etag) });
  assert.equal(edit.statusCode, 200, edit.body);
  assert.notEqual(edit.headers.etag, etag);
  assert.deepEqual(store.read().pools.get('web')?.health?.down, [{ name: 'b1', since: 1 }], 'it is not overwritten');
  await find('b2');
  const late = await call('PUT', web, { ...webPool, healthCheck }, { 'if-match': String(etag) });
  assertProblem(late, 412, 'precondition');
});
