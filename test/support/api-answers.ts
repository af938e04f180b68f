// SPDX-License-Identifier: Apache-2.0
import type { BackendStatus, FlowView, NodeStatus } from '../../src/model/node-view.js';
import type { Given } from './api-server.js';

/** When the recorded answers were given; ages count to here. */
export const recordedAt = Date.parse('2026-11-25T04:00:00Z');

const status = (share: number, flows: number, mac: string | null): BackendStatus => ({
  shareWanted: share,
  shareReal: share,
  health: { state: 'off', since: null, lastError: null, lastCheck: null, nodes: {} },
  flows,
  packets: flows * 1001,
  bytes: flows * 1_500_000,
  connections: flows * 3,
  nextHop: { state: mac === null ? 'unresolved' : 'resolved', interface: mac === null ? null : 'eth0', mac },
});

const statuses = { b1: status(0.6667, 20, '02:00:00:00:00:11'), b2: status(0.3333, 11, null) };

export const webService = {
  name: 'web',
  address: '192.0.2.10',
  port: 80,
  protocol: 'tcp',
  pool: 'web',
  forwarding: 'ipip',
  affinity: 'flow',
  revision: 7,
  status: { flows: 31, packets: 31_031, bytes: 46_500_000, connections: 93, appliedRevision: 7 },
};

const dnsService = {
  ...webService,
  name: 'dns',
  address: '2001:db8::53',
  port: 53,
  protocol: 'udp',
  pool: 'resolvers-of-the-office',
  revision: 8,
  status: null,
};

/** As the API answers it today: the status of the backends by name. */
export const webPool = {
  name: 'web',
  backends: [
    { name: 'b1', address: '10.0.0.1', weight: 100, state: 'active' },
    { name: 'b2', address: '10.0.0.2', weight: 50, state: 'drain' },
  ],
  ring: { size: 0 },
  revision: 6,
  status: { ringRows: 251, ring: null, appliedRevision: 7, backends: statuses },
};

export const webB1 = { ...webPool.backends[0], revision: 6, status: statuses.b1 };

export const flow: FlowView = {
  service: 'web',
  backend: 'b1',
  protocol: 'tcp',
  client: '[2001:db8:1234:5678::7]:40000',
  vip: '192.0.2.10:80',
  packets: 12,
  bytes: 1536,
  state: 'established',
  firstSeen: recordedAt - 192_000,
  lastSeen: recordedAt - 1_500,
  handshakeNs: 120_000,
};

export const natFlow: FlowView = {
  ...flow,
  service: 'app',
  client: '192.0.2.7:40000',
  handshakeNs: null,
  nat: {
    source: '10.9.0.10:1024',
    destination: '10.9.0.21:8080',
    replyPackets: 9,
    replyBytes: 1500,
    handshake: { backendNs: 19_000, clientNs: null },
  },
};

export const nodeStatus: NodeStatus & { readonly warnings: readonly string[] } = {
  node: 'edge-1',
  version: '0.1.0',
  startedAt: '2026-11-25T00:30:00Z',
  ready: false,
  notReady: ['eth1 is not attached'],
  warnings: ['eth1 has generic XDP: its driver cannot do native'],
  store: { kind: 'file', revision: 8, connected: true, detail: null, skipped: [] },
  appliedRevision: 7,
  lastError: 'pool "web" has no room',
  interfaces: [
    {
      name: 'eth0',
      mode: 'native',
      program: 'xdp_lb',
      tag: 'a04f5eef06a7f555',
      packets: { tx: 31_031, redirect: 0, pass: 12, drop: 3, aborted: 0 },
    },
  ],
  flowTable: {
    capacity: 262_144,
    entries: 31,
    misses: 40,
    inserts: 31,
    evictions: 0,
    overBudget: 2,
    bucketFull: 1,
  },
};

/** What a node with two services and a pool answers. */
export const answers: Readonly<Record<string, Given>> = {
  'GET /api/v1/services?limit=1000': { body: { items: [webService], nextCursor: 'd2Vi' } },
  'GET /api/v1/services?limit=1000&cursor=d2Vi': { body: { items: [dnsService], nextCursor: null } },
  'GET /api/v1/services/web': { headers: { etag: '"7"' }, body: webService },
  'GET /api/v1/pools?limit=1000': { body: { items: [webPool], nextCursor: null } },
  'GET /api/v1/pools/web': { headers: { etag: '"6"' }, body: webPool },
  'GET /api/v1/pools/web/backends/b1': { headers: { etag: '"6"' }, body: webB1 },
  'GET /api/v1/flows?sort=bytes&limit=50': { body: { items: [flow] } },
  'GET /api/v1/drops': { body: { items: [{ service: null, reason: 'malformed', packets: 3 }] } },
  'GET /api/v1/status': { body: nodeStatus },
  'GET /api/v1/version': { body: { version: '0.1.0', api: 'v1' } },
};
