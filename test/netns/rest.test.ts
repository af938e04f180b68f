// SPDX-License-Identifier: Apache-2.0
// The REST API of the real daemon over its Unix socket, and what packets do after each change.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { NodeStatus } from '../../src/model/node-view.js';
import { tracesOf } from '../support/lab.js';
import type { Reply } from '../support/serve.js';
import { openSender, openServedLab, type SendDatagrams, type ServedLab } from '../support/served-lab.js';

const name = 'fterest';
let lab: ServedLab;
let send: SendDatagrams;
let port = 20_000;

before(async () => {
  lab = await openServedLab(name, 3);
  send = await openSender(lab);
});
after(async () => {
  await lab.close();
  assert.deepEqual(tracesOf(name), []);
});

/** One datagram from a port not used before; the backend that echoed it. */
async function answerer(): Promise<string | undefined> {
  const flow = { from: '10.1.0.2', fromPort: port++, to: lab.topology.vip4, size: 64, count: 1 };
  return (await send([flow]))[0]?.[0];
}

function problem({ status, body }: Reply): { status: number; detail: string; pointers: readonly string[] } {
  const { detail, errors = [], ...rest } = body as { status: number; detail: string; errors?: { pointer: string }[] };
  assert.equal(rest.status, status);
  return { status, detail, pointers: errors.map(({ pointer }) => pointer) };
}

test('rest: create, read, patch and delete an object under ETag and If-Match', async () => {
  const path = '/api/v1/services/extra';
  const document = { address: '192.0.2.11', port: 8080, protocol: 'tcp', pool: 'web4' };
  const made = await lab.ask('PUT', path, document, { 'if-none-match': '*' });
  assert.equal(made.status, 201);
  assert.match(made.etag ?? '', /^"\d+"$/);
  assert.equal((await lab.ask('PUT', path, document, { 'if-none-match': '*' })).status, 412);
  const read = await lab.ask('GET', path);
  assert.deepEqual([read.status, read.etag], [200, made.etag]);
  assert.equal((await lab.ask('PUT', path, document)).etag, made.etag, 'a PUT that changes nothing makes no revision');

  const patched = await lab.ask('PATCH', path, { port: 8081 }, { 'if-match': made.etag ?? '' });
  assert.equal(patched.status, 200);
  assert.notEqual(patched.etag, made.etag);
  assert.equal((patched.body as { port: number }).port, 8081);
  for (const [method, body] of [
    ['PUT', document],
    ['PATCH', { port: 1 }],
    ['DELETE', undefined],
  ] as const)
    assert.equal((await lab.ask(method, path, body, { 'if-match': made.etag ?? '' })).status, 412, method);
  assert.equal((await lab.ask('GET', path)).etag, patched.etag);
  assert.equal((await lab.ask('DELETE', path, undefined, { 'if-match': patched.etag ?? '' })).status, 204);
  assert.equal((await lab.ask('GET', path)).status, 404);
});

test('rest: after ?wait=applied the very next packet follows the change, 20 times', async () => {
  const { backends } = lab.topology;
  for (let round = 0; round < 20; round++) {
    const chosen = `be${1 + (round % 3)}`;
    const pool = backends.map((backend) => ({
      name: backend.name,
      address: backend.address4,
      // By weight, by state and by membership in turn.
      weight: round % 2 === 0 && backend.name !== chosen ? 0 : 100,
      state: round % 4 === 1 && backend.name !== chosen ? 'drain' : 'active',
    }));
    const members = round % 4 === 3 ? pool.filter((backend) => backend.name === chosen) : pool;
    const { status } = await lab.ask('PUT', '/api/v1/pools/web4?wait=applied', { backends: members });
    assert.equal(status, 200);
    assert.equal(await answerer(), chosen, `round ${round}`);
  }
});

test('rest: a service taken away and made again takes packets again', async () => {
  const path = '/api/v1/services/echo4';
  const { revision: _, status: _status, ...document } = (await lab.ask('GET', path)).body as Record<string, unknown>;
  assert.equal((await lab.ask('DELETE', `${path}?wait=applied`)).status, 204);
  await assert.rejects(answerer(), /no echo within 3 s/);
  assert.equal((await lab.ask('PUT', `${path}?wait=applied`, document)).status, 201);
  assert.ok(await answerer());
});

test('rest: an unknown field, a used pool and a malformed body are refused and change nothing', async () => {
  const { appliedRevision } = (await lab.api('GET', '/api/v1/status')) as NodeStatus;
  const unknown = problem(await lab.ask('PATCH', '/api/v1/services/http4', { prot: 'udp' }));
  assert.deepEqual([unknown.status, unknown.pointers], [400, ['/prot']]);
  const used = problem(await lab.ask('DELETE', '/api/v1/pools/web4'));
  assert.equal(used.status, 409);
  assert.match(used.detail, /"echo4".*"http4"|"http4".*"echo4"/);
  const twice = problem(
    await lab.ask('PUT', '/api/v1/services/twin', {
      ...{ address: lab.topology.vip4, port: 80, protocol: 'tcp', pool: 'web4' },
    }),
  );
  assert.equal(twice.status, 409);
  const status = (await lab.api('GET', '/api/v1/status')) as NodeStatus;
  assert.deepEqual([status.store.revision, status.appliedRevision], [appliedRevision, appliedRevision]);
});

test('rest: a pool for whose ring there is no room is refused, and all others go on', async () => {
  const pool = { backends: [{ name: 'be1', address: lab.topology.backends[0]?.address4 }], ring: { size: 131_071 } };
  let made = 0;
  let last = await lab.ask('PUT', `/api/v1/pools/big${made}`, pool);
  for (; last.status === 201; last = await lab.ask('PUT', `/api/v1/pools/big${made}`, pool)) made++;
  assert.equal(made, 14);
  const full = problem(last);
  assert.deepEqual([full.status, full.pointers], [507, ['/ring/size']]);
  assert.equal((await lab.ask('GET', `/api/v1/pools/big${made}`)).status, 404);
  // Full as it is, every ring can still be replaced.
  assert.equal((await lab.ask('PUT', '/api/v1/pools/big0?wait=applied', { ...pool, backends: [] })).status, 200);
  assert.equal((await lab.ask('PUT', '/api/v1/pools/big0?wait=applied', pool)).status, 200);
  assert.ok(await answerer());
  for (let index = 0; index < made; index++)
    assert.equal((await lab.ask('DELETE', `/api/v1/pools/big${index}`)).status, 204);
  const { revision } = (await lab.ask('PUT', '/api/v1/pools/small?wait=applied', { backends: [] })).body as {
    revision: number;
  };
  const status = (await lab.api('GET', '/api/v1/status')) as NodeStatus;
  assert.deepEqual([status.appliedRevision >= revision, status.lastError], [true, null]);
});
