// SPDX-License-Identifier: Apache-2.0
import type { ChildProcess } from 'node:child_process';
import { closeSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { FairleadError, messageOf } from '../model/errors.js';
import { type Api, apiAt } from './api.js';
import type { LabBase } from './base.js';
import { spawnInside, stopChild } from './children.js';
import { labInterface, labMtu, type Topology } from './topology.js';

/** The balancer's daemon inside its namespace. */
export interface LabDaemon {
  readonly socket: string;
  readonly api: Api;
  /** How often it has ended by itself and was started again. */
  restarts(): number;
  stop(): Promise<void>;
}

/** A lab with the balancer at work in it, its pools and services in the kernel. */
export interface Lab extends LabBase {
  readonly daemon: LabDaemon;
}

/**
 * Starts `fairlead serve` in the balancer's namespace with its files in `directory`, and waits until it is ready.
 * From then on it is started again, after a second, whenever it ends by itself; `say` is told. Throws 'unavailable'
 * with the end of its log when it ends before it is ready, or is not ready within 30 s.
 */
export async function startDaemon(
  topology: Topology,
  directory: string,
  signal: AbortSignal,
  say: (line: string) => void,
): Promise<LabDaemon> {
  const socket = `${directory}/api.sock`;
  const log = `${directory}/daemon.log`;
  const api = apiAt(socket);
  writeFileSync(`${directory}/config.yaml`, daemonConfig(topology, directory));
  let restarts = 0;
  let stopping: Promise<void> | null = null;
  let child = launch(topology, directory, log);
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
      child = launch(topology, directory, log).on('exit', revive);
    }, 1_000);
  };
  try {
    await untilReady(child, api, log, signal);
  } catch (error) {
    await stop();
    throw error;
  }
  child.on('exit', revive);
  return { socket, api, restarts: () => restarts, stop };
}

/** The daemon's configuration in the lab. Its TCP listener is on the loopback of its own namespace. */
export function daemonConfig(topology: Topology, directory: string): string {
  return `node: ${topology.lb}
interfaces:
  - { name: ${labInterface}, xdp: native }
store: { type: file, path: ${directory}/state.json }
api:
  socket: ${directory}/api.sock
  listen: 127.0.0.1:7080
tunnel: { source: ${topology.lbAddress4}, source6: "${topology.lbAddress6}", mtu: ${labMtu} }
bpffs: ${directory}/bpf
`;
}

function launch(topology: Topology, directory: string, log: string): ChildProcess {
  const main = fileURLToPath(new URL('../main.js', import.meta.url));
  const output = openSync(log, 'a');
  const command = [process.execPath, main, 'serve', '--config', `${directory}/config.yaml`];
  const child = spawnInside(topology.lb, command, ['ignore', output, output]);
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
