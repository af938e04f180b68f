// SPDX-License-Identifier: Apache-2.0
// Puts the parts of the node's daemon together; nothing else does.
import { networkInterfaces } from 'node:os';
import { setTimeout as pause } from 'node:timers/promises';
import { openAccess } from './api/access/access.js';
import { buildApi } from './api/app.js';
import { listenApi } from './api/listen.js';
import { version } from './cli/version.js';
import { type Announcer, openAnnouncer, removeElsewhere } from './controlplane/announce.js';
import { type Cluster, openCluster } from './controlplane/cluster.js';
import { type Config, loadConfig } from './controlplane/config.js';
import { clearDetaching, isDetaching } from './controlplane/detach.js';
import { runCheck } from './controlplane/health/checks.js';
import { openHealth } from './controlplane/health/health.js';
import { throughTunnel } from './controlplane/health/tunnel.js';
import { openNextHops } from './controlplane/next-hops.js';
import { backendNumber, type Reconciler, startReconciler } from './controlplane/reconciler.js';
import { featuresOf } from './controlplane/settings.js';
import { openShared, type Shared } from './controlplane/shared.js';
import { SOURCE_SETTING } from './controlplane/source-warnings.js';
import { managerOf } from './controlplane/systemd.js';
import { type Dataplane, type DataplaneConfig, openDataplane } from './dataplane/dataplane.js';
import { parseAddress } from './model/address.js';
import { FairleadError } from './model/errors.js';
import type { EventLog } from './model/events.js';
import type { NodeView } from './model/node-view.js';
import type { Snapshot } from './model/objects.js';
import { openEventLog } from './observability/event-log.js';
import { openMetrics } from './observability/metrics.js';
import { natServices } from './observability/nat-view.js';
import { openNatWatch, startNatWatch } from './observability/nat-watch.js';
import { nodeFacts } from './observability/node.js';
import { tellNode } from './observability/tell.js';
import { type Logger, logEvents, onHangup, openLog, stopped } from './process.js';

/** The address of a family on the first interface that has one, for want of a configured one. */
function ownAddress(config: Config, family: 'IPv4' | 'IPv6'): string | null {
  for (const { name } of config.interfaces) {
    const found = networkInterfaces()[name]?.find((info) => info.family === family && !info.address.startsWith('fe80'));
    if (found) return found.address;
  }
  return null;
}

const noSource = (family: 4 | 6): string =>
  `no IPv${family} address to send from: set ${SOURCE_SETTING[family]} before a tunnel leads to an IPv${family} backend`;

function dataplaneConfig(config: Config, snapshot: Snapshot, warn: (line: string) => void): DataplaneConfig {
  const source = config.tunnel.source ?? ownAddress(config, 'IPv4');
  const source6 = config.tunnel.source6 ?? ownAddress(config, 'IPv6');
  if (source === null) warn(noSource(4));
  if (source6 === null) warn(noSource(6));
  return {
    interfaces: config.interfaces,
    bpffs: config.bpffs,
    flowsPerCpu: config.flows.perCpu,
    newFlowsPerSecond: config.flows.newPerSecond,
    ringKey: Buffer.from(snapshot.hashKey, 'hex'),
    tunnelSource: parseAddress(source ?? '0.0.0.0').bytes,
    tunnelSource6: parseAddress(source6 ?? '::').bytes,
    tunnelMtu: config.tunnel.mtu,
    features: featuresOf(snapshot),
    nat: {
      connections: config.nat.connections,
      timeouts: config.nat.timeouts,
      prefix: parseAddress(config.nat.prefix).bytes.subarray(0, 12),
      egress: [...new Set(config.nat.egress.map((each) => each.interface))],
    },
  };
}

/** The node for the API, which answers before there is one: then everything but its store is 'unavailable'. */
function onceStarted(started: () => NodeView | null): NodeView {
  const node = (): NodeView => {
    const view = started();
    if (view === null) throw new FairleadError('unavailable', 'the node is starting');
    return view;
  };
  return {
    status: async () => node().status(),
    service: async (name) => node().service(name),
    pool: async (name) => node().pool(name),
    flows: async (query, after) => node().flows(query, after),
    drops: async () => node().drops(),
    nodes: async () => node().nodes(),
    effect: async (before, next) => node().effect(before, next),
    topology: async (query) => node().topology(query),
    applied: async (revision, timeoutMs) => node().applied(revision, timeoutMs),
    metrics: async () => node().metrics(),
    admit: (next) => node().admit(next),
  };
}

/** What announcing depends on. */
interface AnnouncingParts {
  readonly dataplane: Dataplane;
  readonly reconciler: Reconciler;
  readonly cluster: Cluster;
  readonly events: EventLog;
  readonly log: Logger;
  readonly onClose: OnClose;
}

/** Runs `close` of what was opened, the last first. */
type OnClose = (close: () => void | Promise<void>) => void;

/** Keeps a route for each VIP that is ready; null without a table. What runs before left there otherwise is taken away. */
async function startAnnouncing(
  { announce, bpffs }: Config,
  { dataplane, reconciler, cluster, events, log, onClose }: AnnouncingParts,
): Promise<Announcer | null> {
  clearDetaching(bpffs);
  const { table, onStop, drainSeconds } = announce;
  if (table === null) {
    await removeElsewhere(null);
    return null;
  }
  const announcer = openAnnouncer({
    table,
    reconciler,
    events,
    log,
    announcing: cluster.announcing,
    withheld: () => {
      if (isDetaching(bpffs)) return 'the programs are about to be detached';
      return dataplane.attached() ? cluster.standBack() : 'no program is attached';
    },
  });
  cluster.onChange(announcer.check);
  onClose(async () => {
    if (onStop === 'withdraw' && (await announcer.withdraw())) await pause(drainSeconds * 1000);
    await announcer.close();
  });
  return announcer;
}

/** Opens the packet path and keeps it equal to the store. */
async function startNode(
  config: Config,
  { store, presence, instance }: Shared,
  events: EventLog,
  log: Logger,
  onClose: OnClose,
): Promise<NodeView> {
  const settings = dataplaneConfig(config, store.read(), (line) => log.warn(line));
  const dataplane = await openDataplane(settings);
  onClose(() => dataplane.close());
  let warned = 0;
  const tell = (message: string): void => {
    log.warn(message);
    events.emit({ type: 'node.warning', severity: 'warning', object: null, message });
  };
  const warn = (): void => {
    for (; warned < dataplane.warnings.length; warned++) tell(dataplane.warnings[warned] ?? '');
  };
  warn();
  for (const { name, mode, tag, start } of dataplane.interfaces) {
    log.info({ interface: name, mode, tag }, `program ${start}`);
    const message = `interface "${name}": program ${tag} ${start}, ${mode} XDP`;
    events.emit({
      type: 'interface.attached',
      severity: 'info',
      object: null,
      message,
      data: { interface: name, mode, tag, start },
    });
  }
  const resolver = openNextHops();
  onClose(() => resolver.close());
  const tunnel = throughTunnel(runCheck, {
    openProbes: dataplane.openProbes,
    numberOf: (pool, address) => backendNumber(reconciler.state(), pool, address),
  });
  onClose(() => tunnel.close());
  const health = openHealth({ node: config.node, store, presence, events, log, run: tunnel.run });
  onClose(() => health.close());
  const reconciler = startReconciler(dataplane.maps, health.view, resolver, dataplane.setFeatures, {
    source: config.nat.source ?? ownAddress(config, 'IPv4'),
    source6: config.nat.source6 ?? ownAddress(config, 'IPv6'),
    egress: config.nat.egress,
  });
  onClose(() => reconciler.close());
  let lastError: string | null = null;
  reconciler.onRound(() => {
    const { error } = reconciler.state();
    if (error !== null && error !== lastError) log.error(error);
    lastError = error;
    warn(); // of NAT, which comes when a service wants it
  });
  onClose(startNatWatch(openNatWatch(dataplane.nat, () => natServices(reconciler.state()), events)));
  const missing = ([4, 6] as const).filter((family) =>
    settings[family === 4 ? 'tunnelSource' : 'tunnelSource6'].every((byte) => byte === 0),
  );
  const identity = { name: config.node, version, startedAt: new Date(), noSource: missing };
  const cluster = openCluster({
    ...identity,
    node: config.node,
    instance,
    presence,
    store,
    reconciler,
    maps: dataplane.maps,
    events,
  });
  onClose(() => cluster.close());
  const announcer = await startAnnouncing(config, { dataplane, reconciler, cluster, events, log, onClose });
  const facts = nodeFacts(identity, dataplane, reconciler, store, cluster, () => announcer?.status() ?? null, health);
  onClose(tellNode(events, store, reconciler, facts));
  return { ...facts, metrics: openMetrics(facts, events) };
}

/**
 * `fairlead serve`: runs until SIGINT or SIGTERM. What the kernel was given stays there: packets flow on without the daemon.
 * The store is read and the listeners are open before the kernel is touched: a damaged store, or another daemon, changes nothing.
 */
export async function serve(path: string | null, flags: Readonly<Record<string, string>>): Promise<number> {
  const config = loadConfig({ path, env: process.env, flags });
  const log = openLog();
  const events = openEventLog();
  logEvents(log, events, 'api.');
  events.emit({
    type: 'node.started',
    severity: 'info',
    object: null,
    message: `fairlead ${version} on node "${config.node}" begins`,
    data: { node: config.node, version },
  });
  const manager = managerOf(process.env, (line) => log.warn(line));
  const open: (() => void | Promise<void>)[] = [];
  const onClose: OnClose = (close) => void open.push(close);
  let node: NodeView | null = null;
  const access = await openAccess(config.api, events);
  onClose(access.close); // last: it is written down to the end
  const shared = await openShared(config.store, config.node, log, events);
  onClose(shared.close);
  onClose(onHangup(() => void access.reload()));
  const app = buildApi({ store: shared.store, events, node: onceStarted(() => node), access });
  try {
    await listenApi(app, config.api, access);
    node = await startNode(config, shared, events, log, onClose);
    log.info({ socket: config.api.socket, listen: config.api.listen }, 'serving');
    manager.ready();
    log.info({ signal: await stopped() }, 'stopping; programs and tables stay in the kernel');
  } finally {
    manager.stopping();
    await app.close(); // first: its routes use the rest
    for (let close = open.pop(); close; close = open.pop()) await close();
  }
  return 0;
}
