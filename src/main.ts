// SPDX-License-Identifier: Apache-2.0
// Puts the parts together; nothing else does.
import { networkInterfaces } from 'node:os';
import { pino } from 'pino';
import { buildApi } from './api/app.js';
import { listenApi } from './api/listen.js';
import { runCli } from './cli/run.js';
import { version } from './cli/version.js';
import { type Config, loadConfig } from './controlplane/config.js';
import { openFileStore } from './controlplane/file-store.js';
import { openNextHops } from './controlplane/next-hops.js';
import { startReconciler } from './controlplane/reconciler.js';
import { type DataplaneConfig, detachAll, openDataplane } from './dataplane/dataplane.js';
import { labDown, labRun, labStatus, labUp } from './lab/lab.js';
import { parseAddress } from './model/address.js';
import { openMetrics } from './observability/metrics.js';
import { nodeFacts } from './observability/node.js';

/** The address of a family on the first interface that has one, for want of a configured one. */
function ownAddress(config: Config, family: 'IPv4' | 'IPv6'): string | null {
  for (const { name } of config.interfaces) {
    const found = networkInterfaces()[name]?.find((info) => info.family === family && !info.address.startsWith('fe80'));
    if (found) return found.address;
  }
  return null;
}

function dataplaneConfig(config: Config, hashKey: string, warn: (line: string) => void): DataplaneConfig {
  const source = config.tunnel.source ?? ownAddress(config, 'IPv4');
  const source6 = config.tunnel.source6 ?? ownAddress(config, 'IPv6');
  if (source === null) warn('no IPv4 address to send from: set tunnel.source before making an IPv4 service');
  if (source6 === null) warn('no IPv6 address to send from: set tunnel.source6 before making an IPv6 service');
  return {
    interfaces: config.interfaces,
    bpffs: config.bpffs,
    flowsPerCpu: config.flows.perCpu,
    newFlowsPerSecond: config.flows.newPerSecond,
    ringKey: Buffer.from(hashKey, 'hex'),
    tunnelSource: parseAddress(source ?? '0.0.0.0').bytes,
    tunnelSource6: parseAddress(source6 ?? '::').bytes,
    tunnelMtu: config.tunnel.mtu,
  };
}

/** Resolves with the name of the signal that asks the daemon to stop. */
const stopped = (): Promise<string> =>
  new Promise((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => resolve(signal));
  });

/**
 * `fairlead serve`: runs until SIGINT or SIGTERM. What the kernel was given stays there: packets flow on without the daemon.
 * The store is read before the kernel is touched, so a damaged one changes nothing.
 */
async function serve(path: string | null, flags: Readonly<Record<string, string>>): Promise<number> {
  const config = loadConfig({ path, env: process.env, flags });
  const log = pino({ base: null });
  const store = await openFileStore(config.store.path);
  const dataplane = await openDataplane(dataplaneConfig(config, store.read().hashKey, (line) => log.warn(line))).catch(
    async (error: unknown) => {
      await store.close();
      throw error;
    },
  );
  for (const warning of dataplane.warnings) log.warn(warning);
  for (const { name, mode, tag, adopted } of dataplane.interfaces) {
    log.info({ interface: name, mode, tag }, adopted ? 'program replaced' : 'program attached');
  }
  const resolver = openNextHops();
  const reconciler = startReconciler(dataplane.maps, store, resolver);
  let lastError: string | null = null;
  reconciler.onRound(() => {
    const { error } = reconciler.state();
    if (error !== null && error !== lastError) log.error(error);
    lastError = error;
  });
  const facts = nodeFacts({ name: config.node, version, startedAt: new Date() }, dataplane, reconciler, store);
  const app = buildApi({ store, node: { ...facts, metrics: openMetrics(facts) } });
  try {
    await listenApi(app, config.api);
    log.info({ socket: config.api.socket, listen: config.api.listen }, 'serving');
    log.info({ signal: await stopped() }, 'stopping; programs and tables stay in the kernel');
  } finally {
    await app.close();
    await reconciler.close();
    resolver.close();
    await store.close();
    dataplane.close();
  }
  return 0;
}

process.exitCode = await runCli(process.argv.slice(2), {
  serve,
  detach: detachAll,
  lab: { up: labUp, down: labDown, run: labRun, status: labStatus },
});
