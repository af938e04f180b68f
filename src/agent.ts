// SPDX-License-Identifier: Apache-2.0
// Puts the parts of the agent on a backend together; nothing else does.
import { hostname } from 'node:os';
import { type Agent, openAgent } from './agent/agent.js';
import { loadAgentConfig } from './agent/config.js';
import { serveMetrics } from './agent/metrics.js';
import { version } from './cli/version.js';
import { managerOf } from './controlplane/systemd.js';
import { openLog, stopped } from './process.js';

/**
 * `fairlead agent`: runs until SIGINT or SIGTERM. What the kernel was given stays there: packets are taken in without it, too. The listener is open
 * before the kernel is touched: a port in use changes nothing.
 */
export async function runAgent(path: string | null): Promise<number> {
  const config = loadAgentConfig(path);
  const log = openLog();
  const end = stopped();
  const manager = managerOf(process.env, (line) => log.warn(line));
  let agent: Agent | null = null;
  const source = { version, node: hostname(), results: () => agent?.results() ?? null };
  const metrics = config.listen === null ? null : await serveMetrics(config.listen, source);
  try {
    agent = await openAgent(config);
    for (const warning of agent.warnings) log.warn(warning);
    for (const { name, mode, tag, adopted } of agent.interfaces)
      log.info({ interface: name, mode, tag }, adopted ? 'programs replaced' : 'programs attached');
    const { added, removed } = agent.vips;
    if (added.length > 0) log.info({ addresses: added }, 'put on lo');
    if (removed.length > 0) log.info({ addresses: removed }, 'taken off lo');
    log.info({ metrics: config.listen }, 'taking tunnel packets in');
    manager.ready();
    log.info({ signal: await untilStopped(end) }, 'stopping; programs and addresses stay');
  } finally {
    manager.stopping();
    agent?.close();
    await metrics?.close();
  }
  return 0;
}

/** Waiting for a signal does not keep a process alive: a timer does. */
async function untilStopped(end: Promise<string>): Promise<string> {
  const timer = setInterval(() => undefined, 2 ** 30);
  try {
    return await end;
  } finally {
    clearInterval(timer);
  }
}
