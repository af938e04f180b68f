// SPDX-License-Identifier: Apache-2.0
// What the command line has for services with forwarding nat.
import assert from 'node:assert/strict';
import { after, before, mock, test } from 'node:test';
import { answers, flow, natFlow, nodeStatus, recordedAt, webB1, webPool, webService } from '../support/api-answers.js';
import { type ApiServer, startApiServer } from '../support/api-server.js';
import { type Around, cli } from '../support/cli.js';

const backends = [
  { name: 'b1', address: '10.0.0.1', port: 8080, weight: 100, state: 'active' },
  { name: 'b2', address: '2001:db8::2', port: 8081, weight: 100, state: 'active' },
  { name: 'b3', address: '2001:db8::3', weight: 100, state: 'active' },
];
const nat = {
  capacity: 262_144,
  entries: 131_072,
  programs: [{ interface: 'eth0', program: 'tc_nat', mode: 'tcx', tag: 'c0ffee' }],
};

let server: ApiServer;
before(async () => {
  mock.timers.enable({ apis: ['Date'], now: recordedAt });
  server = await startApiServer({
    ...answers,
    'GET /api/v1/flows?service=app&sort=bytes&limit=50': { body: { items: [natFlow, flow] } },
    'GET /api/v1/pools/app': { body: { ...webPool, name: 'app', backends } },
    'GET /api/v1/status': { body: { ...nodeStatus, nat } },
    'PUT /api/v1/services/web': { body: webService },
    'PUT /api/v1/pools/web': { body: webPool },
    'PUT /api/v1/pools/web/backends/b1': { body: webB1 },
  });
});
after(() => server.close());

const run = (line: string, around: Around = {}) =>
  cli(line.split(' '), { ...around, env: { FAIRLEAD_SOCKET: server.socket } });

/** The body of the last request. */
const sent = (): unknown => server.seen.at(-1)?.body;

const lines = (text: string) => text.split('\n').slice(0, -1);

test('cli: backends with a port of their own have it beside their address', async () => {
  const { out } = await run('backends ls app');
  const addresses = lines(out).map((line) => line.split(/ +/)[2]);
  assert.deepEqual(addresses, ['ADDRESS', '10.0.0.1:8080', '[2001:db8::2]:8081', '2001:db8::3']);
});

test('cli: status has a line of NAT where it is in use', async () => {
  const { out } = await run('status');
  assert.deepEqual(lines(out).slice(-4), [
    '',
    'NAT',
    '  Connections  131072 of 262144 (50.0%)',
    '  Program      tc_nat c0ffee on eth0 (tcx)',
  ]);
});

test('cli: flows by NAT tell both directions, what they are translated to and the halves of the handshake', async () => {
  const { out } = await run('flows --service app', { columns: 300 });
  assert.deepEqual(
    lines(out).map((line) =>
      line
        .replace(/^.* IDLE|^.* 1s/, '')
        .trim()
        .split(/ {2,}/),
    ),
    [
      ['REPLIES', 'REPLY BYTES', 'SOURCE', 'DESTINATION', 'MS'],
      ['9', '1.46 KiB', '10.9.0.10:1024', '10.9.0.21:8080', '0.02+-'],
      [''],
    ],
  );
  assert.ok(!(await run('flows')).out.includes('REPLIES'), 'not where there is none');
});

test('cli: put sends the ports of backends', async () => {
  await run('pools put web --backend b1=10.0.0.1:8080 --backend b2=[2001:db8::2]:8081@50 --backend b3=2001:db8::3@5');
  assert.deepEqual(sent(), {
    backends: [
      { name: 'b1', address: '10.0.0.1', port: 8080 },
      { name: 'b2', address: '2001:db8::2', port: 8081, weight: 50 },
      { name: 'b3', address: '2001:db8::3', weight: 5 },
    ],
  });
  await run('backends put web b1 --address 10.0.0.1 --port 8080');
  assert.deepEqual(sent(), { address: '10.0.0.1', port: 8080 });
});

test('cli: put sends what becomes of sources', async () => {
  const document = { address: '192.0.2.10', port: 80, protocol: 'tcp', pool: 'web', forwarding: 'nat' };
  const put = 'services put web --address 192.0.2.10 --port 80 --protocol tcp --pool web --forwarding nat';
  await run(put);
  assert.deepEqual(sent(), document);
  for (const [text, snat] of [
    ['auto', 'auto'],
    ['none', 'none'],
    ['10.0.0.9', ['10.0.0.9']],
    ['10.0.0.9,10.0.0.10', ['10.0.0.9', '10.0.0.10']],
  ]) {
    await run(`${put} --snat ${text}`);
    assert.deepEqual(sent(), { ...document, snat });
  }
  for (const mss of ['auto', 1400]) {
    await run(`${put} --mss ${mss}`);
    assert.deepEqual(sent(), { ...document, mss });
  }
});
