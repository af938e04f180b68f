// SPDX-License-Identifier: Apache-2.0
// What is answered, for /openapi.json: nothing here is checked when it is sent. test/unit/openapi.test.ts holds the answers to it.
import { type TSchema, Type } from '../model/check.js';

const count = Type.Integer({ minimum: 0 });
const text = Type.String();
const name = Type.String();
const orNull = (schema: TSchema): TSchema => Type.Union([schema, Type.Null()]);
const share = Type.Number({ minimum: 0, maximum: 1 });
const oneOf = (...values: string[]): TSchema => Type.Enum(values);
const traffic = { packets: count, bytes: count, connections: count };

const health = Type.Object({
  state: oneOf('up', 'down', 'unknown', 'off'),
  since: orNull(text),
  slowStart: Type.Optional(share),
  lastError: orNull(text),
  lastCheck: orNull(
    Type.Object({ at: text, result: oneOf('ok', 'timeout', 'error', 'answer'), latencyMs: Type.Number() }),
  ),
  nodes: Type.Record(Type.String(), Type.Object({ state: oneOf('up', 'down'), since: text, detail: text })),
});

const BackendStatus = Type.Object({
  shareWanted: share,
  shareReal: share,
  health,
  flows: count,
  drain: Type.Optional(
    Type.Object({
      flowsLeft: count,
      ages: orNull(Type.Object({ youngest: Type.Number(), median: Type.Number(), oldest: Type.Number() })),
      etaSeconds: Type.Number(),
      done: Type.Boolean(),
    }),
  ),
  ...traffic,
  nextHop: Type.Object({
    state: oneOf('resolved', 'unresolved', 'off_link'),
    interface: orNull(text),
    mac: orNull(text),
  }),
});

/** What the node knows of an object, by kind. */
export const Statuses = {
  service: Type.Object({ flows: count, ...traffic, appliedRevision: Type.Integer() }),
  pool: Type.Object({
    backends: Type.Record(Type.String(), BackendStatus),
    failOpen: Type.Boolean(),
    ringRows: count,
    ring: orNull(Type.Object({ generation: count, inTransition: count, deferred: count })),
    appliedRevision: Type.Integer(),
  }),
  backend: BackendStatus,
} as const;

export const EventAnswer = Type.Object({
  id: count,
  at: Type.String({ description: 'RFC 3339, UTC' }),
  type: text,
  severity: oneOf('info', 'warning', 'error'),
  object: orNull(Type.String({ description: 'path below /api/v1; null: the node' })),
  message: text,
  data: Type.Optional(Type.Record(Type.String(), Type.Unknown())),
});

const rows = Type.Object({ total: count, moved: count });
const flows = Type.Object({
  live: count,
  moved: Type.Integer({ minimum: 0, description: 'they lose their backend or their service' }),
  onMovedRows: Type.Integer({
    minimum: 0,
    description: 'estimated: their row moves; they stay where they are while their record is kept',
  }),
});
const changes = Type.Array(
  Type.Object({ kind: oneOf('service', 'pool'), name, action: oneOf('create', 'change', 'delete') }),
);

export const EffectAnswer = Type.Object(
  {
    changes,
    rows,
    flows,
    pools: Type.Array(
      Type.Object({
        name,
        rows,
        flows,
        backends: Type.Array(Type.Object({ name, rowsBefore: count, rowsAfter: count })),
      }),
    ),
  },
  { description: 'with dryRun: what would come of it, on this node' },
);

export const ChangesAnswer = Type.Object({
  revision: Type.Integer(),
  changes,
  effect: Type.Optional(EffectAnswer),
});

export const FlowAnswer = Type.Object({
  service: orNull(name),
  backend: orNull(name),
  protocol: orNull(oneOf('tcp', 'udp')),
  client: text,
  vip: text,
  packets: count,
  bytes: count,
  state: oneOf('new', 'established', 'closing', 'closed'),
  firstSeen: Type.Number({ description: 'Unix ms' }),
  lastSeen: Type.Number({ description: 'Unix ms' }),
  handshakeNs: orNull(Type.Number()),
  nat: Type.Optional(
    Type.Object({
      source: text,
      destination: text,
      replyPackets: count,
      replyBytes: count,
      handshake: Type.Object({ backendNs: orNull(Type.Number()), clientNs: orNull(Type.Number()) }),
    }),
  ),
});

export const DropAnswer = Type.Object({ service: orNull(name), reason: text, packets: count });

export const StatusAnswer = Type.Object({
  node: text,
  version: text,
  startedAt: text,
  ready: Type.Boolean(),
  notReady: Type.Array(text),
  warnings: Type.Array(text),
  store: Type.Object({
    kind: text,
    revision: Type.Integer(),
    connected: Type.Boolean(),
    detail: orNull(text),
    skipped: Type.Array(Type.Object({ key: text, revision: Type.Integer(), detail: text })),
  }),
  appliedRevision: Type.Integer(),
  lastError: orNull(text),
  interfaces: Type.Array(
    Type.Object({
      name,
      mode: oneOf('native', 'generic'),
      program: text,
      tag: text,
      packets: Type.Record(Type.String(), count),
    }),
  ),
  flowTable: Type.Object({
    capacity: count,
    entries: count,
    misses: count,
    inserts: count,
    evictions: count,
    overBudget: count,
    bucketFull: count,
  }),
  nat: Type.Optional(
    Type.Object({
      capacity: count,
      entries: count,
      programs: Type.Array(Type.Object({ interface: name, program: text, tag: text })),
    }),
  ),
});

export const VersionAnswer = Type.Object({ version: text, api: text });

const carried = { flows: count, packetsPerSecond: Type.Number(), bytesPerSecond: Type.Number() };
const counted = { ...carried, connections: count, connectionsPerSecond: Type.Number() };

export const TopologyAnswer = Type.Object({
  at: text,
  intervalSeconds: Type.Number(),
  servicesLeftOut: count,
  clients: Type.Array(Type.Object({ id: text, prefix: orNull(text), prefixes: count, ...carried })),
  services: Type.Array(
    Type.Object({
      ...{ name, address: text, port: count, protocol: text, forwarding: text, pool: name },
      ...counted,
    }),
  ),
  backends: Type.Array(Type.Object({ pool: name, name, address: text, state: text, ...counted })),
  clientEdges: Type.Array(Type.Object({ client: text, service: name, ...carried })),
  backendEdges: Type.Array(Type.Object({ service: name, pool: name, backend: name, ...counted })),
});
