// SPDX-License-Identifier: Apache-2.0
// The service map: sums over flows and counters, and their growth from one look to the next.
import { setTimeout as pause } from 'node:timers/promises';
import type { Applied } from '../controlplane/reconciler.js';
import { slices } from '../controlplane/slices.js';
import { Family } from '../dataplane/abi.gen.js';
import type { Traffic } from '../dataplane/counters.js';
import { eachFlow, type FlowTotal } from '../dataplane/flow-totals.js';
import type { Maps } from '../dataplane/maps.js';
import type { NatTables } from '../dataplane/nat.js';
import { formatAddress } from '../model/address.js';
import type { Service } from '../model/objects.js';
import type { Carried, Counted, Topology, TopologyQuery } from '../model/topology.js';
import { LIVE_IDLE_MS } from './census.js';
import type { NodeFacts } from './facts.js';
import { namesOf } from './flow-view.js';

/** Over how long rates are taken when there was no look before, and between which ages an earlier look serves. */
const INTERVAL_MS = 1000;
const STALE_MS = 60_000;
/** Looks kept, one for each pair of prefix lengths asked for. */
const LOOKS_MAX = 4;

interface Sum {
  flows: number;
  packets: number;
  bytes: number;
}

/** Everything at one moment. */
interface Look {
  readonly at: number; // performance.now()
  /** By service name; within it by client prefix, and by backend name. */
  readonly clients: ReadonlyMap<string, ReadonlyMap<string, Sum>>;
  readonly backends: ReadonlyMap<string, ReadonlyMap<string, Traffic & { readonly flows: number }>>;
  readonly services: ReadonlyMap<string, Traffic & { readonly flows: number }>;
}

const NOTHING = { flows: 0, packets: 0, bytes: 0, connections: 0 };

/** The client's prefix: `192.0.2.0/24`. */
function prefixText({ family, source, at }: FlowTotal, prefix4: number, prefix6: number): string {
  const isV4 = family === Family.IPV4;
  const bits = isV4 ? prefix4 : prefix6;
  const bytes = source.slice(at, at + (isV4 ? 4 : 16));
  for (let byte = 0; byte < bytes.length; byte++)
    bytes[byte] = (bytes[byte] ?? 0) & (0xff00 >> Math.min(8, Math.max(0, bits - byte * 8)));
  return `${formatAddress(bytes)}/${bits}`;
}

function inner<K, V>(outer: Map<K, Map<string, V>>, key: K): Map<string, V> {
  const known = outer.get(key) ?? new Map<string, V>();
  outer.set(key, known);
  return known;
}

function addTo(sums: Map<string, Sum>, key: string, { isLive, packets, bytes }: FlowTotal): void {
  const sum = sums.get(key) ?? { flows: 0, packets: 0, bytes: 0 };
  if (sum.packets === 0 && sum.flows === 0) sums.set(key, sum);
  sum.packets += packets;
  sum.bytes += bytes;
  if (isLive) sum.flows++;
}

/** What the node carries, for GET /topology. Each look at all flows costs as much as GET /flows. */
export function topologyOf(
  maps: Maps,
  nat: () => NatTables | null,
  state: () => Applied,
  facts: Pick<NodeFacts, 'allTraffic' | 'service' | 'traffic'>,
): (query: TopologyQuery) => Promise<Topology> {
  const looks = new Map<string, Look>();

  async function look({ prefix4, prefix6 }: TopologyQuery): Promise<Look> {
    const applied = state();
    const names = namesOf(applied);
    const clients = new Map<string, Map<string, Sum>>();
    const flowsOn = new Map<string, Map<string, Sum>>();
    await eachFlow(maps, LIVE_IDLE_MS, nat(), (flow) => {
      const service = names.services.get(flow.service)?.name;
      if (service === undefined) return; // it is gone, or the flow is egress
      addTo(inner(clients, service), prefixText(flow, prefix4, prefix6), flow);
      addTo(inner(flowsOn, service), names.backends.get(flow.backend) ?? '', flow);
    });
    const at = performance.now();
    const read = await facts.allTraffic();
    const services = new Map<string, Traffic & { flows: number }>();
    const backends = new Map<string, Map<string, Traffic & { flows: number }>>();
    const turn = slices();
    for (const { value: service } of applied.snapshot.services.values()) {
      const counted = await facts.service(service.name, read);
      services.set(service.name, counted ?? NOTHING);
      for (const backend of applied.snapshot.pools.get(service.pool)?.value.backends ?? []) {
        const flows = flowsOn.get(service.name)?.get(backend.name)?.flows ?? 0;
        const traffic = facts.traffic(service.name, backend, read);
        inner(backends, service.name).set(backend.name, { ...traffic, flows });
      }
      await turn();
    }
    return { at, clients, backends, services };
  }

  async function pair(query: TopologyQuery): Promise<readonly [Look, Look]> {
    const key = `${query.prefix4}/${query.prefix6}`;
    let before = looks.get(key);
    const age = before === undefined ? Number.POSITIVE_INFINITY : performance.now() - before.at;
    if (before === undefined || age > STALE_MS) before = await look(query);
    const missing = INTERVAL_MS - (performance.now() - before.at);
    if (missing > 0) await pause(missing);
    const now = await look(query);
    looks.delete(key);
    looks.set(key, now);
    for (const old of looks.keys()) if (looks.size > LOOKS_MAX) looks.delete(old);
    return [before, now];
  }

  return async (query) => {
    const [before, now] = await pair(query);
    return draw(query, before, now, state());
  };
}

function draw(query: TopologyQuery, before: Look, now: Look, { snapshot }: Applied): Topology {
  const seconds = (now.at - before.at) / 1000;
  const rate = (after = 0, first = after): number => Math.round((Math.max(0, after - first) / seconds) * 10) / 10;
  const carried = (is: Sum, was: Sum | undefined): Carried => ({
    flows: is.flows,
    packetsPerSecond: rate(is.packets, was?.packets),
    bytesPerSecond: rate(is.bytes, was?.bytes),
  });
  const counted = (is: Traffic & Sum, was: (Traffic & Sum) | undefined): Counted => ({
    ...carried(is, was),
    connections: is.connections,
    connectionsPerSecond: rate(is.connections, was?.connections),
  });
  const chosen = [...snapshot.services.values()]
    .map(({ value }) => value)
    .filter(({ name }) => query.service === undefined || name === query.service)
    .sort((a, b) => flowsOf(now, b) - flowsOf(now, a) || (a.name < b.name ? -1 : 1));
  const services = chosen.slice(0, query.services);

  const byPrefix = new Map<string, Sum>();
  for (const { name } of services) for (const [prefix, sum] of now.clients.get(name) ?? []) add(byPrefix, prefix, sum);
  const ranked = [...byPrefix].sort(([a, x], [b, y]) => y.flows - x.flows || y.packets - x.packets || (a < b ? -1 : 1));
  const shown = new Set(ranked.slice(0, query.clients).map(([prefix]) => prefix));
  const idOf = (prefix: string): string => (shown.has(prefix) ? prefix : OTHER);
  const edges = (of: Look, name: string): Map<string, Sum> => {
    const sums = new Map<string, Sum>();
    for (const [prefix, sum] of of.clients.get(name) ?? []) add(sums, idOf(prefix), sum);
    return sums;
  };
  const clientEdges = services.flatMap(({ name }) => {
    const was = edges(before, name);
    return [...edges(now, name)].map(([client, sum]) => ({
      client,
      service: name,
      ...carried(sum, was.get(client) ?? { flows: 0, packets: 0, bytes: 0 }),
    }));
  });
  const backendEdges = services.flatMap(({ name, pool }) =>
    [...(now.backends.get(name) ?? [])].map(([backend, sum]) => ({
      ...{ service: name, pool, backend },
      ...counted(sum, before.backends.get(name)?.get(backend)),
    })),
  );
  const total = (parts: readonly Carried[]): Carried => ({
    flows: parts.reduce((sum, each) => sum + each.flows, 0),
    packetsPerSecond: parts.reduce((sum, each) => sum + each.packetsPerSecond, 0),
    bytesPerSecond: parts.reduce((sum, each) => sum + each.bytesPerSecond, 0),
  });
  const hidden = byPrefix.size - shown.size;
  const ofClient = grouped(clientEdges, ({ client }) => client);
  const ofBackend = grouped(backendEdges, ({ pool, backend }) => `${pool}/${backend}`);
  return {
    at: new Date().toISOString(),
    intervalSeconds: Math.round(seconds * 1000) / 1000,
    servicesLeftOut: chosen.length - services.length,
    clients: [...shown, ...(hidden > 0 ? [OTHER] : [])].map((id) => ({
      id,
      prefix: id === OTHER ? null : id,
      prefixes: id === OTHER ? hidden : 1,
      ...total(ofClient.get(id) ?? []),
    })),
    services: services.map(({ name, address, port, protocol, forwarding, pool }) => ({
      ...{ name, address, port, protocol, forwarding, pool },
      ...counted(now.services.get(name) ?? NOTHING, before.services.get(name)),
    })),
    backends: [...new Set(services.map(({ pool }) => pool))].flatMap((pool) =>
      (snapshot.pools.get(pool)?.value.backends ?? []).map(({ name, address, state }) => {
        const parts = ofBackend.get(`${pool}/${name}`) ?? [];
        return {
          ...{ pool, name, address, state, ...total(parts) },
          connections: parts.reduce((sum, each) => sum + each.connections, 0),
          connectionsPerSecond: parts.reduce((sum, each) => sum + each.connectionsPerSecond, 0),
        };
      }),
    ),
    clientEdges,
    backendEdges,
  };
}

function grouped<T>(items: readonly T[], keyOf: (item: T) => string): ReadonlyMap<string, readonly T[]> {
  const groups = new Map<string, T[]>();
  for (const item of items) {
    const group = groups.get(keyOf(item));
    if (group) group.push(item);
    else groups.set(keyOf(item), [item]);
  }
  return groups;
}

const OTHER = 'other';
const flowsOf = ({ services }: Look, { name }: Service): number => services.get(name)?.flows ?? 0;

function add(sums: Map<string, Sum>, key: string, { flows, packets, bytes }: Sum): void {
  const known = sums.get(key);
  if (!known) {
    sums.set(key, { flows, packets, bytes });
    return;
  }
  known.flows += flows;
  known.packets += packets;
  known.bytes += bytes;
}
