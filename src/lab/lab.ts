// SPDX-License-Identifier: Apache-2.0
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { type ErrorCode, FairleadError } from '../model/errors.js';
import { type LabOptions, openBase } from './base.js';
import { announceTable, openBird } from './bird.js';
import { type DaemonOptions, type Lab, type LabDaemon, startDaemon } from './daemon.js';
import { type Driver, startDriver } from './drive.js';
import { startEtcd } from './etcd.js';
import { appliedEverywhere, readAllPools } from './everywhere.js';
import { allServices, labHealthCheck, putObjects } from './objects.js';
import { runScenario } from './scenario.js';
import { openScreen, type Screen } from './screen.js';
import { fired, stopSignal } from './stop.js';
import { renderServices, renderTable, renderTotals } from './table.js';
import { type LabStatus, labStatus } from './teardown.js';
import type { LabBalancer } from './topology.js';
import { attachAgents, attachPass } from './xdp.js';

export type { LabOptions } from './base.js';
export type { Lab } from './daemon.js';
export { type LabStatus, labDown, labStatus } from './teardown.js';

/** `once`: run the scenario and end; otherwise traffic runs until the process is told to stop. */
export interface LabRunOptions extends LabOptions {
  readonly once: boolean;
}

/** How the process that holds a lab in the background tells that it stands, or why it does not. */
export type HoldMessage = { readonly ready: true } | { readonly code: ErrorCode; readonly message: string };

const watchRate = 200; // requests a second

/** Brings up everything but traffic. Throws as openBase and startDaemon do; then nothing stays behind. */
export async function openLab(options: LabOptions, signal: AbortSignal, say: (line: string) => void): Promise<Lab> {
  const base = await openBase(options, signal);
  try {
    const pass = await attachPass(base.topology);
    base.onClose(() => pass.close());
    const [first, ...others] = base.topology.balancers;
    const etcd = options.store === 'etcd' ? await startEtcd(base.topology, base.directory, signal) : null;
    if (etcd) base.onClose(() => etcd.close());
    const own = {
      ...(etcd && { etcd: etcd.endpoint }),
      ...(options.bgp && { announce: announceTable }),
    };
    const start = async (balancer: LabBalancer, directory: string, more: DaemonOptions): Promise<LabDaemon> => {
      const daemon = await startDaemon(balancer, directory, more, signal, say);
      base.onClose(() => daemon.stop());
      return daemon;
    };
    const daemon = await start(first, base.directory, own);
    const daemons = [daemon];
    for (const balancer of others) {
      const directory = `${base.directory}/${balancer.name}`;
      mkdirSync(directory);
      const follow = etcd === null ? { follow: `${base.directory}/state.json` } : {};
      daemons.push(await start(balancer, directory, { ...own, ...follow }));
    }
    const { key } = (await daemon.api('GET', '/api/v1/agent-key')) as { readonly key: string };
    const agents = await attachAgents(base.topology, Buffer.from(key, 'hex'));
    base.onClose(() => agents.close());
    await putObjects(daemon.api, base.topology, allServices(base.topology), labHealthCheck(base.topology));
    const bird = options.bgp ? await openBird(base.topology, base.directory) : null;
    if (bird) base.onClose(() => bird.close());
    const lab = { ...base, daemon, daemons, agents, bird, etcd };
    await appliedEverywhere(lab);
    await bird?.until(daemons.length, 30_000, signal);
    return lab;
  } catch (error) {
    await base.close();
    throw error;
  }
}

/**
 * `fairlead lab run`: the lab, traffic and a table on stdout until the process is told to stop, or once through the
 * scenario. Takes everything down again. Resolves with the exit code: 0; with `once`, 1 when a check failed and 130 when interrupted.
 * Call it once per process: it takes over its signals.
 */
export async function labRun({ once: onlyOnce, ...options }: LabRunOptions): Promise<number> {
  const signal = stopSignal(true);
  const screen = openScreen(process.stdout);
  try {
    const lab = await openLab(options, signal, screen.say);
    try {
      const driver = await startDriver(lab.topology, allServices(lab.topology));
      lab.onClose(() => driver.stop());
      for (const line of header(lab)) screen.say(line);
      if (onlyOnce) return (await runScenario(lab, driver, signal, screen.say)) ? 0 : 1;
      await watch(lab, driver, screen, signal);
      return 0;
    } finally {
      await lab.close();
    }
  } catch (error) {
    if (error === signal.reason) return onlyOnce ? 130 : 0;
    throw error;
  }
}

/** `fairlead lab up`: the lab without traffic, held by a process in the background until labDown. Throws as openLab does. */
export async function labUp(options: LabOptions): Promise<LabStatus> {
  const child = fork(fileURLToPath(new URL('hold.js', import.meta.url)), [JSON.stringify(options)], {
    detached: true,
    cwd: '/',
    stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
  });
  const ended = once(child, 'exit').then(([code, killer]) => {
    throw new FairleadError(
      'unavailable',
      `start lab "${options.name}": its process ended (${killer ?? `exit ${code}`})`,
    );
  });
  const [message] = (await Promise.race([once(child, 'message'), ended])) as [HoldMessage];
  ended.catch(() => {}); // from here on its end is labDown's business
  if ('code' in message) throw new FairleadError(message.code, message.message);
  child.disconnect();
  child.unref();
  return labStatus(options.name);
}

/** Traffic, and the table kept current, until the signal. */
async function watch(lab: Lab, driver: Driver, screen: Screen, signal: AbortSignal): Promise<void> {
  const services = allServices(lab.topology);
  let pools: Awaited<ReturnType<typeof readAllPools>> = {};
  let wanted = '';
  let changes = 0;
  while (!signal.aborted) {
    const read = await Promise.race([readAllPools(lab).catch(() => null), fired(signal)]);
    pools = read ?? pools; // while the daemon is being started again: as it was
    const shares = JSON.stringify(Object.values(pools).map((views) => views.map(({ status }) => status.shareWanted)));
    // The share got is counted anew from each change of the shares wanted.
    if (shares !== wanted) driver.command({ kind: 'run', phase: `${++changes}`, rate: watchRate, count: null });
    wanted = shares;
    const now = { report: driver.report(), pools, phase: `${changes}` };
    screen.draw([
      ...renderTable(now, services),
      '',
      ...renderServices(now.report, services),
      ...renderTotals(now.report),
    ]);
    await pause(screen.redraws ? 1_000 : 5_000, undefined, { signal }).catch(() => {}); // the signal ends the loop
  }
}

function header({ topology, daemon, directory, bird, etcd }: Lab): readonly string[] {
  const { name, client, router, balancers, backends, vip4, vip6, natPort } = topology;
  const curl = `curl --unix-socket ${daemon.socket} http://fairlead`;
  return [
    `lab "${name}": client, router, ${balancers.length === 1 ? 'balancer' : `${balancers.length} balancers`}, ${backends.length} backends; VIPs ${vip4} and ${vip6}`,
    `API      ${curl}/api/v1/pools`,
    `metrics  ${curl}/metrics`,
    `try      ip netns exec ${client} curl http://${vip4}/, or by NAT http://${vip4}:${natPort}/`,
    ...(etcd === null ? [] : [`etcd     ip netns exec ${router} etcdctl --endpoints ${etcd.endpoint} get --prefix /`]),
    ...(bird === null ? [] : [`BGP      birdc -s ${directory}/bird/router/bird.ctl show protocols`]),
    `break    ip netns pids ${backends[0]?.namespace} | xargs kill -STOP   (-CONT mends it)`,
    `log      ${directory}/daemon.log`,
    `stop     Ctrl-C, or: fairlead lab down --name ${name}`,
    '',
  ];
}
