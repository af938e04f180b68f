// SPDX-License-Identifier: Apache-2.0
// Nodes and announced VIPs as the API and the command line show them.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { statusLines } from '../../src/cli/status-view.js';
import type { NodeInfo } from '../../src/model/node-view.js';
import { nodeStatus } from '../support/api-answers.js';
import { type ApiServer, problem, startApiServer } from '../support/api-server.js';
import { cli } from '../support/cli.js';
import { setup } from './api-setup.js';

const ring = (digest: string) => ({ digest, generation: 3, without: [], asWanted: true });

const node = (name: string, more: Partial<NodeInfo> = {}): NodeInfo => ({
  ...{ name, self: false, state: 'ok', detail: null, host: 'rack-1', version: '1.2.3' },
  ...{ startedAt: '2026-11-29T00:00:00.000Z', revision: 12, appliedRevision: 12, error: null, ready: true },
  ...{ notReady: [], announcing: 2, rings: { web: ring('00000000000000aa'), api: ring('00000000000000bb') } },
  ...more,
});

const nodes: readonly NodeInfo[] = [
  node('edge-1', { self: true }),
  node('edge-2', {
    ...{ state: 'differs', detail: 'the ring of pool "web" is odd', ready: false, announcing: 0 },
    rings: { web: { ...ring('00000000000000ac'), without: ['b1'], asWanted: false }, api: ring('00000000000000bb') },
  }),
];

let server: ApiServer;
before(async () => {
  server = await startApiServer({
    'GET /api/v1/nodes?limit=1000': { body: { items: nodes, nextCursor: null } },
    'GET /api/v1/nodes/edge-2': { body: nodes[1] },
    'GET /api/v1/nodes/edge-9': problem(404, 'not-found', 'there is no node "edge-9"'),
  });
});
after(() => server.close());

const fairlead = (...args: readonly string[]) => cli(['--socket', server.socket, ...args]);

test('cli nodes: a table of all, with one digest for all rings of each', async () => {
  const { out, code } = await fairlead('nodes', 'ls');
  assert.equal(code, 0);
  assert.deepEqual(out.split('\n'), [
    'NAME      STATE    READY  APPLIED  VIPS  RINGS        HOST    VERSION  WHY',
    'edge-1 *  ok       yes         12     2  2, 0000174f  rack-1  1.2.3',
    'edge-2    differs  no          12     0  2, 00001751  rack-1  1.2.3    the ring of pool "web" is odd',
    '',
  ]);
  assert.deepEqual(JSON.parse((await fairlead('nodes', 'ls', '-o', 'json')).out).items, nodes);
});

test('cli nodes get: one with its rings; another name is refused', async () => {
  const { out } = await fairlead('nodes', 'get', 'edge-2');
  assert.match(out, /^State +differs: the ring of pool "web" is odd$/m);
  assert.match(out, /^ {2}web +00000000000000ac +3 +no +b1$/m);
  const missing = await fairlead('nodes', 'get', 'edge-9');
  assert.deepEqual([missing.code, missing.err], [4, 'fairlead: there is no node "edge-9"\n']);
});

test('cli status: VIPs with the reason of each that is not announced', () => {
  const vips = [
    { address: '192.0.2.10', announced: true, detail: null },
    { address: '192.0.2.11', announced: false, detail: 'no backend of its services is up' },
  ];
  const style = { width: null, headers: true, colours: false };
  const lines = statusLines({ ...nodeStatus, announce: { table: 200, vips } }, style, 0);
  assert.deepEqual(lines.slice(-3), [
    'VIPs, table 200',
    '  192.0.2.10  announced',
    '  192.0.2.11  not announced: no backend of its services is up',
  ]);
});

test('api nodes: pages by name, one by its name, and none of another', async (t) => {
  const { call, node: double } = setup(t);
  double.nodes = async () => nodes;
  const first = (await call('GET', '/api/v1/nodes?limit=1')).json();
  assert.deepEqual(first.items, [nodes[0]]);
  const second = (await call('GET', `/api/v1/nodes?limit=1&cursor=${first.nextCursor}`)).json();
  assert.deepEqual([second.items, second.nextCursor], [[nodes[1]], null]);
  assert.deepEqual((await call('GET', '/api/v1/nodes/edge-2')).json(), nodes[1]);
  const missing = await call('GET', '/api/v1/nodes/edge-9');
  assert.deepEqual([missing.statusCode, missing.json().detail], [404, 'there is no node "edge-9"']);
});
