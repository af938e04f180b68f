// SPDX-License-Identifier: Apache-2.0
// Each kind of check against real servers: well, not well, and silent.
import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer as createHttp, type IncomingMessage, type RequestListener } from 'node:http';
import { createServer as createHttp2, type ServerHttp2Stream } from 'node:http2';
import { createServer as createHttps } from 'node:https';
import { type AddressInfo, createServer as createTcp, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { type TestContext, test } from 'node:test';
import type { Outcome } from '../../src/controlplane/health/attempt.js';
import { runCheck } from '../../src/controlplane/health/checks.js';
import type { HealthCheck, Snapshot } from '../../src/model/objects.js';
import { readPool } from '../../src/model/schema.js';
import { poolProblems } from '../../src/model/validate.js';
import { makeAuthority } from '../support/certificates.js';
import { until } from '../support/lab.js';

/** A check as the schema fills it in. */
function checkOf(fields: Partial<HealthCheck>): HealthCheck {
  const { draft, fields: wrong } = readPool({ name: 'p', healthCheck: fields });
  assert.deepEqual(wrong, []);
  return draft.healthCheck as HealthCheck;
}

const run = (port: number, fields: Partial<HealthCheck>, address = '127.0.0.1', timeoutMs = 2000): Promise<Outcome> =>
  runCheck({ check: checkOf(fields), address, port, timeoutMs, through: null });

/** A listening server that is closed with all its connections when the test ends; its port. */
async function listening(t: TestContext, server: Server, host = '127.0.0.1'): Promise<number> {
  const sockets = new Set<Socket>();
  server.on('connection', (socket: Socket) => {
    sockets.add(socket.on('error', () => undefined).on('close', () => sockets.delete(socket)));
  });
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  server.listen(0, host);
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
}

/** A port of this machine that nobody listens on. */
async function closedPort(): Promise<number> {
  const server = createTcp().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

/** A server that takes connections, and never reads from them. */
async function deafServer(t: TestContext): Promise<number> {
  return listening(t, createTcp({ pauseOnConnect: true }));
}

test('tcp: a connection is enough, and it is closed at once', async (t) => {
  let ended = 0;
  const server = createTcp((socket) => socket.resume().on('close', () => ended++));
  const port = await listening(t, server);
  assert.deepEqual(await run(port, { type: 'tcp' }), { result: 'ok', detail: '' });
  await until('the connection is closed', () => ended === 1);
});

test('tcp: IPv6', async (t) => {
  const port = await listening(t, createTcp(), '::1');
  assert.equal((await run(port, { type: 'tcp' }, '::1')).result, 'ok');
});

test('tcp: nobody listens', async () => {
  const { result, detail } = await run(await closedPort(), { type: 'tcp' });
  assert.equal(result, 'error');
  assert.match(detail, /ECONNREFUSED/);
});

test('tcp: nobody answers within the time', async () => {
  // 192.0.2.0/24 is nobody's (RFC 5737); without a route it is an error, and neither is well.
  const begun = performance.now();
  const { result } = await run(9, { type: 'tcp' }, '192.0.2.1', 300);
  assert.ok(['timeout', 'error'].includes(result), result);
  assert.ok(performance.now() - begun < 1500);
});

test('tcp: a half-open server, which never reads from its connections, is well for tcp and not for http', async (t) => {
  const port = await deafServer(t);
  assert.equal((await run(port, { type: 'tcp' })).result, 'ok');
  const begun = performance.now();
  assert.deepEqual(await run(port, { type: 'http' }, '127.0.0.1', 300), {
    result: 'timeout',
    detail: 'no answer within 300 ms',
  });
  assert.ok(performance.now() - begun < 1500);
});

test('http: statuses from 200 to 399 are well, or those that are expected', async (t) => {
  const seen: IncomingMessage[] = [];
  const answer: RequestListener = (request, response) => {
    seen.push(request);
    response.writeHead(Number(request.url?.slice(1))).end('x'.repeat(100_000));
  };
  const port = await listening(t, createHttp(answer));
  for (const [status, result] of [
    [200, 'ok'],
    [204, 'ok'],
    [302, 'ok'],
    [400, 'answer'],
    [404, 'answer'],
    [503, 'answer'],
  ] as const)
    assert.equal((await run(port, { type: 'http', path: `/${status}` })).result, result, `${status}`);
  assert.deepEqual(await run(port, { type: 'http', path: '/503' }), { result: 'answer', detail: 'HTTP status 503' });
  assert.equal((await run(port, { type: 'http', path: '/503', expect: [503] })).result, 'ok');
  assert.equal((await run(port, { type: 'http', path: '/200', expect: [503] })).result, 'answer');
  await run(port, { type: 'http', path: '/200', host: 'www.example:8080' });
  const { headers, method } = seen.at(-1) as IncomingMessage;
  assert.deepEqual([method, headers.host, headers.connection], ['GET', 'www.example:8080', 'close']);
});

test('http: garbage, a connection that is closed, and headers that never end', async (t) => {
  const behave = [
    (socket: Socket) => socket.end('SSH-2.0-OpenSSH\r\n'),
    (socket: Socket) => socket.destroy(),
    (socket: Socket) => {
      socket.write('HTTP/1.1 200 OK\r\n');
      const timer = setInterval(() => socket.write('x: y\r\n'), 20);
      socket.on('close', () => clearInterval(timer));
    },
  ];
  const results: string[] = [];
  for (const each of behave) {
    const port = await listening(t, createTcp(each));
    results.push((await run(port, { type: 'http' }, '127.0.0.1', 400)).result);
  }
  assert.deepEqual(results, ['error', 'error', 'timeout']);
});

test('https: any certificate, or with verify one that is good for the host; plain HTTP is an error', async (t) => {
  const directory = mkdtempSync(`${tmpdir()}/he-tls-`);
  t.after(() => rmSync(directory, { recursive: true }));
  const { cert, key } = makeAuthority(directory).issue('localhost');
  const names: unknown[] = [];
  const server = createHttps({ cert, key }, (_, response) => response.end());
  server.on('secureConnection', (socket) => names.push(socket.servername));
  const port = await listening(t, server);
  assert.deepEqual(await run(port, { type: 'https', host: 'www.example:443' }), { result: 'ok', detail: '' });
  assert.deepEqual(names, ['www.example']);
  const strict = await run(port, { type: 'https', host: 'localhost', verify: true });
  assert.equal(strict.result, 'error'); // nobody here trusts that CA
  assert.match(strict.detail, /certificate/);
  const plain = await listening(
    t,
    createHttp((_, response) => response.end()),
  );
  assert.equal((await run(plain, { type: 'https' })).result, 'error');
});

test('udp: the answer has to begin as it should', async (t) => {
  const server = createSocket('udp4');
  t.after(() => server.close());
  server.on('message', (question, from) => {
    if (question.toString() !== 'silent') server.send(Buffer.concat([Buffer.of(0, 0xff), question]), from.port);
  });
  server.bind(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  assert.equal((await run(port, { type: 'udp' })).result, 'ok'); // an empty question
  assert.equal((await run(port, { type: 'udp', send: 'ping', receive: 'hex:00ff70' })).result, 'ok');
  assert.deepEqual(await run(port, { type: 'udp', send: 'ping', receive: 'pong' }), {
    result: 'answer',
    detail: 'the answer begins with hex:00ff70696e67',
  });
  assert.equal((await run(port, { type: 'udp', send: 'silent' }, '127.0.0.1', 200)).result, 'timeout');
});

test('udp: a port unreachable is not waited for', async () => {
  const socket = createSocket('udp4').bind(0, '127.0.0.1');
  await once(socket, 'listening');
  const { port } = socket.address();
  socket.close();
  await once(socket, 'close');
  const { result, detail } = await run(port, { type: 'udp', send: 'x' }, '127.0.0.1', 10_000);
  assert.deepEqual([result, /ECONNREFUSED/.test(detail)], ['error', true]);
});

/** A gRPC server that answers with this message, or status. */
async function grpcServer(t: TestContext, answer: (stream: ServerHttp2Stream, question: Buffer) => void) {
  const server = createHttp2();
  server.on('stream', (stream) => {
    const parts: Buffer[] = [];
    stream.on('error', () => undefined);
    stream.on('data', (part: Buffer) => parts.push(part));
    stream.on('end', () => answer(stream, Buffer.concat(parts)));
  });
  return listening(t, server as unknown as Server);
}

/** A message with `status` in it, and the trailers of a call that went well. */
function say(stream: ServerHttp2Stream, status: number | null, code = '0'): void {
  stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
  stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': code, 'grpc-message': 'so' }));
  const body = status === null ? Buffer.alloc(0) : Buffer.of(8, status);
  stream.end(code === '0' ? Buffer.concat([Buffer.of(0, 0, 0, 0, body.length), body]) : undefined);
}

test('grpc: SERVING is well, everything else is not', async (t) => {
  let asked = Buffer.alloc(0);
  let status: number | null = 1;
  const port = await grpcServer(t, (stream, question) => {
    asked = question as typeof asked;
    say(stream, status);
  });
  assert.deepEqual(await run(port, { type: 'grpc' }), { result: 'ok', detail: '' });
  assert.equal(asked.toString('hex'), '0000000000');
  assert.equal((await run(port, { type: 'grpc', service: 'shop.Cart' })).result, 'ok');
  assert.equal(asked.toString('hex'), `000000000b0a09${Buffer.from('shop.Cart').toString('hex')}`);
  await run(port, { type: 'grpc', service: 'x'.repeat(200) });
  assert.equal(asked.subarray(0, 8).toString('hex'), '00000000cb0ac801'); // lengths of two bytes
  status = 2;
  assert.deepEqual(await run(port, { type: 'grpc' }), { result: 'answer', detail: 'NOT_SERVING' });
  status = null; // a field with its default is left out
  assert.deepEqual(await run(port, { type: 'grpc' }), { result: 'answer', detail: 'UNKNOWN' });
});

test('grpc: a refusal, HTTP/1, silence', async (t) => {
  const refusing = await grpcServer(t, (stream) => say(stream, null, '12'));
  assert.deepEqual(await run(refusing, { type: 'grpc' }), { result: 'answer', detail: 'gRPC status 12 so' });
  const missing = await grpcServer(t, (stream) => {
    stream.respond({ ':status': 404 });
    stream.end();
  });
  assert.deepEqual(await run(missing, { type: 'grpc' }), { result: 'answer', detail: 'HTTP status 404' });
  const old = await listening(
    t,
    createHttp((_, response) => response.end()),
  );
  assert.equal((await run(old, { type: 'grpc' })).result, 'error');
  const silent = await grpcServer(t, () => undefined);
  assert.equal((await run(silent, { type: 'grpc' }, '127.0.0.1', 300)).result, 'timeout');
});

test('schema: what does not go together is named', () => {
  const problemsOf = (healthCheck: object) =>
    poolProblems({} as Snapshot, readPool({ name: 'p', healthCheck }).draft).invalid;
  assert.deepEqual(problemsOf({ type: 'http', path: '/', expect: [204], host: 'a' }), []);
  assert.deepEqual(problemsOf({ type: 'tcp', path: '/' }), [
    { pointer: '/healthCheck/path', detail: 'is for type http or https, this is "tcp"' },
  ]);
  assert.deepEqual(problemsOf({ type: 'tcp', interval: 1, timeout: 1.5 }), [
    { pointer: '/healthCheck/timeout', detail: '1.5 is longer than the interval, 1' },
  ]);
});

test('schema: what does not fit is named', () => {
  const problemsOf = (healthCheck: object) => readPool({ name: 'p', healthCheck }).fields;
  for (const [check, pointer] of [
    [{}, '/healthCheck/type'],
    [{ type: 'icmp' }, '/healthCheck/type'],
    [{ type: 'tcp', interval: 0 }, '/healthCheck/interval'],
    [{ type: 'tcp', interval: '2s' }, '/healthCheck/interval'],
    [{ type: 'tcp', rise: 0 }, '/healthCheck/rise'],
    [{ type: 'tcp', fall: 1.5 }, '/healthCheck/fall'],
    [{ type: 'tcp', port: 0 }, '/healthCheck/port'],
    [{ type: 'http', path: 'x' }, '/healthCheck/path'],
    [{ type: 'http', path: '/a b' }, '/healthCheck/path'],
    [{ type: 'http', host: 'a\r\nb: c' }, '/healthCheck/host'],
    [{ type: 'http', expect: [99] }, '/healthCheck/expect/0'],
    [{ type: 'udp', send: 'hex:0' }, '/healthCheck/send'],
    [{ type: 'tcp', colour: 1 }, '/healthCheck/colour'],
  ] as const)
    assert.deepEqual(
      problemsOf(check).map((each) => each.pointer),
      [pointer],
      JSON.stringify(check),
    );
});

test('a check is not blamed for a process that had no time: what has come counts', async (t) => {
  const server = createTcp();
  const port = await listening(t, server);
  await new Promise((resolve) => setImmediate(resolve)); // what comes next in the event loop is timers
  const result = run(port, { type: 'tcp' }, '127.0.0.1', 50);
  for (const end = performance.now() + 200; performance.now() < end; ); // busy
  assert.deepEqual(await result, { result: 'ok', detail: '' });
});
