// SPDX-License-Identifier: Apache-2.0
import type { ChildProcess } from 'node:child_process';
import { closeSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { FairleadError, messageOf } from '../model/errors.js';
import { type Api, apiAt } from './api.js';
import type { LabBase } from './base.js';
import type { LabBird } from './bird.js';
import { spawnInside, stopChild } from './children.js';
import type { LabEtcd } from './etcd.js';
import { type LabBalancer, labInterface, labMtu } from './topology.js';
import type { LabAgents } from './xdp.js';

/** A balancer's daemon inside its namespace. */
export interface LabDaemon {
  readonly balancer: LabBalancer;
  readonly socket: string;
  readonly api: Api;
  /** Kills it with SIGKILL; it is started again. */
  kill(): void;
  /** How often it has ended by itself and was started again. */
  restarts(): number;
  stop(): Promise<void>;
}

/** A lab with the balancers at work in it, its pools and services in their kernels. */
export interface Lab extends LabBase {
  /** That of the first balancer, which writes the store. */
  readonly daemon: LabDaemon;
  /** All, in the order of the balancers. They share an etcd, or the others follow the first one's file. */
  readonly daemons: readonly LabDaemon[];
  /** With `bgp`. */
  readonly bird: LabBird | null;
  /** With the store in etcd. */
  readonly etcd: LabEtcd | null;
  readonly agents: LabAgents;
}

/** What daemons of a lab differ in. `follow`: the state file it follows, instead of writing one of its own; `etcd`: the endpoint it has its store at; `announce`: a table for the VIPs. */
export interface DaemonOptions {
  readonly follow?: string;
  readonly etcd?: string;
  readonly announce?: number;
}

/**
 * Starts `fairlead serve` in the balancer's namespace with its files in `directory`, and waits until it is ready.
 * From then on it is started again, after a second, whenever it ends by itself; `say` is told. Throws 'unavailable'
 * with the end of its log when it ends before it is ready, or is not ready within 30 s.
 */
export async function startDaemon(
  balancer: LabBalancer,
  directory: string,
  options: DaemonOptions,
  signal: AbortSignal,
  say: (line: string) => void,
): Promise<LabDaemon> {
  const socket = `${directory}/api.sock`;
  const log = `${directory}/daemon.log`;
  const api = apiAt(socket);
  writeFileSync(`${directory}/config.yaml`, daemonConfig(balancer, directory, options));
  let restarts = 0;
  let stopping: Promise<void> | null = null;
  let child = launch(balancer, directory, log);
  const stop = () => {
    stopping ??= stopChild(child, 3_000);
    return stopping;
  };
  const revive = (code: number | null, killer: string | null) => {
    if (stopping) return;
    restarts++;
    say(`the daemon ended (${killer ?? `exit ${code}`}); the kernel forwards on without it; starting it again`);
    setTimeout(() => {
      if (stopping) return;
      child = launch(balancer, directory, log).on('exit', revive);
    }, 1_000);
  };
  try {
    await untilReady(child, api, log, signal);
  } catch (error) {
    await stop();
    throw error;
  }
  child.on('exit', revive);
  return { balancer, socket, api, kill: () => void child.kill('SIGKILL'), restarts: () => restarts, stop };
}

/** The daemon's configuration in the lab. Its TCP listener is on the loopback of its own namespace. */
export function daemonConfig(
  balancer: LabBalancer,
  directory: string,
  { follow, etcd, announce }: DaemonOptions = {},
): string {
  const file = follow ? `type: file, path: ${follow}, follow: true` : `type: file, path: ${directory}/state.json`;
  const store = etcd ? `type: etcd, endpoints: ["${etcd}"], snapshot: ${directory}/snapshot.json` : file;
  const own = etcd ? `, path: ${directory}/state.json` : '';
  return `node: ${balancer.namespace}
interfaces:
  - { name: ${labInterface}, xdp: native }
store: { ${store}${own} }
${announce === undefined ? '' : `announce: { table: ${announce} }\n`}api:
  socket: ${directory}/api.sock
  listen: 127.0.0.1:7080
tunnel: { source: ${balancer.address4}, source6: "${balancer.address6}", mtu: ${labMtu} }
bpffs: ${directory}/bpf
`;
}

function launch(balancer: LabBalancer, directory: string, log: string): ChildProcess {
  const main = fileURLToPath(new URL('../main.js', import.meta.url));
  const output = openSync(log, 'a');
  const command = [process.execPath, main, 'serve', '--config', `${directory}/config.yaml`];
  const child = spawnInside(balancer.namespace, command, ['ignore', output, output]);
  closeSync(output);
  return child;
}

async function untilReady(child: ChildProcess, api: Api, log: string, signal: AbortSignal): Promise<void> {
  const deadline = Date.now() + 30_000;
  for (;;) {
    signal.throwIfAborted();
    const why = await api('GET', '/readyz').then(() => null, messageOf);
    if (why === null) return;
    const ended = child.exitCode !== null || child.signalCode !== null;
    if (ended || Date.now() > deadline) {
      const what = ended
        ? `ended (${child.signalCode ?? `exit ${child.exitCode}`})`
        : `is not ready after 30 s (${why})`;
      const tail = readFileSync(log, 'utf8').trim().split('\n').slice(-5).join('\n  ');
      throw new FairleadError('unavailable', `start the daemon: it ${what}; the end of its log:\n  ${tail}`);
    }
    await pause(50);
  }
}
