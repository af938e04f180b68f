// SPDX-License-Identifier: Apache-2.0

import { changesOf } from '../../src/model/effect.js';
import { FairleadError } from '../../src/model/errors.js';
import type {
  FlowQuery,
  FlowView,
  NodeInfo,
  NodeStatus,
  NodeView,
  PoolStatus,
  ServiceStatus,
} from '../../src/model/node-view.js';
import type { Snapshot } from '../../src/model/objects.js';
import type { Topology } from '../../src/model/topology.js';

/** A node without a kernel: knows what a test tells it, applies at once unless `stuck`, has room for `rooms` services. */
export interface NodeDouble extends NodeView {
  ready: boolean;
  stuck: boolean;
  rooms: number;
  readonly known: {
    readonly services: Map<string, ServiceStatus>;
    readonly pools: Map<string, PoolStatus>;
    flows: FlowView[];
  };
  readonly asked: {
    flows: FlowQuery | null;
    applied: number | null;
    admitted: Snapshot | null;
  };
}

export function nodeDouble(): NodeDouble {
  const node: NodeDouble = {
    ready: true,
    stuck: false,
    rooms: 4096,
    known: { services: new Map(), pools: new Map(), flows: [] },
    asked: { flows: null, applied: null, admitted: null },
    status: async () => ({
      ...nodeStatus,
      ready: node.ready,
      notReady: node.ready ? [] : ['eth0 is not attached', 'the store was not read'],
    }),
    service: async (name) => node.known.services.get(name) ?? null,
    pool: async (name) => node.known.pools.get(name) ?? null,
    async flows(query) {
      node.asked.flows = query;
      return { items: node.known.flows, last: null };
    },
    drops: async () => [{ service: null, reason: 'malformed', packets: 3 }],
    nodes: async () => [nodeShown],
    async applied(revision) {
      node.asked.applied = revision;
      if (node.stuck) throw new FairleadError('unavailable', 'pool "web" has no room');
    },
    effect: async (before, next) => ({
      changes: changesOf(before, next),
      rows: { total: 0, moved: 0 },
      flows: { live: 0, moved: 0, onMovedRows: 0 },
      pools: [],
    }),
    topology: async () => emptyTopology,
    metrics: async () => ({ contentType: 'text/plain; version=0.0.4; charset=utf-8', text: 'fairlead_up 1\n' }),
    admit(next) {
      node.asked.admitted = next;
      if (next.services.size > node.rooms) throw new FairleadError('full', `the service table holds ${node.rooms}`);
    },
  };
  return node;
}

/** As the registry shows this one. */
const nodeShown: NodeInfo = {
  ...{ name: 'edge-1', self: true, state: 'ok', detail: null, host: 'edge-1.example', version: '1.2.3' },
  ...{ startedAt: '2026-11-25T00:00:00Z', revision: 3, appliedRevision: 3, error: null, ready: true, notReady: [] },
  announcing: 2,
  rings: { web: { digest: '0123456789abcdef', generation: 1, without: ['b2'], asWanted: true } },
};

const emptyTopology: Topology = {
  at: '2026-11-25T00:00:00Z',
  intervalSeconds: 1,
  servicesLeftOut: 0,
  clients: [],
  services: [],
  backends: [],
  clientEdges: [],
  backendEdges: [],
};

const nodeStatus: NodeStatus = {
  node: 'edge-1',
  version: '9.8.7',
  startedAt: '2026-11-25T00:00:00Z',
  ready: true,
  notReady: [],
  warnings: [],
  store: { kind: 'memory', revision: 0, connected: true, detail: null, skipped: [] },
  appliedRevision: 0,
  lastError: null,
  interfaces: [],
  flowTable: { capacity: 1, entries: 0, misses: 0, inserts: 0, evictions: 0, overBudget: 0, bucketFull: 0 },
};
