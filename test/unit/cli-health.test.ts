// SPDX-License-Identifier: Apache-2.0
// What the command line has for health checks.
import assert from 'node:assert/strict';
import { after, before, mock, test } from 'node:test';
import type { BackendHealth } from '../../src/model/node-view.js';
import { answers, recordedAt, webB1, webPool } from '../support/api-answers.js';
import { type ApiServer, startApiServer } from '../support/api-server.js';
import { type Around, cli } from '../support/cli.js';

const since = '2026-11-25T03:59:00.000Z';
const up: BackendHealth = {
  ...{ state: 'up', since, slowStart: 0.25, lastError: null },
  lastCheck: { at: since, result: 'ok', latencyMs: 0.8 },
  nodes: { 'edge-1': { state: 'up', since, detail: '' } },
};
const down: BackendHealth = {
  ...{ state: 'down', since, lastError: 'HTTP status 503' },
  lastCheck: { at: since, result: 'answer', latencyMs: 1.25 },
  nodes: {
    'edge-1': { state: 'down', since, detail: 'HTTP status 503' },
    'edge-2': { state: 'up', since, detail: '' },
  },
};
const { b1, b2 } = webPool.status.backends;
const healthCheck = { type: 'http', port: 8080, path: '/healthz', interval: 2, rise: 2, fall: 3, via: 'tunnel' };
const pool = {
  ...webPool,
  healthCheck,
  status: { ...webPool.status, failOpen: true, backends: { b1: { ...b1, health: up }, b2: { ...b2, health: down } } },
};

let server: ApiServer;
before(async () => {
  mock.timers.enable({ apis: ['Date'], now: recordedAt });
  server = await startApiServer({
    ...answers,
    'GET /api/v1/pools/web': { body: pool },
    'GET /api/v1/pools/web/backends/b2': { body: { ...webB1, name: 'b2', status: { ...b2, health: down } } },
    'PUT /api/v1/pools/web': { body: webPool },
  });
});
after(() => server.close());

const run = (line: string, around: Around = {}) =>
  cli(line.split(' '), { ...around, env: { FAIRLEAD_SOCKET: server.socket, NO_COLOR: '1' } });
const lines = (text: string) => text.split('\n').slice(0, -1);

test('cli: backends have their health where anybody looks after it, and fit a terminal', async () => {
  const { out } = await run('backends ls web', { columns: 80 });
  assert.deepEqual(lines(out), [
    'POOL  NAME  ADDRESS   WEIGHT  STATE   HEALTH  WANTED    GOT  FLOWS     BYTES',
    'web   b1    10.0.0.1     100  active  up 25%   66.7%  66.7%     20  28.6 MiB',
    'web   b2    10.0.0.2      50  drain   down     33.3%  33.3%     11  15.7 MiB',
  ]);
});

test('cli: a backend shows what each node finds, a pool how it is looked after', async () => {
  assert.deepEqual(lines((await run('backends get web b2')).out).slice(-4), [
    '',
    `Last check  answer, 1.25 ms, ${since}`,
    `edge-1  down since ${since}: HTTP status 503`,
    `edge-2  up since ${since}`,
  ]);
  assert.deepEqual(lines((await run('pools get web')).out).slice(2, 5), [
    '',
    'Health check  http:8080/healthz every 2 s, 3 bad take a backend out, 2 good bring it back, through the tunnel',
    'Fail open     more than half are down by their checks: all are kept in force',
  ]);
});

test('cli: pools put takes a check in one word, and its figures', async () => {
  const figures =
    '--health-interval 0.5 --health-timeout 0.2 --health-rise 1 --health-fall 5 --health-slow-start 0 --health-via tunnel';
  for (const [flags, body] of [
    ['--health-check tcp', { healthCheck: { type: 'tcp' } }],
    ['--health-check http:8080/healthz', { healthCheck: { type: 'http', port: 8080, path: '/healthz' } }],
    [
      '--health-check https/ok --when-all-down closed',
      { healthCheck: { type: 'https', path: '/ok' }, whenAllDown: 'closed' },
    ],
    [
      `--health-check udp:53 ${figures}`,
      {
        healthCheck: {
          ...{ type: 'udp', port: 53, interval: 0.5, timeout: 0.2, rise: 1, fall: 5, slowStart: 0, via: 'tunnel' },
        },
      },
    ],
  ] as const) {
    const { code, err } = await run(`pools put web --backend b1=10.0.0.1 ${flags}`);
    assert.equal(code, 0, err);
    assert.deepEqual(server.seen.at(-1)?.body, { backends: [{ name: 'b1', address: '10.0.0.1' }], ...body });
  }
  for (const flags of ['--health-check ping', '--health-check http:0', '--health-interval 2s', '--health-fall 0']) {
    const { code, err } = await run(`pools put web ${flags}`);
    assert.deepEqual([code, err.includes(flags.split(' ')[0] as string)], [2, true], err);
  }
});
