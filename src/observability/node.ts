// SPDX-License-Identifier: Apache-2.0
// The running node as the API and the metrics see it.
import { timeOfDay } from '../controlplane/clock.js';
import type { Cluster } from '../controlplane/cluster.js';
import { isReachable, onLinkPools, wantedShares } from '../controlplane/desired.js';
import type { Health } from '../controlplane/health/health.js';
import { servicesByPool } from '../controlplane/health/subjects.js';
import { once, serviceKeyId } from '../controlplane/kernel-state.js';
import { assignNumbers, copyNumbering } from '../controlplane/numbering.js';
import type { Reconciler } from '../controlplane/reconciler.js';
import { limitsOf } from '../controlplane/reconciler.js';
import { logOf } from '../controlplane/ring-log.js';
import { admitSettings } from '../controlplane/settings.js';
import { sourceWarnings } from '../controlplane/source-warnings.js';
import type { Store, StoreState } from '../controlplane/store.js';
import { Reason, Tally } from '../dataplane/abi.gen.js';
import {
  readAllTraffic,
  readFlowTableStats,
  readOutcomes,
  readServiceOutcomes,
  readTallies,
  readTraffic,
  type Traffic,
  type TrafficReader,
} from '../dataplane/counters.js';
import type { Dataplane } from '../dataplane/dataplane.js';
import { actionOf, REASON_NAMES } from '../dataplane/reasons.js';
import { readRingRef, readRingRows, rowsOwned } from '../dataplane/tables.js';
import { FairleadError } from '../model/errors.js';
import type {
  AnnounceStatus,
  BackendStatus,
  DropCount,
  NodeInfo,
  NodeStatus,
  PoolStatus,
  ServiceStatus,
} from '../model/node-view.js';
import type { Backend, Pool, Snapshot } from '../model/objects.js';
import { censusOf } from './census.js';
import { drainStatus } from './drains.js';
import { effectOf } from './effect.js';
import type { NodeFacts, TallyCount } from './facts.js';
import { queryFlows } from './flow-view.js';
import { backendHealth } from './health-view.js';
import { natDrops, natStatus } from './nat-view.js';
import { topologyOf } from './topology.js';

export interface NodeIdentity {
  readonly name: string;
  readonly version: string;
  readonly startedAt: Date;
  /** Families for which it has no address that outer headers could come from. */
  readonly noSource?: readonly (4 | 6)[];
}

const sum = (parts: readonly Traffic[]): Traffic => ({
  packets: parts.reduce((total, part) => total + part.packets, 0),
  bytes: parts.reduce((total, part) => total + part.bytes, 0),
  connections: parts.reduce((total, part) => total + part.connections, 0),
});

const macText = (mac: Uint8Array): string => [...mac].map((byte) => byte.toString(16).padStart(2, '0')).join(':');

/** Skipped documents in a status. */
const SHOWN = 100;

function storeWarnings({ detail, skipped }: StoreState): string[] {
  const [first] = skipped;
  const rest = skipped.length > 1 ? ` (and ${skipped.length - 1} more)` : '';
  return [
    ...(detail === null ? [] : [`the store is not connected: ${detail}`]),
    ...(first ? [`document "${first.key}" is not in force: ${first.detail}${rest}`] : []),
  ];
}

/** What of the other nodes an operator should know. */
const nodeWarnings = (nodes: readonly NodeInfo[]): string[] =>
  nodes
    .filter(({ self, state }) => !self && state !== 'ok')
    .map(({ name, state, detail }) => `node "${name}" (${state}): ${detail}`);

/** A node that knows of no others. */
const ALONE: Pick<Cluster, 'nodes' | 'notReady'> = { nodes: () => [], notReady: () => [] };

/** What a packet of a known service may end in. */
const LOOKED_UP: readonly number[] = [
  Reason.FORWARDED,
  Reason.REDIRECTED,
  Reason.SPLIT,
  Reason.NO_BACKEND,
  Reason.TOO_BIG_ANSWERED,
  Reason.TOO_BIG,
  Reason.NO_HEADROOM,
];

export function nodeFacts(
  identity: NodeIdentity,
  dataplane: Omit<Dataplane, 'attached'>,
  reconciler: Reconciler,
  store: Store,
  cluster: Pick<Cluster, 'nodes' | 'notReady'> = ALONE,
  announced: () => AnnounceStatus | null = () => null,
  health: Health | null = null,
): NodeFacts {
  const { maps, interfaces } = dataplane;
  const census = censusOf(maps, dataplane.nat);
  const limits = limitsOf(maps);
  const onLinkOf = once(onLinkPools);
  const byPool = once(servicesByPool);
  const noSource = once((snapshot: Snapshot) => sourceWarnings(snapshot, identity.noSource ?? []));

  function numbersOf(serviceName: string) {
    const { snapshot, numbering } = reconciler.state();
    const service = snapshot.services.get(serviceName)?.value;
    return service ? (numbering.services.get(serviceKeyId(service)) ?? null) : null;
  }

  const now: TrafficReader = (index) => readTraffic(maps, index);

  function traffic(serviceName: string, backend: Backend, read = now): Traffic {
    const { snapshot, numbering } = reconciler.state();
    const pool = snapshot.services.get(serviceName)?.value.pool ?? '';
    const slot = numbering.pools.get(pool)?.members.get(backend.address)?.slot;
    const start = numbersOf(serviceName)?.countersStart;
    if (slot === undefined || start === undefined) return { packets: 0, bytes: 0, connections: 0 };
    return read(start + slot);
  }

  async function service(name: string, read = now): Promise<ServiceStatus | null> {
    const numbers = numbersOf(name);
    if (!numbers) return null;
    const parts = Array.from({ length: numbers.counters }, (_, slot) => read(numbers.countersStart + slot));
    return {
      ...sum(parts),
      flows: (await census()).byService[numbers.number] ?? 0,
      appliedRevision: reconciler.state().revision,
    };
  }

  /** Rows by backend number, as the kernel has them. */
  function rowsOf(poolNumber: number): { readonly rows: number; readonly owned: ReadonlyMap<number, number> } {
    const ref = readRingRef(maps, poolNumber);
    return { rows: ref.rows, owned: rowsOwned(readRingRows(maps, ref)) };
  }

  async function backendStatus(
    pool: Pool,
    services: readonly string[],
    flows: Uint32Array,
    read: TrafficReader,
  ): Promise<Map<string, BackendStatus>> {
    const { snapshot, numbering, hops } = reconciler.state();
    const numbers = numbering.pools.get(pool.name);
    const onLink = onLinkOf(snapshot).has(pool.name);
    const { rows, owned } = numbers ? rowsOf(numbers.number) : { rows: 0, owned: new Map<number, number>() };
    const stored = snapshot.pools.get(pool.name);
    if (!stored) return new Map();
    const wanted = wantedShares(stored, hops, onLink);
    const found = new Map<string, BackendStatus>();
    for (const backend of pool.backends) {
      const number = numbers?.members.get(backend.address)?.number ?? 0;
      const hop = hops.get(backend.address) ?? null;
      const status: BackendStatus = {
        ...sum(services.map((name) => traffic(name, backend, read))),
        shareWanted: wanted.get(backend.name) ?? 0,
        shareReal: rows === 0 ? 0 : (owned.get(number) ?? 0) / rows,
        health: backendHealth(stored, backend.name, health?.backend(pool.name, backend.name)),
        flows: flows[number] ?? 0,
        ...(backend.state === 'drain'
          ? { drain: await drainStatus(maps, dataplane.nat(), backend, number, flows[number] ?? 0, timeOfDay()) }
          : {}),
        nextHop: {
          state: hop === null ? 'unresolved' : isReachable(hop, onLink) ? 'resolved' : 'off_link',
          interface: hop?.interfaceName ?? null,
          mac: hop && macText(hop.mac),
        },
      };
      found.set(backend.name, status);
    }
    return found;
  }

  async function pool(name: string, read = now): Promise<PoolStatus | null> {
    const { snapshot, numbering, revision, rings } = reconciler.state();
    const ring = rings.get(name);
    const value = snapshot.pools.get(name)?.value;
    const numbers = numbering.pools.get(name);
    if (!value || !numbers) return null;
    const services = (byPool(snapshot).get(name) ?? []).map((each) => each.name);
    const { byBackend } = await census();
    return {
      failOpen: snapshot.pools.get(name)?.health?.failOpen ?? false,
      backends: await backendStatus(value, services, byBackend, read),
      ringRows: readRingRef(maps, numbers.number).rows,
      ring: ring
        ? { generation: ring.log.generation, inTransition: ring.view.inTransition, deferred: ring.view.deferred }
        : null,
      appliedRevision: revision,
    };
  }

  function actions(slot: number): Record<string, number> {
    const packets: Record<string, number> = { tx: 0, redirect: 0, pass: 0, drop: 0, aborted: 0 };
    for (const [reason, count] of readOutcomes(maps, slot).entries()) {
      const action = actionOf(reason);
      packets[action] = (packets[action] ?? 0) + count;
    }
    return packets;
  }

  function notReady(): string[] {
    const { revision, error } = reconciler.state();
    const reasons: string[] = [];
    if (revision < 0) reasons.push('the store has not been applied yet');
    if (error) reasons.push(error);
    return [...reasons, ...cluster.notReady()];
  }

  async function status(): Promise<NodeStatus> {
    const state = reconciler.state();
    const stats = readFlowTableStats(maps);
    const nat = dataplane.nat();
    const announce = announced();
    const { connected, detail, skipped } = store.state();
    return {
      node: identity.name,
      version: identity.version,
      startedAt: identity.startedAt.toISOString(),
      ready: notReady().length === 0,
      notReady: notReady(),
      warnings: [
        ...dataplane.warnings,
        ...noSource(state.snapshot),
        ...storeWarnings(store.state()),
        ...nodeWarnings(cluster.nodes()),
        ...(health?.warnings() ?? []),
      ],
      store: { kind: store.kind, revision: store.read().revision, connected, detail, skipped: skipped.slice(0, SHOWN) },
      appliedRevision: state.revision,
      lastError: state.error,
      interfaces: interfaces.map(({ name, mode, program, tag, slot }) => ({
        name,
        mode,
        program,
        tag,
        packets: actions(slot),
      })),
      flowTable: { capacity: maps.flowsPerCpu * maps.cpus, entries: (await census()).entries, ...stats },
      ...(nat && { nat: natStatus(nat) }),
      ...(announce && { announce }),
    };
  }

  async function drops(): Promise<DropCount[]> {
    const { snapshot } = reconciler.state();
    const names = new Map<number, string | null>([[0, null]]);
    for (const name of snapshot.services.keys()) names.set(numbersOf(name)?.number ?? 0, name);
    const counts = await readServiceOutcomes(maps);
    const found: DropCount[] = [];
    for (let at = 0; at < counts.length; at++) {
      const packets = counts[at] as number;
      if (packets === 0) continue; // most of a hundred thousand
      const number = Math.floor(at / Reason.COUNT);
      const name = number === 0 ? null : names.get(number);
      const reason = at % Reason.COUNT;
      if (name !== undefined && actionOf(reason) !== 'tx')
        found.push({ service: name, reason: REASON_NAMES[reason] ?? '', packets });
    }
    const nat = dataplane.nat();
    return nat ? [...found, ...(await natDrops(nat, names))] : found;
  }

  async function tallies(): Promise<TallyCount[]> {
    const counts = await readTallies(maps);
    const kinds = Object.entries(Tally).filter(([, tally]) => tally !== Tally.COUNT);
    const names = kinds.map(([name, tally]) => ({ name: name.toLowerCase(), tally }));
    return [...reconciler.state().snapshot.services.keys()].flatMap((service) => {
      const start = (numbersOf(service)?.number ?? 0) * Tally.COUNT;
      return names.map(({ name, tally }) => ({ service, tally: name, packets: counts[start + tally] ?? 0 }));
    });
  }

  return {
    status,
    service,
    pool,
    drops,
    nodes: async () => cluster.nodes(),
    tallies,
    outcomes: () => {
      const byInterface = interfaces.map(({ slot }) => readOutcomes(maps, slot));
      return new Map(
        REASON_NAMES.map((name, reason) => [name, byInterface.reduce((all, by) => all + (by[reason] ?? 0), 0)]),
      );
    },
    checks: () => health?.counts() ?? null,
    traffic,
    allTraffic: () => readAllTraffic(maps),
    state: () => reconciler.state(),
    storeState: () => store.state(),
    lookups: () =>
      interfaces
        .flatMap(({ slot }) => readOutcomes(maps, slot).filter((_, reason) => LOOKED_UP.includes(reason)))
        .reduce((total, packets) => total + packets, 0),
    flows: (query, after) => queryFlows(maps, dataplane.nat(), reconciler.state(), query, after),
    effect: async (before, next) => effectOf(maps, reconciler.state(), await census(), before, next),
    topology: topologyOf(maps, dataplane.nat, reconciler.state, {
      allTraffic: () => readAllTraffic(maps),
      service,
      traffic,
    }),
    applied: (revision, timeoutMs) => reconciler.applied(revision, timeoutMs),
    admit(next) {
      const { numbering, snapshot } = reconciler.state();
      assignNumbers(copyNumbering(numbering), next, limits);
      admitSettings(maps, snapshot, next);
      // The rings of deleted pools go last, and one is replaced beside the old: so the largest must fit once more.
      const pools = new Map([...snapshot.pools, ...next.pools]);
      const rings = [...pools.values()].map((pool) => (pool.value.backends.length > 0 ? logOf(pool).size : 0));
      const rows =
        rings.reduce((total, size) => total + size, 0) + rings.reduce((most, size) => Math.max(most, size), 0);
      if (rows > maps.ringRows.length) {
        const detail = `${rows} ring rows wanted, there is room for ${maps.ringRows.length}`;
        throw new FairleadError('full', `the node is full: ${detail}`, [{ pointer: '/ring/size', detail }]);
      }
    },
  };
}
