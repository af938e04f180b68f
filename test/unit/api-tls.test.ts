// SPDX-License-Identifier: Apache-2.0
// The listeners of the API as they are in the daemon: TLS, client certificates, the Unix socket and its users.
import assert from 'node:assert/strict';
import { execFile, execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, copyFileSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { Agent, type RequestOptions, request } from 'node:https';
import { connect } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { test } from 'node:test';
import type { TLSSocket } from 'node:tls';
import { promisify } from 'node:util';
import { openAccess } from '../../src/api/access/access.js';
import { removeToken } from '../../src/api/access/token-file.js';
import { listenApi } from '../../src/api/listen.js';
import { openEventLog } from '../../src/observability/event-log.js';
import { bearer, none, temporary, tokenAccess } from '../support/access.js';
import { makeAuthority } from '../support/certificates.js';
import { setup } from './api-setup.js';
import { type Served, served } from './tls-setup.js';

const run = promisify(execFile);

/** One request; its status, its JSON, and the certificate it was answered with. */
async function send({ port, authority }: Served, method: string, path: string, options: RequestOptions = {}) {
  const sent = request({
    ...{ host: '127.0.0.1', servername: 'localhost', port, method, path, agent: false, ca: authority.ca.cert },
    ...options,
  });
  sent.end();
  const [response] = await once(sent, 'response');
  const serial = (response.socket as TLSSocket).getPeerCertificate().serialNumber;
  const body = await text(response);
  return { status: response.statusCode as number, serial, body: body === '' ? null : JSON.parse(body) };
}

test('api tls: with a token the API answers over TLS; without one, over plain HTTP and over old TLS it does not', async (t) => {
  const it = await served(t);
  const headers = bearer(it.tokens.read);
  assert.equal((await send(it, 'GET', '/api/v1/pools', { headers })).status, 200);
  assert.equal((await send(it, 'GET', '/api/v1/pools')).status, 401);
  const old = { headers, minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' } as const;
  await assert.rejects(send(it, 'GET', '/api/v1/pools', old), /protocol version|EPROTO|alert/i);
  const plain = connect(it.port, '127.0.0.1');
  plain.end(`GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n`);
  assert.doesNotMatch(await text(plain).catch(() => ''), /live/);
});

test('api tls: beyond loopback any host name is right, a page of another site is not', async (t) => {
  const it = await served(t, {}, '0.0.0.0:0');
  const get = async (headers: { readonly [name: string]: string }) =>
    (await send(it, 'GET', '/api/v1/pools', { headers: { ...bearer(it.tokens.read), ...headers } })).status;
  assert.equal(await get({ host: 'lb1.example:7443' }), 200);
  assert.equal(await get({ host: 'lb1.example', origin: 'https://lb1.example' }), 200);
  assert.equal(await get({ host: 'lb1.example', origin: 'http://lb1.example' }), 403);
  assert.equal(await get({ host: 'lb1.example', origin: 'https://evil.example' }), 403);
});

test('api tls: a client certificate has the scope of its name, another has none', async (t) => {
  const clients = [
    { cn: 'ops', scope: 'operate' },
    { san: 'DNS:localhost', scope: 'read' },
  ] as const;
  const it = await served(t, { clients });
  const { authority, tokens } = it;
  const drain = '/api/v1/pools/web/backends/b1/drain';
  const as = (name: string, of = authority) => {
    const { cert, key } = of.issue(name);
    return { cert, key };
  };
  assert.equal((await send(it, 'POST', drain, as('ops'))).status, 404, 'let through to a pool that is not there');
  assert.equal((await send(it, 'DELETE', '/api/v1/pools/web', as('ops'))).status, 403);
  const reader = as('somebody');
  assert.equal((await send(it, 'GET', '/api/v1/pools', reader)).status, 200);
  const refused = await send(it, 'POST', drain, reader);
  assert.deepEqual(
    [refused.status, refused.body.detail],
    [403, 'this takes scope "operate"; certificate "DNS:localhost" has "read"'],
  );
  const foreign = makeAuthority(it.directory, 'foreign');
  const stranger = await send(it, 'GET', '/api/v1/pools', as('ops', foreign));
  assert.equal(stranger.status, 401);
  assert.match(stranger.body.detail, /the client certificate is not valid: UNABLE_TO_/);
  const both = { ...as('ops'), headers: bearer(tokens.read) };
  assert.equal((await send(it, 'POST', drain, both)).status, 403, 'the token decides');
  const last = readFileSync(join(it.directory, 'audit.jsonl'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  assert.deepEqual(
    last.slice(0, 3).map(({ who }) => `${who.how} ${who.name}`),
    Array(3).fill('certificate ops'),
  );
});

test('api tls: a client certificate that is nobody’s is told so', async (t) => {
  const it = await served(t, { clients: [{ cn: 'ops', scope: 'admin' }], tokens: null });
  const { cert, key } = it.authority.issue('opsy');
  const answer = await send(it, 'GET', '/api/v1/pools', { cert, key });
  assert.deepEqual([answer.status, /nobody's in api\.clients: "opsy"/.test(answer.body.detail)], [401, true]);
  assert.equal((await send(it, 'GET', '/api/v1/pools', { headers: bearer(it.tokens.admin) })).status, 401);
});

test('api tls: a new certificate is taken for new connections, those that are open go on; a half-written one is not taken', {
  timeout: 30_000,
}, async (t) => {
  const it = await served(t);
  const { certFile, keyFile } = it.authority.issue('server');
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  t.after(() => agent.destroy());
  const get = (own = false) =>
    send(it, 'GET', '/api/v1/pools', { headers: bearer(it.tokens.read), agent: own ? agent : false });
  await it.access.reload();
  const first = (await get(true)).serial;
  const next = it.authority.issue('next');
  copyFileSync(next.certFile, `${certFile}.new`);
  renameSync(`${certFile}.new`, certFile);
  await it.access.reload();
  assert.equal((await get()).serial, first, 'without its key it is not taken');
  const told = it.events.since(0).events.filter(({ type }) => type === 'api.certificates_not_reloaded');
  assert.match(told[0]?.message ?? '', /^api\.tls\.key: ".*" does not belong to the certificate in ".*"/);
  copyFileSync(next.keyFile, keyFile); // noticed without being told
  while ((await get()).serial === first) await new Promise((resolve) => setTimeout(resolve, 50));
  assert.equal((await get(true)).serial, first, 'the open connection');
});

test('api tls: another authority for clients is for connections that are open, too: event streams end, and who came in before is nobody', async (t) => {
  const it = await served(t, { clients: [{ cn: 'ops', scope: 'admin' }] });
  const { cert, key } = it.authority.issue('ops');
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  t.after(() => agent.destroy());
  const get = () => send(it, 'GET', '/api/v1/pools', { cert, key, agent });
  assert.equal((await get()).status, 200);
  const stream = request({
    ...{ host: '127.0.0.1', servername: 'localhost', port: it.port, agent: false, ca: it.authority.ca.cert, cert, key },
    ...{ path: '/api/v1/events', headers: { accept: 'text/event-stream' } },
  });
  stream.end();
  const [events] = await once(stream, 'response');
  events.on('error', () => undefined).resume(); // cut
  const ended = new Promise((resolve) => events.once('close', resolve));
  await it.access.reload();
  assert.equal((await get()).status, 200, 'the same files close nothing');
  copyFileSync(makeAuthority(it.directory, 'foreign').ca.certFile, it.authority.ca.certFile);
  await it.access.reload();
  await ended;
  assert.equal((await get()).status, 401);
});

test('api tls: what cannot be used is refused at the start by the name of its key', async (t) => {
  const directory = temporary(t);
  const authority = makeAuthority(directory);
  const [one, other] = [authority.issue('one'), authority.issue('other')];
  const broken = join(directory, 'broken.pem');
  writeFileSync(broken, 'x');
  const missing = join(directory, 'missing.pem');
  const cases = [
    [{ cert: missing, key: one.keyFile, clientCa: null }, /^api\.tls\.cert: read ".*missing\.pem": ENOENT/],
    [{ cert: broken, key: one.keyFile, clientCa: null }, /^api\.tls\.cert: read ".*broken\.pem": wanted a certificate/],
    [{ cert: one.certFile, key: broken, clientCa: null }, /^api\.tls\.key: read ".*": wanted a private key without/],
    [{ cert: one.certFile, key: other.keyFile, clientCa: null }, /^api\.tls\.key: ".*" does not belong/],
    [{ cert: one.certFile, key: one.keyFile, clientCa: broken }, /^api\.tls\.clientCa: read/],
  ] as const;
  for (const [tls, message] of cases)
    await assert.rejects(openAccess({ ...none, tls }, openEventLog()), { code: 'invalid', message });
});

test('api socket: opens for its group, and the user on the other side is written down', async (t) => {
  const { access, directory } = await tokenAccess(t, (at) => ({ audit: join(at, 'audit.jsonl') }));
  const { app } = setup(t, access);
  const socket = join(directory, 'run', 'api.sock');
  await listenApi(app, { socket, socketGroup: '64123', listen: null }, access);
  chmodSync(directory, 0o755);
  assert.deepEqual([statSync(socket).mode & 0o777, statSync(socket).gid], [0o660, 64_123]);
  const put = (uid: number, gid: number) => {
    const user = ['--reuid', `${uid}`, '--regid', `${gid}`, '--clear-groups'];
    const sent = ['curl', '-sS', '-X', 'PUT', '--unix-socket', socket, 'http://x/api/v1/pools/web'];
    return run('setpriv', [...user, '--', ...sent, '-H', 'content-type: application/json', '-d', '{}']);
  };
  assert.equal(JSON.parse((await put(64_124, 64_123)).stdout).name, 'web');
  await assert.rejects(put(64_124, 64_125), /Couldn't connect|Permission denied|Failed to connect/i);
  const [line = ''] = readFileSync(join(directory, 'audit.jsonl'), 'utf8').split('\n');
  assert.deepEqual(JSON.parse(line).who, { how: 'socket', name: 'uid 64124', scope: 'admin', uid: 64_124 });
  await assert.rejects(
    listenApi(setup(t, access).app, { socket: `${socket}2`, socketGroup: 'no-such', listen: null }, access),
    {
      code: 'invalid',
      message: 'api.socketGroup: there is no group "no-such"',
    },
  );
});

test('api access: a connection that is reset after its request does not pass for the Unix socket', async (t) => {
  const { access } = await tokenAccess(t);
  const { app, call, store } = setup(t, access);
  const { port } = await listenApi(app, { socket: join(temporary(t), 'api.sock'), listen: '127.0.0.1:0' }, access);
  // Sent and reset before the listener gets to see the connection: it has no address any more then, but its request can be read.
  const script = `use Socket; socket(my $s, PF_INET, SOCK_STREAM, 0); connect($s, sockaddr_in(${port}, INADDR_LOOPBACK)) or die $!;
    syswrite $s, "POST /api/v1/pools HTTP/1.1\\r\\nhost: localhost\\r\\ncontent-type: application/json\\r\\ncontent-length: 2\\r\\n\\r\\n{}"; setsockopt($s, SOL_SOCKET, SO_LINGER, pack("ii", 1, 0)); close $s`;
  for (let at = 0; at < 10; at++) {
    execFileSync('perl', ['-e', script]);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  assert.equal((await call('GET', '/livez')).statusCode, 200);
  assert.equal(store.read().pools.size, 0);
});

test('api tls: a connection is cut when its token is taken away, others go on', { timeout: 20_000 }, async (t) => {
  const it = await served(t);
  const agents = { read: new Agent({ keepAlive: true }), admin: new Agent({ keepAlive: true }) };
  const sockets: TLSSocket[] = [];
  for (const name of ['read', 'admin'] as const) {
    const agent = agents[name];
    agent.on('free', (socket: TLSSocket) => sockets.push(socket));
    await send(it, 'GET', '/api/v1/pools', { headers: bearer(it.tokens[name]), agent });
    t.after(() => agent.destroy());
  }
  const [reader, admin] = sockets;
  assert.ok(reader && admin);
  const cut = once(reader, 'close');
  await removeToken(it.tokensFile, 'read');
  await cut;
  assert.equal(admin.destroyed, false);
});
