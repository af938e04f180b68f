// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { Validator } from '@seriousme/openapi-schema-validator';
import { callOperation, operationsOf } from '../support/api-client.js';
import { type OpenApi, openApi } from '../support/open-api.js';
import { webPool, wwwService } from './api-setup.js';

async function withDocument(t: TestContext) {
  const api = await openApi(t);
  const { body } = await api.ask('GET', '/openapi.json');
  return { ...api, document: body as { paths: object; openapi: string }, operations: operationsOf(body) };
}

test('openapi: the document is OpenAPI 3.1', async (t) => {
  const { document } = await withDocument(t);
  const { valid, errors } = await new Validator().validate(structuredClone(document));
  assert.ok(valid, JSON.stringify(errors));
  const broken = structuredClone(document) as Record<string, unknown>;
  broken.paths = { '/x': { get: { responses: 7 } } };
  assert.equal((await new Validator().validate(broken)).valid, false, 'the validator can refuse');
});

/** What makes each operation succeed, after the ones before it. */
const story: readonly (readonly [id: string, status: number, given?: Parameters<typeof callOperation>[2]])[] = [
  ['putConfiguration', 200, { body: { pools: [{ name: 'web', ...webPool }], services: [] } }],
  ['putConfiguration', 200, { body: { pools: [] }, query: { dryRun: 'true' } }],
  ['getConfiguration', 200],
  ['createPool', 201, { body: {} }],
  ['createPool', 200, { body: {}, query: { dryRun: 'true' } }],
  ['putPool', 201, { path: { name: 'p2' }, body: webPool, headers: { 'if-none-match': '*' } }],
  ['putPool', 200, { path: { name: 'p2' }, body: webPool }],
  ['patchPool', 200, { path: { name: 'p2' }, body: { holdSeconds: 5 } }],
  ['patchPool', 200, { path: { name: 'p2' }, body: { holdSeconds: null } }],
  ['getPool', 200, { path: { name: 'p2' } }],
  ['listPools', 200, { query: { limit: '1' } }],
  ['putBackend', 201, { path: { pool: 'p2', name: 'b9' }, body: { address: '10.0.0.9' } }],
  ['patchBackend', 200, { path: { pool: 'p2', name: 'b9' }, body: { weight: 3 }, query: { wait: 'applied' } }],
  ['getBackend', 200, { path: { pool: 'p2', name: 'b9' } }],
  ['drainBackend', 200, { path: { pool: 'p2', name: 'b9' } }],
  ['drainBackend', 200, { path: { pool: 'p2', name: 'b9' }, body: { deadlineSeconds: 9 } }],
  ['undrainBackend', 200, { path: { pool: 'p2', name: 'b9' }, query: { dryRun: 'true' } }],
  ['undrainBackend', 200, { path: { pool: 'p2', name: 'b9' } }],
  ['deleteBackend', 200, { path: { pool: 'p2', name: 'b9' }, query: { dryRun: 'true' } }],
  ['deleteBackend', 204, { path: { pool: 'p2', name: 'b9' } }],
  ['createService', 201, { body: { ...wwwService, name: 'www' } }],
  ['putService', 200, { path: { name: 'www' }, body: { ...wwwService, port: 81 } }],
  ['patchService', 200, { path: { name: 'www' }, body: { rateLimit: { packetsPerSecond: 5 } } }],
  ['patchService', 400, { path: { name: 'www' }, body: { port: 'x' } }],
  ['patchService', 412, { path: { name: 'www' }, body: {}, headers: { 'if-match': '"1"' } }],
  ['createService', 409, { body: { ...wwwService, name: 'www', port: 82 } }],
  ['getService', 200, { path: { name: 'www' } }],
  ['getService', 404, { path: { name: 'none' } }],
  ['listServices', 200],
  ['deleteService', 204, { path: { name: 'www' }, headers: { 'if-match': '*' } }],
  ['deletePool', 204, { path: { name: 'p2' } }],
  ['listFlows', 200],
  ['listDrops', 200],
  ['getTopology', 200, { query: { clients: '5' } }],
  ['listEvents', 200, { query: { limit: '2' } }],
  ['listNodes', 200],
  ['getNode', 200, { path: { name: 'edge-1' } }],
  ['getStatus', 200],
  ['getVersion', 200],
  ['getAgentKey', 200],
  ['getLivez', 200],
  ['getReadyz', 200],
  ['getMetrics', 200],
];

test('openapi: a client made from the document alone calls every operation, and every answer is as documented', async (t) => {
  const { ask, operations, events, node } = await withDocument(t);
  fill(node);
  events.emit({ type: 't.t', severity: 'info', object: null, message: 'm', data: { n: 1 } });
  const json: typeof ask = (method, path, body, headers) =>
    ask(method, path, body, { accept: 'application/json', ...headers });
  for (const [id, status, given] of story) {
    const operation = operations.get(id);
    assert.ok(operation, `${id} is in the document`);
    const reply = await callOperation(json, operation, given);
    assert.equal(reply.status, status, `${id}: ${JSON.stringify(reply.body)}`);
  }
  const called = new Set(story.map(([id]) => id));
  assert.deepEqual(
    [...operations.keys()].filter((id) => !called.has(id)),
    [],
    'every operation is called',
  );
});

/** A node that knows something of all there is. */
function fill({ known }: OpenApi['node']): void {
  const traffic = { flows: 1, packets: 2, bytes: 3, connections: 1 };
  const nextHop = { state: 'resolved', interface: 'eth0', mac: '02:00:00:00:00:01' } as const;
  const since = '2026-11-29T08:00:00.000Z';
  const health = {
    state: 'down',
    since,
    slowStart: 0.25,
    lastError: 'HTTP status 503',
    lastCheck: { at: since, result: 'answer', latencyMs: 1.5 },
    nodes: { 'edge-1': { state: 'down', since, detail: 'HTTP status 503' } },
  } as const;
  const backend = { shareWanted: 0.5, shareReal: 0.25, health, ...traffic, nextHop };
  const drain = { flowsLeft: 1, ages: { youngest: 1, median: 2.5, oldest: 3 }, etaSeconds: 4, done: false };
  known.services.set('www', { ...traffic, appliedRevision: 3 });
  known.pools.set('p2', {
    backends: new Map([['b9', { ...backend, drain }]]),
    ...{ failOpen: false, ringRows: 251, ring: { generation: 1, inTransition: 0, deferred: 0 }, appliedRevision: 3 },
  });
  known.flows.push({
    ...{ service: 'www', backend: null, protocol: 'tcp', client: '192.0.2.7:4', vip: '192.0.2.1:80' },
    ...{ packets: 1, bytes: 2, state: 'new', firstSeen: 1, lastSeen: 2, handshakeNs: 0.5 },
    nat: {
      ...{ source: '192.0.2.9:1', destination: '10.0.0.1:2', replyPackets: 1, replyBytes: 1 },
      handshake: { backendNs: null, clientNs: 7 },
    },
  });
}
