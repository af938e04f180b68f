// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { clientAt, pathOf } from '../../src/cli/client.js';
import { type ApiServer, type Given, problem, startApiServer } from '../support/api-server.js';

async function served(answers: Readonly<Record<string, Given>>, use: (server: ApiServer) => Promise<void>) {
  const server = await startApiServer(answers);
  try {
    await use(server);
  } finally {
    await server.close();
  }
}

test('cli client: an answer comes with status, headers and its JSON', () =>
  served(
    { 'GET /api/v1/status': { status: 200, headers: { etag: '"7"' }, body: { node: 'é' } } },
    async ({ socket }) => {
      const { status, headers, body } = await clientAt({ socket }, null)('GET', '/status');
      assert.deepEqual([status, headers.etag, body], [200, '"7"', { node: 'é' }]);
    },
  ));

test('cli client: body, query, headers and token go out as given; an undefined parameter does not', () =>
  served({ 'PUT /api/v1/a?dryRun=true': { status: 204 } }, async ({ socket, seen }) => {
    const query = { dryRun: 'true', wait: undefined };
    const call = clientAt({ socket }, 'secret');
    const { body } = await call('PUT', '/a', { query, headers: { 'if-match': '"3"' }, body: { name: 'é' } });
    assert.equal(body, null);
    const [request] = seen;
    assert.deepEqual(request?.body, { name: 'é' });
    assert.equal(request?.headers.authorization, 'Bearer secret');
    assert.equal(request?.headers['if-match'], '"3"');
    assert.equal(request?.headers['content-type'], 'application/json');
  }));

test('cli client: each status of a problem has its code', () =>
  served(
    Object.fromEntries(
      [400, 401, 403, 404, 409, 412, 422, 500, 503, 507].map((status) => [
        `GET /api/v1/${status}`,
        problem(status, 'x', `detail ${status}`, [{ pointer: '/a', detail: 'b' }]),
      ]),
    ),
    async ({ socket }) => {
      const call = clientAt({ socket }, null);
      const codes = {
        400: 'invalid',
        401: 'permission',
        403: 'permission',
        404: 'not-found',
        409: 'conflict',
        412: 'precondition',
        422: 'invalid',
        500: 'native',
        503: 'busy',
        507: 'full',
      };
      for (const [status, code] of Object.entries(codes)) {
        const fields = [{ pointer: '/a', detail: 'b' }];
        await assert.rejects(call('GET', `/${status}`), { code, message: `detail ${status}`, fields });
      }
    },
  ));

test('cli client: an error that is no problem document still says what failed', () =>
  served({ 'GET /api/v1/a': { status: 502, body: '<html>' } }, async ({ socket }) => {
    await assert.rejects(clientAt({ socket }, null)('GET', '/a'), { code: 'native', message: 'GET /a: status 502' });
  }));

test('cli client: nobody there, or somebody else, is unavailable', () =>
  served({ 'GET /api/v1/a': { body: '<html>' }, 'GET /api/v1/b': { status: 302 } }, async ({ socket, directory }) => {
    const missing = join(directory, 'missing.sock');
    await assert.rejects(clientAt({ socket: missing }, null)('GET', '/a'), {
      code: 'unavailable',
      message: `reach the daemon at ${missing}: there is no such socket; is "fairlead serve" running?`,
    });
    for (const path of ['/a', '/b']) {
      await assert.rejects(clientAt({ socket }, null)('GET', path), {
        code: 'unavailable',
        message: `reach the daemon at ${socket}: what answers there is not Fairlead`,
      });
    }
  }));

test('cli client: a name cannot leave its place in the path', () => {
  assert.equal(pathOf('pools', 'a/b?c#d', 'é'), '/pools/a%2Fb%3Fc%23d/%C3%A9');
});
