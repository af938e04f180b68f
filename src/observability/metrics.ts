// SPDX-License-Identifier: Apache-2.0
// The families of the balancer. They read the kernel when they are scraped; nothing is counted twice.
import { slices } from '../controlplane/slices.js';
import type { StoreState } from '../controlplane/store.js';
import type { TrafficReader } from '../dataplane/counters.js';
import type { EventLog } from '../model/events.js';
import type { DropCount, NodeInfo, NodeStatus, ServiceStatus } from '../model/node-view.js';
import type { Service, Snapshot } from '../model/objects.js';
import { counter, type Exposition, type Family, gauge, one, openExposition, type Sample } from './exposition.js';
import type { NodeFacts } from './facts.js';
import { healthFamilies } from './health-view.js';

async function serviceFamilies(facts: NodeFacts, snapshot: Snapshot, read: TrafficReader): Promise<Family[]> {
  const rows: { readonly value: Service; readonly status: ServiceStatus | null }[] = [];
  const pause = slices();
  for (const { value } of snapshot.services.values()) {
    rows.push({ value, status: await facts.service(value.name, read) });
    await pause();
  }
  const of = (
    pick: (status: { packets: number; bytes: number; connections: number; flows: number }) => number,
  ): Sample[] =>
    rows.map(({ value, status }) => ({ labels: { service: value.name }, value: status ? pick(status) : 0 }));
  return [
    gauge(
      'service_info',
      'A service and what it listens on; always 1.',
      rows.map(({ value: s }) => ({
        labels: { service: s.name, address: s.address, port: String(s.port), protocol: s.protocol, pool: s.pool },
        value: 1,
      })),
    ),
    counter(
      'service_packets_total',
      'Packets forwarded for the service.',
      of((s) => s.packets),
    ),
    counter(
      'service_bytes_total',
      'IP bytes forwarded for the service, before encapsulation.',
      of((s) => s.bytes),
    ),
    counter(
      'service_connections_total',
      'Flows begun: TCP by SYN, UDP by first packet.',
      of((s) => s.connections),
    ),
    gauge(
      'service_flows',
      'Live flows.',
      of((s) => s.flows),
    ),
  ];
}

async function backendFamilies(facts: NodeFacts, snapshot: Snapshot, read: TrafficReader): Promise<Family[]> {
  const pause = slices();
  const traffic = { packets: [] as Sample[], bytes: [] as Sample[], connections: [] as Sample[] };
  for (const { value: service } of snapshot.services.values()) {
    for (const backend of snapshot.pools.get(service.pool)?.value.backends ?? []) {
      const labels = { service: service.name, pool: service.pool, backend: backend.name };
      const counts = facts.traffic(service.name, backend, read);
      for (const name of Object.keys(traffic) as (keyof typeof traffic)[])
        traffic[name].push({ labels, value: counts[name] });
    }
    await pause();
  }
  const info: Sample[] = [];
  const flows: Sample[] = [];
  const weight: Sample[] = [];
  const share: Sample[] = [];
  const state: Sample[] = [];
  const inTransition: Sample[] = [];
  const deferred: Sample[] = [];
  const hops = { resolved: 0, unresolved: 0, off_link: 0 };
  for (const { value: pool } of snapshot.pools.values()) {
    const status = await facts.pool(pool.name, read);
    inTransition.push({ labels: { pool: pool.name }, value: status?.ring?.inTransition ?? 0 });
    deferred.push({ labels: { pool: pool.name }, value: status?.ring?.deferred ?? 0 });
    await pause();
    for (const backend of pool.backends) {
      const labels = { pool: pool.name, backend: backend.name };
      const seen = status?.backends.get(backend.name);
      info.push({ labels: { ...labels, address: backend.address }, value: 1 });
      flows.push({ labels, value: seen?.flows ?? 0 });
      weight.push({ labels, value: backend.weight });
      share.push({ labels, value: seen?.shareReal ?? 0 });
      const now = seen?.health.state === 'down' && !status?.failOpen ? 'down' : backend.state;
      for (const name of ['active', 'drain', 'disabled', ...(pool.healthCheck ? ['down'] : [])]) {
        state.push({ labels: { ...labels, state: name }, value: now === name ? 1 : 0 });
      }
      hops[seen?.nextHop.state ?? 'unresolved']++;
    }
  }
  return [
    gauge('backend_info', 'A backend of a pool; always 1.', info),
    counter('backend_packets_total', 'Packets of the service forwarded to the backend.', traffic.packets),
    counter('backend_bytes_total', 'IP bytes of the service forwarded to the backend.', traffic.bytes),
    counter('backend_connections_total', 'Flows of the service begun on the backend.', traffic.connections),
    gauge('backend_flows', 'Live flows of the backend.', flows),
    gauge('backend_weight', 'Configured weight, 0 to 256.', weight),
    gauge('backend_ring_share', 'Share of the ring rows the backend has in the kernel, 0 to 1.', share),
    gauge('ring_rows_in_transition', 'Rows that had another owner within the hold time.', inTransition),
    gauge('ring_rows_deferred', 'Rows that wait to move: they hold three previous owners.', deferred),
    gauge('backend_state', 'As configured, or down by its checks: 1 on the one it is in.', state),
    gauge(
      'next_hops',
      'Backends by whether their next hop is known, or is a router where forwarding l2 needs none.',
      Object.entries(hops).map(([state, value]) => ({ labels: { state }, value })),
    ),
  ];
}

/** What is done beside forwarding: ICMP, QUIC connection IDs, fragments. */
async function specialFamilies(facts: NodeFacts): Promise<Family[]> {
  const outcomes = facts.outcomes();
  const tallies = await facts.tallies();
  // A series per service and kind only where there was one: most services have none.
  const kinds = (prefix: string, of: Readonly<Record<string, string>>): Sample[] =>
    tallies.flatMap(({ service, tally, packets }) => {
      const kind = of[tally.slice(prefix.length)];
      return packets > 0 && tally.startsWith(prefix) && kind ? [{ labels: { service, kind }, value: packets }] : [];
    });
  const carried = tallies.reduce((all, { tally, packets }) => all + (tally === 'icmp_error' ? packets : 0), 0);
  return [
    counter('icmp_total', 'ICMP to a VIP by what became of it, and answers to packets too big for the tunnel.', [
      { labels: { kind: 'error_carried' }, value: carried },
      ...['echo_answered', 'too_big_answered', 'icmp_limited', 'icmp_unknown'].map((reason) => ({
        labels: { kind: reason.replace('icmp_', '') },
        value: outcomes.get(reason) ?? 0,
      })),
    ]),
    counter(
      'quic_total',
      'Packets of services with affinity quic-cid, by what their connection ID told.',
      kinds('quic_', { routed: 'routed', initial: 'initial', unknown: 'unknown' }),
    ),
    counter(
      'fragments_total',
      'Fragments after the first: sent where that went (known), or before it came (early).',
      kinds('fragment', { '': 'known', _early: 'early' }),
    ),
  ];
}

function natFamilies({ nat }: NodeStatus, snapshot: Snapshot, drops: readonly DropCount[]): Family[] {
  const services = [...snapshot.services.values()].filter(({ value }) => value.forwarding === 'nat');
  return [
    gauge('nat_entries', 'Connections of NAT, those just ended included.', one(nat?.entries ?? 0)),
    gauge('nat_capacity', 'Connections there is room for; 0 while no service has wanted any.', one(nat?.capacity ?? 0)),
    counter(
      'nat_port_exhausted_total',
      'Connections that were not begun because the addresses of snat had no port left.',
      services.map(({ value: { name } }) => ({
        labels: { service: name },
        value: drops.find(({ service, reason }) => service === name && reason === 'nat_ports')?.packets ?? 0,
      })),
    ),
  ];
}

function storeFamilies({ connected, relists, skipped }: StoreState): Family[] {
  return [
    gauge('store_connected', '1 while the store can be reached, and what it holds is taken.', one(connected ? 1 : 0)),
    counter(
      'store_relists_total',
      'How often everything was read anew from etcd.',
      [...relists].map(([reason, value]) => ({ labels: { reason }, value })),
    ),
    gauge('store_documents_skipped', 'Documents not in force for what is wrong with them.', one(skipped.length)),
  ];
}

function clusterFamilies(nodes: readonly NodeInfo[], { announce }: NodeStatus, repairs: number): Family[] {
  const states = ['ok', 'behind', 'differs', 'unreadable'] as const;
  return [
    gauge(
      'nodes',
      'Nodes of the cluster, by how they are found to be; see GET /api/v1/nodes.',
      states.map((state) => ({ labels: { state }, value: nodes.filter((each) => each.state === state).length })),
    ),
    gauge(
      'node_state',
      'How this node is found to be: 1 on the one it is.',
      states.slice(0, 3).map((state) => ({
        labels: { state },
        value: nodes.some((each) => each.self && each.state === state) ? 1 : 0,
      })),
    ),
    counter(
      'ring_repairs_total',
      'Rounds that found a ring in the kernel other than it had been written.',
      one(repairs),
    ),
    gauge(
      'vip_announced',
      'VIPs with a route in the table of announce.table: 1; those without: 0.',
      (announce?.vips ?? []).map(({ address, announced }) => ({ labels: { address }, value: announced ? 1 : 0 })),
    ),
  ];
}

async function nodeFamilies(facts: NodeFacts): Promise<Family[]> {
  const status = await facts.status();
  const drops = await facts.drops();
  const { misses, evictions, capacity, entries } = status.flowTable;
  const lookups = facts.lookups();
  return [
    gauge('build_info', 'Version of the running daemon; always 1.', [
      { labels: { version: status.version, node: status.node }, value: 1 },
    ]),
    counter(
      'packets_total',
      'Packets received, by what became of them.',
      status.interfaces.flatMap(({ name, packets }) =>
        Object.entries(packets).map(([action, value]) => ({ labels: { interface: name, action }, value })),
      ),
    ),
    counter(
      'drops_total',
      'Packets to a VIP that were not forwarded, by reason; service "" when none was known.',
      drops.map(({ service, reason, packets }) => ({
        labels: { service: service ?? '', reason },
        value: packets,
      })),
    ),
    ...(await specialFamilies(facts)),
    gauge('flow_table_entries', 'Records in the flow table, all CPUs.', one(entries)),
    gauge('flow_table_capacity', 'Records the flow table has room for, all CPUs.', one(capacity)),
    counter('flow_table_hits_total', 'Packets whose flow was known.', one(Math.max(0, lookups - misses))),
    counter('flow_table_misses_total', 'Packets whose flow was not known: the ring decided.', one(misses)),
    counter('flow_table_evictions_total', 'Flows that made room for a new one.', one(evictions)),
    ...natFamilies(status, facts.state().snapshot, drops),
    gauge('config_revision', 'Newest revision of the store.', one(status.store.revision)),
    gauge('config_applied_revision', 'Revision the kernel holds.', one(status.appliedRevision)),
    gauge(
      'config_apply_seconds',
      'How long the last change took to reach the kernel.',
      one(facts.state().lastChangeMs / 1000),
    ),
    ...storeFamilies(facts.storeState()),
    ...clusterFamilies(await facts.nodes(), status, facts.state().repairs.count),
    gauge(
      'bpf_program_info',
      'The programs on each interface; always 1.',
      [
        ...status.interfaces.map(({ name, program, mode, tag }) => ({ program, interface: name, mode, tag })),
        ...(status.nat?.programs ?? []).map(({ interface: name, program, mode, tag }) => ({
          ...{ program, interface: name, mode, tag },
        })),
      ].map((labels) => ({ labels, value: 1 })),
    ),
  ];
}

function eventFamilies(events: EventLog): Family[] {
  const { byType, dropped } = events.counts();
  return [
    counter(
      'events_total',
      'Events told, by type.',
      [...byType].map(([type, value]) => ({ labels: { type }, value })),
    ),
    counter(
      'events_lost_total',
      'Events that made room for newer ones: who has not read them cannot any more.',
      one(dropped),
    ),
  ];
}

/** Gives the text for /metrics. */
export function openMetrics(facts: NodeFacts, events: EventLog): () => Promise<Exposition> {
  return openExposition(async () => {
    const { snapshot } = facts.state();
    const read = await facts.allTraffic();
    const checks = facts.checks();
    return [
      ...(await nodeFamilies(facts)),
      ...eventFamilies(events),
      ...(await serviceFamilies(facts, snapshot, read)),
      ...(await backendFamilies(facts, snapshot, read)),
      ...(checks ? healthFamilies(checks) : []),
    ];
  });
}
