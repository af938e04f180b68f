// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { listenApi } from '../../src/api/listen.js';
import { agentKey } from '../../src/dataplane/program.js';
import { setup } from './api-setup.js';

function socketPath(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'fairlead-api-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  return join(directory, 'run', 'api.sock');
}

function send(
  target: { socketPath: string } | { port: number; host: string },
  method: string,
  path: string,
  body = '',
): Promise<{ status: number; body: string }> {
  return new Promise((resolve, reject) => {
    const headers = body === '' ? {} : { 'content-type': 'application/json' };
    const sent = request({ ...target, agent: false, method, path, headers }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (part: string) => (text += part));
      response.on('end', () => resolve({ status: response.statusCode ?? 0, body: text }));
    });
    sent.on('error', reject).end(body);
  });
}

test('api listen: serves on a Unix socket of mode 0660 and takes it away at the end', async (t) => {
  const { app, store } = setup(t);
  const socket = socketPath(t);
  assert.deepEqual(await listenApi(app, { socket, listen: null }), { port: null });
  assert.equal(statSync(socket).mode & 0o777, 0o660);
  assert.equal((await send({ socketPath: socket }, 'PUT', '/api/v1/pools/web', '{"backends": []}')).status, 201);
  assert.equal(store.read().pools.size, 1);
  assert.equal((await send({ socketPath: socket }, 'GET', '/api/v1/pools/nope')).status, 404);
  await app.close();
  assert.equal(existsSync(socket), false);
});

test('api listen: the key of the agents is told on the Unix socket, and refused on TCP', async (t) => {
  const { app, store } = setup(t);
  const socket = socketPath(t);
  const { port } = await listenApi(app, { socket, listen: '127.0.0.1:0' });
  const told = await send({ socketPath: socket }, 'GET', '/api/v1/agent-key');
  assert.equal(told.status, 200);
  const { key } = JSON.parse(told.body);
  assert.match(key, /^[0-9a-f]{32}$/);
  assert.equal(key, Buffer.from(agentKey(Buffer.from(store.read().hashKey, 'hex'))).toString('hex'));
  assert.notEqual(key, store.read().hashKey, 'not the key of the ring itself');
  const refused = await send({ host: '127.0.0.1', port: port ?? 0 }, 'GET', '/api/v1/agent-key');
  assert.equal(refused.status, 403);
  assert.equal(JSON.parse(refused.body).type, 'urn:fairlead:problem:permission');
  assert.doesNotMatch(refused.body, new RegExp(key));
});

test('api listen: serves the same on loopback TCP, and closes with a request half sent', {
  timeout: 20_000,
}, async (t) => {
  const { app } = setup(t);
  const socket = socketPath(t);
  const { port } = await listenApi(app, { socket, listen: '127.0.0.1:0' });
  assert.ok(port !== null && port > 0);
  const tcp = { host: '127.0.0.1', port };
  assert.equal((await send(tcp, 'PUT', '/api/v1/pools/web', '{}')).status, 201);
  assert.equal((await send({ socketPath: socket }, 'GET', '/api/v1/pools/web')).status, 200);
  const open = request({
    ...tcp,
    agent: false,
    method: 'PUT',
    path: '/api/v1/pools/web',
    headers: { 'content-length': 10, 'content-type': 'application/json' },
  });
  const ended = new Promise((resolve) => open.on('error', resolve));
  open.flushHeaders(); // and never the body
  await once((await once(open, 'socket'))[0], 'connect');
  assert.equal((await send(tcp, 'GET', '/livez')).status, 200); // accepted after it
  await app.close();
  assert.ok((await ended) instanceof Error);
  await assert.rejects(send(tcp, 'GET', '/livez'), { code: 'ECONNREFUSED' });
});

test('api listen: a socket somebody answers on is busy and stays', async (t) => {
  const first = setup(t);
  const socket = socketPath(t);
  await listenApi(first.app, { socket, listen: null });
  await assert.rejects(listenApi(setup(t).app, { socket, listen: null }), {
    code: 'busy',
    message: /another process answers/,
  });
  assert.equal((await send({ socketPath: socket }, 'GET', '/livez')).status, 200);
});

test('api listen: the socket of a killed daemon is replaced', async (t) => {
  const { app } = setup(t);
  const socket = socketPath(t);
  const script = `require('fs').mkdirSync(require('path').dirname(process.argv[1]), {recursive: true});
    require('net').createServer().listen(process.argv[1], () => process.kill(process.pid, 'SIGKILL'))`;
  assert.equal(spawnSync(process.execPath, ['-e', script, socket]).signal, 'SIGKILL');
  assert.ok(statSync(socket).isSocket());
  await listenApi(app, { socket, listen: null });
  assert.equal((await send({ socketPath: socket }, 'GET', '/livez')).status, 200);
});

test('api listen: a file that is not a socket is left alone', async (t) => {
  const path = dirname(socketPath(t));
  writeFileSync(path, 'text');
  await assert.rejects(listenApi(setup(t).app, { socket: path, listen: null }), {
    code: 'busy',
    message: /not a socket/,
  });
  assert.equal(readFileSync(path, 'utf8'), 'text');
});

test('api listen: any address but loopback is refused before anything opens', async (t) => {
  for (const [listen, code] of [
    ['0.0.0.0:7080', 'unsupported'],
    ['192.0.2.1:7080', 'unsupported'],
    ['[::]:7080', 'unsupported'],
    ['[2001:db8::1]:7080', 'unsupported'],
    ['localhost:7080', 'invalid'],
    ['127.0.0.1', 'invalid'],
    [':7080', 'invalid'],
    ['127.0.0.1:70000', 'invalid'],
  ] as const) {
    const socket = socketPath(t);
    await assert.rejects(listenApi(setup(t).app, { socket, listen }), { code }, listen);
    assert.equal(existsSync(socket), false);
  }
});

test('api listen: a port in use is busy', async (t) => {
  const first = await listenApi(setup(t).app, { socket: socketPath(t), listen: '127.0.0.2:0' });
  await assert.rejects(listenApi(setup(t).app, { socket: socketPath(t), listen: `127.0.0.2:${first.port}` }), {
    code: 'busy',
  });
});
