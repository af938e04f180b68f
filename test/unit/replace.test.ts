// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { assertProblem, setup, webPool, withService, wwwService } from './api-setup.js';

const configuration = '/api/v1/configuration';
const web = { name: 'web', ...webPool };
const www = { name: 'www', ...wwwService };

test('configuration: PUT makes the store equal the document in one revision; what is not in it goes', async (t) => {
  const { call, store } = await withService(t);
  const document = { pools: [web, { name: 'dns' }], services: [{ ...www, name: 'new', port: 81 }] };
  const put = await call('PUT', configuration, document);
  assert.deepEqual([put.statusCode, put.headers.etag], [200, '"3"']);
  assert.deepEqual(put.json(), {
    revision: 3,
    changes: [
      { kind: 'pool', name: 'dns', action: 'create' },
      { kind: 'service', name: 'new', action: 'create' },
      { kind: 'service', name: 'www', action: 'delete' },
    ],
  });
  assert.deepEqual(
    [[...store.read().pools.keys()].sort(), [...store.read().services.keys()]],
    [['dns', 'web'], ['new']],
  );
  assert.equal(store.read().pools.get('web')?.revision, 1, 'what is equal is not touched');
  const again = await call('PUT', configuration, document);
  assert.deepEqual(again.json(), { revision: 3, changes: [] });
});

test('configuration: what GET answers can be PUT back, and so can objects as they are shown', async (t) => {
  const { call, store } = await withService(t);
  const got = await call('GET', configuration);
  assert.deepEqual([got.headers.etag, got.json().revision], ['"2"', 2]);
  assert.deepEqual((await call('PUT', configuration, got.json())).json().changes, []);
  const [pools, services] = await Promise.all([call('GET', '/api/v1/pools'), call('GET', '/api/v1/services')]);
  const shown = { pools: pools.json().items, services: services.json().items };
  assert.deepEqual((await call('PUT', configuration, shown)).json().changes, []);
  assert.equal(store.read().revision, 2);
});

test('configuration: with keep nothing is deleted', async (t) => {
  const { call, store } = await withService(t);
  const kept = await call('PUT', `${configuration}?keep=true`, { services: [{ ...www, name: 'new', port: 81 }] });
  assert.deepEqual(kept.json().changes, [{ kind: 'service', name: 'new', action: 'create' }]);
  assert.equal(store.read().services.size, 2);
  assertProblem(
    await call('PUT', `${configuration}?keep=true`, { services: [{ ...www, name: 'third' }] }),
    409,
    'conflict',
    ['/services/0/address'],
  );
});

test('configuration: objects are checked as they will be together, every problem is told, and nothing is done', async (t) => {
  const { call, store } = await withService(t);
  const cases: [document: unknown, status: number, pointers: string[]][] = [
    [{ services: [www] }, 400, ['/services/0/pool']], // its pool would be gone
    [{ pools: [web], services: [www, { ...www, name: 'other' }] }, 409, ['/services/0/address', '/services/1/address']],
    [{ pools: [web, web], services: [] }, 400, ['/pools/1/name']],
    [
      { pools: [{ name: 'web', backends: [{ name: 'b', address: 'x' }] }], services: [www] },
      400,
      ['/pools/0/backends/0/address'],
    ],
    [
      {
        pools: [
          {
            name: 'web',
            backends: [
              { name: 'z', address: '10.0.0.1' },
              { name: 'a', address: '10.0.0.1' },
            ],
          },
        ],
      },
      400,
      ['/pools/0/backends/1/address'],
    ],
    [{ pools: [{}], services: 7, extra: 1 }, 400, ['/extra', '/pools/0/name', '/services']],
    [{}, 400, ['']],
    [[], 400, ['']],
    [null, 400, ['']],
    [
      {
        pools: [web],
        services: [
          { ...www, forwarding: 'l2' },
          { ...www, name: 'x', port: 1 },
        ],
      },
      400,
      ['/services/0/forwarding', '/services/1/forwarding'],
    ],
  ];
  for (const [document, status, pointers] of cases)
    assertProblem(
      await call('PUT', configuration, JSON.stringify(document), { 'content-type': 'application/json' }),
      status,
      status === 400 ? 'invalid' : 'conflict',
      pointers,
    );
  assert.equal(store.read().revision, 2);
});

test('configuration: services may change places, and a pool its name, in one step', async (t) => {
  const { call } = setup(t);
  const a = { ...www, name: 'a', port: 1 };
  const b = { ...www, name: 'b', port: 2 };
  assert.equal((await call('PUT', configuration, { pools: [web], services: [a, b] })).statusCode, 200);
  const swapped = {
    pools: [{ ...web, name: 'new' }],
    services: [a, b].map((each) => ({ ...each, port: 3 - each.port, pool: 'new' })),
  };
  const put = await call('PUT', configuration, swapped);
  assert.deepEqual(
    put.json().changes.map(({ action, name }: { action: string; name: string }) => `${action} ${name}`),
    ['create new', 'delete web', 'change a', 'change b'],
  );
});

test('configuration: a dry run answers changes and effect, and If-Match is the revision of the store', async (t) => {
  const { call, store, node } = await withService(t);
  const dry = await call('PUT', `${configuration}?dryRun=true`, { pools: [], services: [] });
  assert.deepEqual([dry.statusCode, dry.headers.etag, dry.json().changes.length], [200, undefined, 2]);
  assert.ok(dry.json().effect.rows);
  assert.equal(store.read().revision, 2);
  assertProblem(await call('PUT', configuration, { pools: [] }, { 'if-match': '"1"' }), 412, 'precondition');
  assert.equal(
    (await call('PUT', `${configuration}?wait=applied`, { pools: [] }, { 'if-match': '"2"' })).statusCode,
    200,
  );
  assert.equal(node.asked.applied, 3);
});
