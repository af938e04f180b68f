// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { assertProblem, setup, webPool, withService, wwwService } from './api-setup.js';

const services = '/api/v1/services';
const www = `${services}/www`;
const pools = '/api/v1/pools';
const whole = { name: 'www', ...wwwService, forwarding: 'ipip', affinity: 'flow' };

test('api: PUT makes a service, 201 with Location and ETag, defaults filled in', async (t) => {
  const { call, store } = await withService(t);
  const response = await call('PUT', `${services}/dns`, { ...wwwService, port: 53, protocol: 'udp' });
  assert.equal(response.statusCode, 201);
  assert.equal(response.headers.location, `${services}/dns`);
  assert.equal(response.headers.etag, '"3"');
  assert.deepEqual(response.json(), { ...whole, name: 'dns', port: 53, protocol: 'udp', revision: 3, status: null });
  assert.equal(store.read().services.size, 2);
});

test('api: PUT of the same content is 200 and no new revision; of other content a new one', async (t) => {
  const { call, store } = await withService(t);
  const same = await call('PUT', www, wwwService);
  assert.deepEqual(
    [same.statusCode, same.headers.etag, same.headers.location, store.read().revision],
    [200, '"2"', undefined, 2],
  );
  const other = await call('PUT', www, { ...wwwService, port: 81 });
  assert.deepEqual([other.statusCode, other.headers.etag, other.json().port], [200, '"3"', 81]);
});

test('api: what GET answers can be PUT back', async (t) => {
  const { call, store } = await withService(t);
  for (const path of [www, `${pools}/web`, `${pools}/web/backends/b1`]) {
    const got = await call('GET', path);
    assert.equal((await call('PUT', path, got.json())).statusCode, 200);
  }
  assert.equal(store.read().revision, 2);
});

test('api: addresses are stored in canonical form, backends in order of name', async (t) => {
  const { call } = setup(t);
  const pool = await call('PUT', `${pools}/six`, {
    backends: [
      { name: 'z', address: '2001:DB8:0::1' },
      { name: 'a', address: '2001:db8::2' },
    ],
  });
  const backends = pool
    .json()
    .backends.map(({ name, address }: { name: string; address: string }) => `${name} ${address}`);
  assert.deepEqual(backends, ['a 2001:db8::2', 'z 2001:db8::1']);
  const service = await call('PUT', `${services}/six`, { ...wwwService, address: '2001:0DB8::00ff', pool: 'six' });
  assert.equal(service.json().address, '2001:db8::ff');
});

test('api: POST takes the name of the body, or gives one that is a name', async (t) => {
  const { call } = await withService(t);
  const named = await call('POST', services, { ...wwwService, name: 'alt', port: 8080 });
  assert.deepEqual([named.statusCode, named.headers.location, named.json().name], [201, `${services}/alt`, 'alt']);
  const given = await call('POST', services, { ...wwwService, port: 8081 });
  assert.equal(given.statusCode, 201);
  assert.match(given.json().name, /^[a-z0-9]{16}$/);
  assert.equal(given.headers.location, `${services}/${given.json().name}`);
  assert.equal((await call('GET', String(given.headers.location))).statusCode, 200);
  assertProblem(await call('POST', services, { ...wwwService, name: 'www' }), 409, 'conflict', ['/name']);
});

test('api: PATCH merges, null brings a default back, and answers a new ETag', async (t) => {
  const { call } = await withService(t);
  const patched = await call('PATCH', www, { port: 443, forwarding: null });
  assert.deepEqual([patched.statusCode, patched.headers.etag], [200, '"3"']);
  assert.deepEqual(patched.json(), { ...whole, port: 443, revision: 3, status: null });
  const pool = await call(
    'PATCH',
    `${pools}/web`,
    { ring: { size: 251 } },
    { 'content-type': 'application/merge-patch+json' },
  );
  assert.deepEqual([pool.statusCode, pool.json().ring, pool.json().backends.length], [200, { size: 251 }, 2]);
  assertProblem(await call('PATCH', www, { port: null, protocol: 'sctp', pool: 'x' }), 400, 'invalid', [
    '/port',
    '/protocol',
    '/pool',
  ]);
  assertProblem(await call('PATCH', `${services}/none`, {}), 404, 'not-found');
  assertProblem(await call('PATCH', www, []), 400, 'invalid', ['']);
  assertProblem(await call('PATCH', www, { name: 'new' }), 400, 'invalid', ['/name']);
});

test('api: DELETE is 204, then 404', async (t) => {
  const { call, store } = await withService(t);
  const gone = await call('DELETE', www);
  assert.deepEqual([gone.statusCode, gone.body], [204, '']);
  assertProblem(await call('DELETE', www), 404, 'not-found');
  assertProblem(await call('GET', www), 404, 'not-found');
  assert.equal((await call('DELETE', `${pools}/web`)).statusCode, 204);
  assert.equal(store.read().pools.size, 0);
});

test('api: a pool in use is not deleted; the answer names who uses it', async (t) => {
  const { call } = await withService(t);
  await call('PUT', `${services}/api`, { ...wwwService, port: 81 });
  const refused = await call('DELETE', `${pools}/web`);
  assertProblem(refused, 409, 'conflict');
  assert.match(refused.json().detail, /"api", "www"/);
});

test('api: lists go by name, page by page, and survive a change between pages', async (t) => {
  const { call } = setup(t);
  for (const name of ['c', 'a', 'e', 'b', 'd']) await call('PUT', `${pools}/${name}`, {});
  const names: string[] = [];
  let next = `${pools}?limit=2`;
  for (let pages = 0; next !== ''; pages++) {
    assert.ok(pages < 4);
    const { items, nextCursor } = (await call('GET', next)).json();
    names.push(...items.map(({ name }: { name: string }) => name));
    if (pages === 0) await call('DELETE', `${pools}/b`); // the cursor's own object
    next = nextCursor === null ? '' : `${pools}?limit=2&cursor=${nextCursor}`;
  }
  assert.deepEqual(names, ['a', 'b', 'c', 'd', 'e']);
  const exact = (await call('GET', `${pools}?limit=4`)).json();
  assert.deepEqual(
    [exact.items.length, exact.nextCursor, exact.items[0].revision, exact.items[0].status],
    [4, null, 2, null],
  );
  assert.deepEqual((await call('GET', services)).json(), { items: [], nextCursor: null });
});

test('api: parameters of a query that are wrong or unknown are refused by name', async (t) => {
  const { call, store } = await withService(t);
  for (const [path, name] of [
    ['limit=0', 'limit'],
    ['limit=1001', 'limit'],
    ['limit=1.5', 'limit'],
    ['limit=', 'limit'],
    ['cursor=!!', 'cursor'],
    ['page=2', 'page'],
  ]) {
    const response = await call('GET', `${services}?${path}`);
    assertProblem(response, 400, 'invalid', []);
    assert.match(response.json().detail, new RegExp(`query parameter "${name}"`));
  }
  for (const query of ['dryrun=true', 'dryRun=yes', 'wait=stored'])
    assertProblem(await call('DELETE', `${www}?${query}`), 400, 'invalid', []);
  assert.equal(store.read().services.size, 1);
});

test('api: If-Match and If-None-Match hold or answer 412, on every kind of write', async (t) => {
  const { call, store } = await withService(t);
  const changed = { ...wwwService, port: 99 };
  for (const header of ['"1"', 'W/"2"', '2', '"3", "4"', '""']) {
    for (const method of ['PUT', 'PATCH', 'DELETE']) {
      assertProblem(
        await call(method, www, method === 'DELETE' ? undefined : changed, { 'if-match': header }),
        412,
        'precondition',
      );
    }
  }
  assertProblem(await call('PUT', www, changed, { 'if-none-match': '*' }), 412, 'precondition');
  assertProblem(await call('PUT', www, changed, { 'if-none-match': '"7", W/"2"' }), 412, 'precondition');
  assertProblem(
    await call('POST', services, { name: 'www', ...changed }, { 'if-none-match': '*' }),
    412,
    'precondition',
  );
  assertProblem(await call('PUT', `${services}/new`, changed, { 'if-match': '*' }), 412, 'precondition');
  assertProblem(
    await call('PUT', `${pools}/web/backends/b1`, { address: '10.0.0.9' }, { 'if-none-match': '*' }),
    412,
    'precondition',
  );
  assertProblem(
    await call('POST', `${pools}/web/backends/b1/drain`, undefined, { 'if-match': '"9"' }),
    412,
    'precondition',
  );
  assertProblem(await call('PATCH', `${services}/new`, {}, { 'if-match': '*' }), 404, 'not-found');
  assert.equal(store.read().revision, 2);

  assert.equal((await call('PUT', www, changed, { 'if-match': '"1", "2"' })).headers.etag, '"3"');
  assert.equal((await call('PATCH', www, { port: 98 }, { 'if-match': '*' })).headers.etag, '"4"');
  assert.equal(
    (await call('PUT', `${services}/new`, { ...changed, port: 7 }, { 'if-none-match': '*' })).statusCode,
    201,
  );
  assert.equal(
    (await call('PUT', `${pools}/web/backends/b3`, { address: '10.0.0.3' }, { 'if-none-match': '*' })).statusCode,
    201,
  );
  assert.equal((await call('DELETE', www, undefined, { 'if-match': '"4"' })).statusCode, 204);
});

test('api: of two writers with the same ETag one wins', async (t) => {
  const { call } = await withService(t);
  const writes = [1, 2].map((port) => call('PATCH', www, { port }, { 'if-match': '"2"' }));
  const codes = (await Promise.all(writes)).map(({ statusCode }) => statusCode);
  assert.deepEqual(codes.sort(), [200, 412]);
});

test('api: dryRun answers what would be stored and stores nothing', async (t) => {
  const { call, store } = await withService(t);
  const before = store.read();
  const put = await call('PUT', `${services}/new?dryRun=true`, { ...wwwService, port: 81 });
  assert.deepEqual([put.statusCode, put.headers.etag, put.headers.location], [200, undefined, undefined]);
  const { effect, ...shown } = put.json();
  assert.deepEqual(shown, { ...whole, name: 'new', port: 81, revision: 3, status: null });
  assert.deepEqual(effect.changes, [{ kind: 'service', name: 'new', action: 'create' }]);
  assert.equal((await call('PATCH', `${www}?dryRun=true`, { port: 9 })).json().port, 9);
  assert.equal((await call('PUT', `${www}?dryRun=true`, wwwService)).json().revision, 2);
  assert.equal((await call('POST', `${pools}?dryRun=true`, {})).statusCode, 200);
  assert.equal((await call('POST', `${pools}/web/backends/b1/drain?dryRun=true`)).json().state, 'drain');
  const gone = await call('DELETE', `${www}?dryRun=true`);
  assert.deepEqual(
    [gone.statusCode, gone.json().effect.changes],
    [200, [{ kind: 'service', name: 'www', action: 'delete' }]],
  );
  assertProblem(await call('DELETE', `${pools}/web?dryRun=true`), 409, 'conflict');
  assertProblem(await call('PUT', `${www}?dryRun=true`, {}), 400, 'invalid');
  assert.equal(store.read(), before);
  assert.equal((await call('PUT', `${www}?dryRun=false`, { ...wwwService, port: 9 })).headers.etag, '"3"');
});

test('api: wait=applied asks the node for the stored revision, and says so when it is not applied', async (t) => {
  const { call, node, store } = await withService(t);
  assert.equal(node.asked.applied, null);
  assert.equal((await call('PATCH', `${www}?wait=applied`, { port: 9 })).statusCode, 200);
  assert.equal(node.asked.applied, 3);
  node.stuck = true;
  const response = await call('PATCH', `${www}?wait=applied`, { port: 10 });
  assertProblem(response, 503, 'unavailable');
  assert.equal(response.headers['retry-after'], '1');
  assert.match(response.json().detail, /revision 4 is stored, but not applied: pool "web" has no room/);
  assert.equal(store.read().revision, 4);
});

test('api: what the kernel has no room for is 507 and not stored', async (t) => {
  const { call, node, store } = await withService(t);
  node.rooms = 1;
  assertProblem(await call('PUT', `${services}/two`, { ...wwwService, port: 81 }), 507, 'full');
  assertProblem(await call('PUT', `${services}/two?dryRun=true`, { ...wwwService, port: 81 }), 507, 'full');
  const { admitted } = node.asked;
  assert.deepEqual([admitted?.revision, admitted?.services.size, [...(admitted?.pools.keys() ?? [])]], [3, 2, ['web']]);
  assert.equal(store.read().revision, 2);
});

test('api: a closed store is 503 with Retry-After', async (t) => {
  const { call, store } = await withService(t);
  await store.close();
  const response = await call('DELETE', www);
  assertProblem(response, 503, 'unavailable');
  assert.equal(response.headers['retry-after'], '1');
});

test("api: a backend is read, put, patched, drained, undrained and taken out; its ETag is the pool's", async (t) => {
  const { call, store, node } = await withService(t);
  const b1 = `${pools}/web/backends/b1`;
  const got = await call('GET', b1);
  assert.deepEqual([got.statusCode, got.headers.etag], [200, '"1"']);
  assert.deepEqual(got.json(), {
    name: 'b1',
    address: '10.0.0.1',
    weight: 100,
    state: 'active',
    revision: 1,
    status: null,
  });
  const status = {
    shareWanted: 0.5,
    shareReal: 0.4,
    health: { state: 'off', since: null, lastError: null, lastCheck: null, nodes: {} },
    flows: 12,
    packets: 1,
    bytes: 2,
    connections: 3,
    nextHop: { state: 'resolved', interface: 'eth0', mac: null },
  } as const;
  node.known.pools.set('web', {
    backends: new Map([['b1', status]]),
    failOpen: false,
    ringRows: 251,
    ring: null,
    appliedRevision: 2,
  });
  const drained = await call('POST', `${b1}/drain`);
  assert.deepEqual(
    [drained.statusCode, drained.headers.etag, drained.json().state, drained.json().status],
    [200, '"3"', 'drain', status],
  );
  assert.equal(
    (await call('POST', `${b1}/drain`, undefined, { 'content-type': 'application/json' })).headers.etag,
    '"3"',
  );
  assert.equal((await call('POST', `${b1}/undrain`)).json().state, 'active');
  assert.equal((await call('PATCH', b1, { weight: 0 })).json().weight, 0);
  const added = await call('PUT', `${pools}/web/backends/a0`, { address: '10.0.0.9', state: 'disabled' });
  assert.deepEqual(
    [added.statusCode, added.headers.location, added.json().weight],
    [201, `${pools}/web/backends/a0`, 100],
  );
  assert.equal(
    (await call('PUT', `${pools}/web/backends/a0`, { address: '10.0.0.9', state: 'disabled' })).statusCode,
    200,
  );
  assert.equal((await call('DELETE', b1)).statusCode, 204);
  assert.deepEqual(
    store
      .read()
      .pools.get('web')
      ?.value.backends.map(({ name }) => name),
    ['a0', 'b2'],
  );
  for (const [method, path] of [
    ['GET', b1],
    ['DELETE', b1],
    ['POST', `${b1}/drain`],
    ['GET', `${pools}/no/backends/b1`],
  ] as const) {
    assertProblem(await call(method, path), 404, 'not-found');
  }
  assertProblem(await call('PATCH', b1, {}), 404, 'not-found');
  assertProblem(await call('PUT', `${pools}/no/backends/b1`, { address: '10.0.0.1' }), 404, 'not-found');
});

test('api: objects show what the node knows of them', async (t) => {
  const { call, node } = await withService(t);
  const known = { flows: 1, packets: 2, bytes: 3, connections: 4, appliedRevision: 2 };
  node.known.services.set('www', known);
  node.known.pools.set('web', { backends: new Map(), failOpen: false, ringRows: 251, ring: null, appliedRevision: 2 });
  assert.deepEqual((await call('GET', www)).json(), { ...whole, revision: 2, status: known });
  assert.deepEqual((await call('GET', services)).json().items[0].status, known);
  assert.deepEqual((await call('GET', `${pools}/web`)).json().status, {
    backends: {},
    failOpen: false,
    ringRows: 251,
    ring: null,
    appliedRevision: 2,
  });
  assert.deepEqual((await call('GET', `${pools}/web`)).json().backends[0], {
    ...webPool.backends[0],
    weight: 100,
    state: 'active',
  });
});

test('api: the hash key is nowhere in an answer', async (t) => {
  const { call, store } = await withService(t);
  for (const path of [www, services, pools, `${pools}/web`, '/api/v1/status', '/openapi.json', '/metrics']) {
    assert.ok(!(await call('GET', path)).body.includes(store.read().hashKey), path);
  }
});
