// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { assertProblem, setup, withService, wwwService } from './api-setup.js';

const json = { 'content-type': 'application/json' };

test('api: a path that is not there is 404', async (t) => {
  const { call } = setup(t);
  for (const path of ['/nope', '/api/v1/nope', '/api/v1/services/a/b', '/api/v2/services'])
    assertProblem(await call('GET', path), 404, null);
});

test('api: a method a path does not take is 405 with Allow', async (t) => {
  const { call } = setup(t);
  for (const [method, path, allow] of [
    ['DELETE', '/api/v1/services', 'GET, HEAD, POST'],
    ['POST', '/api/v1/pools/web?x=1', 'DELETE, GET, HEAD, PATCH, PUT'],
    ['GET', '/api/v1/pools/web/backends/b1/drain', 'POST'],
    ['POST', '/metrics', 'GET, HEAD'],
  ] as const) {
    const response = await call(method, path);
    assertProblem(response, 405, null);
    assert.equal(response.headers.allow, allow);
  }
});

test('api: a body of another type is 415', async (t) => {
  const { call } = setup(t);
  for (const type of ['text/plain', 'application/xml', 'application/x-www-form-urlencoded']) {
    const response = await call('PUT', '/api/v1/pools/web', 'x', { 'content-type': type });
    assertProblem(response, 415, null);
    assert.match(response.json().detail, new RegExp(`"${type}" is not supported; send application/json`));
  }
});

test('api: a body that is not JSON is 400 and says where', async (t) => {
  const { call } = setup(t);
  for (const [body, place] of [
    ['{', 'column 2'],
    ['{"a": }', 'column 7'],
    ['[1,\n]', 'line 2 column 1'],
    ['{"a": 1', 'the end of the text'],
  ] as const) {
    const response = await call('PUT', '/api/v1/pools/web', body, json);
    assertProblem(response, 400, 'invalid', ['']);
    assert.match(response.json().detail, new RegExp(`the body is not JSON: .*${place}`));
  }
});

test('api: a body that is nested very deeply is 400, however deep', async (t) => {
  const { call } = setup(t);
  for (const depth of [100, 10_000, 1_000_000])
    for (const [open, close] of [
      ['[', ']'],
      ['{"a":[', ']}'],
    ] as const) {
      const whole = await call('PUT', '/api/v1/pools/web', open.repeat(depth) + close.repeat(depth), json);
      assertProblem(whole, 400, 'invalid', ['']);
      assert.match(whole.json().detail, /nested deeper than 64 levels/);
      const half = await call('PATCH', '/api/v1/pools/web', open.repeat(depth), json);
      assertProblem(half, 400, 'invalid', ['']);
      assert.match(half.json().detail, depth === 100 ? /the end of the text/ : /wanted at most 1000 levels/);
    }
});

test('api: a body that would poison prototypes has unknown fields', async (t) => {
  const { call } = setup(t);
  const poison = '{"__proto__": {"name": "x"}, "constructor": {"prototype": {"x": 1}}}';
  assertProblem(await call('PUT', '/api/v1/pools/web', poison, json), 400, 'invalid', ['/__proto__', '/constructor']);
  assert.equal((await call('PUT', '/api/v1/pools/web', '{}', json)).statusCode, 201);
  assertProblem(await call('PATCH', '/api/v1/pools/web', poison, json), 400, 'invalid', ['/__proto__', '/constructor']);
});

test('api: a body of more than 8 MiB is 413; one just below is read', async (t) => {
  const { call } = setup(t);
  assertProblem(await call('PUT', '/api/v1/pools/web', `{${' '.repeat(8 * 1024 * 1024 - 1)}}`, json), 413, null);
  assert.equal((await call('PUT', '/api/v1/pools/web', `{${' '.repeat(8 * 1024 * 1024 - 2)}}`, json)).statusCode, 201);
});

test('api: a path that cannot be decoded is 400', async (t) => {
  const { call } = setup(t);
  assertProblem(await call('GET', '/api/v1/services/%zz'), 400, null);
});

test('api: a failure nobody foresaw is 500 and keeps the form', async (t) => {
  const { call, node } = setup(t);
  node.drops = () => {
    throw new TypeError('oops');
  };
  assertProblem(await call('GET', '/api/v1/drops'), 500, null);
});

test('api: flows take their query, with the client in canonical form', async (t) => {
  const { call, node } = setup(t);
  const flow = {
    service: 's',
    backend: 'b',
    protocol: 'tcp',
    client: '192.0.2.7:4',
    vip: '192.0.2.1:80',
    packets: 1,
    bytes: 2,
    state: 'new',
    firstSeen: 1,
    lastSeen: 2,
    handshakeNs: null,
  } as const;
  node.known.flows = [flow];
  assert.deepEqual((await call('GET', '/api/v1/flows')).json(), { items: [flow], nextCursor: null });
  assert.deepEqual(node.asked.flows, { sort: 'bytes', limit: 100 });
  await call('GET', '/api/v1/flows?service=www&backend=b1&client=2001:DB8::0:1&sort=age&limit=5');
  assert.deepEqual(node.asked.flows, { service: 'www', backend: 'b1', client: '2001:db8::1', sort: 'age', limit: 5 });
  for (const query of ['sort=size', 'limit=5000', 'client=1.2.3', 'x=1'])
    assertProblem(await call('GET', `/api/v1/flows?${query}`), 400, 'invalid', []);
});

test("api: drops, status and version are the node's", async (t) => {
  const { call } = setup(t);
  assert.deepEqual((await call('GET', '/api/v1/drops')).json(), {
    items: [{ service: null, reason: 'malformed', packets: 3 }],
  });
  assert.equal((await call('GET', '/api/v1/status')).json().node, 'edge-1');
  assert.deepEqual((await call('GET', '/api/v1/version')).json(), { version: '9.8.7', api: 'v1' });
});

test("api: livez lives, readyz is 503 with the reasons until ready, metrics are the node's text", async (t) => {
  const { call, node } = setup(t);
  assert.equal((await call('GET', '/livez')).statusCode, 200);
  assert.deepEqual((await call('GET', '/readyz')).json(), { ready: true });
  node.ready = false;
  const response = await call('GET', '/readyz');
  assertProblem(response, 503, null);
  assert.equal(response.headers['retry-after'], '1');
  assert.deepEqual(response.json().reasons, ['eth0 is not attached', 'the store was not read']);
  const metrics = await call('GET', '/metrics');
  assert.deepEqual(
    [metrics.body, metrics.headers['content-type']],
    ['fairlead_up 1\n', 'text/plain; version=0.0.4; charset=utf-8'],
  );
});

test('api: OpenAPI 3.1 describes every route, and /docs shows it', async (t) => {
  const { call } = setup(t);
  const spec = (await call('GET', '/openapi.json')).json();
  assert.match(spec.openapi, /^3\.1/);
  const one = ['delete', 'get', 'patch', 'put'];
  const operations = Object.fromEntries(
    Object.entries(spec.paths).map(([path, methods]) => [path, Object.keys(methods as object).sort()]),
  );
  assert.deepEqual(operations, {
    '/api/v1/services': ['get', 'post'],
    '/api/v1/services/{name}': one,
    '/api/v1/pools': ['get', 'post'],
    '/api/v1/pools/{name}': one,
    '/api/v1/pools/{pool}/backends/{name}': one,
    '/api/v1/pools/{pool}/backends/{name}/drain': ['post'],
    '/api/v1/pools/{pool}/backends/{name}/undrain': ['post'],
    '/api/v1/configuration': ['get', 'put'],
    '/api/v1/agent-key': ['get'],
    '/api/v1/events': ['get'],
    '/api/v1/topology': ['get'],
    '/api/v1/flows': ['get'],
    '/api/v1/drops': ['get'],
    '/api/v1/status': ['get'],
    '/api/v1/version': ['get'],
    '/livez': ['get'],
    '/readyz': ['get'],
    '/metrics': ['get'],
  });
  const put = spec.paths['/api/v1/services/{name}'].put;
  const body = put.requestBody.content['application/json'].schema;
  assert.deepEqual(
    [body.required, body.properties.port, body.additionalProperties],
    [
      ['address', 'port', 'protocol', 'pool'],
      { type: 'integer', minimum: 0, maximum: 65535, description: '0: every port without a service of its own' },
      false,
    ],
  );
  assert.deepEqual(put.parameters.map(({ name }: { name: string }) => name).sort(), [
    'dryRun',
    'if-match',
    'if-none-match',
    'name',
    'wait',
  ]);
  assert.ok(put.responses.default.content['application/problem+json'].schema.properties.errors);
  const docs = await call('GET', '/docs/');
  assert.equal(docs.statusCode, 200);
  assert.match(docs.body, /swagger-ui/);
});

test('api: a page of another site cannot use it through a browser', async (t) => {
  const { call, store } = await withService(t);
  const drain = '/api/v1/pools/web/backends/b1/drain';
  assertProblem(await call('POST', drain, undefined, { host: 'evil.example' }), 403, 'permission');
  assertProblem(await call('POST', drain, undefined, { host: '127.0.0.1.evil.example' }), 403, 'permission');
  assertProblem(
    await call('POST', drain, undefined, { host: '127.0.0.1:7080', origin: 'http://evil.example' }),
    403,
    'permission',
  );
  assertProblem(await call('POST', drain, undefined, { host: '127.0.0.1:7080', origin: 'null' }), 403, 'permission');
  assert.equal(store.read().revision, 2);
  for (const host of ['127.0.0.1:7080', '[::1]:7080', 'localhost']) {
    assert.equal(
      (await call('PUT', '/api/v1/services/www', wwwService, { host, origin: `http://${host}` })).statusCode,
      200,
      host,
    );
  }
});
