// SPDX-License-Identifier: Apache-2.0
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as pause } from 'node:timers/promises';
import { FairleadError } from '../model/errors.js';
import { spawnInside, stopChild } from './children.js';
import { namespacePath, run } from './netns.js';
import type { Topology } from './topology.js';
import type { LabPrograms } from './xdp.js';

const PORT = 2379;

/** Where the lab's etcd is for the balancers. */
export const etcdEndpoint = ({ routerAddress4 }: Topology): string => `http://${routerAddress4}:${PORT}`;

/** The lab's etcd, and what may happen to it. */
export interface LabEtcd extends LabPrograms {
  readonly endpoint: string;
  readonly data: string; // its data directory
  pid(): number;
  /** Kills it, as a crash would. */
  kill(): Promise<void>;
  /** Starts it again, with what its data directory holds. Throws 'unavailable' when it does not listen within 15 s. */
  start(): Promise<void>;
  /** Runs etcdctl on it; its output. */
  ctl(...args: readonly string[]): Promise<string>;
}

/** A real etcd of one member in the router's namespace, with its data below `directory`. Throws 'unsupported' when it is not installed. */
export async function startEtcd(topology: Topology, directory: string, signal: AbortSignal): Promise<LabEtcd> {
  const endpoint = etcdEndpoint(topology);
  const data = `${directory}/etcd`;
  const inRouter = (...command: readonly string[]): Promise<string> =>
    run('nsenter', [`--net=${namespacePath(topology.router)}`, ...command]);
  const launch = async (): Promise<ChildProcess> => {
    const args = [
      `--data-dir=${data}`,
      `--listen-client-urls=${endpoint}`,
      `--advertise-client-urls=${endpoint}`,
      '--listen-peer-urls=http://127.0.0.1:2380',
      '--logger=zap',
      '--log-level=error',
    ];
    const child = spawnInside(topology.router, ['etcd', ...args], ['ignore', 'ignore', 'pipe']);
    let said = '';
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      said = (said + text).slice(-2000);
    });
    for (const deadline = Date.now() + 15_000; (await inRouter('ss', '-Hltn', `sport = :${PORT}`)) === ''; ) {
      await pause(50);
      const ended = child.exitCode !== null || child.signalCode !== null;
      if (!ended && Date.now() < deadline && !signal.aborted) continue;
      await stopChild(child, 1_000);
      signal.throwIfAborted();
      if (/No such file/.test(said))
        throw new FairleadError('unsupported', 'start etcd: it is not installed; apt-get install etcd-server');
      throw new FairleadError('unavailable', `start etcd: ${said.trim() || 'it does not listen'}`);
    }
    return child;
  };
  let child = await launch();
  return {
    endpoint,
    data,
    pid: () => child.pid ?? 0,
    async kill() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const ended = once(child, 'exit');
      child.kill('SIGKILL');
      await ended;
    },
    async start() {
      child = await launch();
    },
    ctl: (...args) => inRouter('etcdctl', `--endpoints=${endpoint}`, ...args),
    close: () => stopChild(child, 2_000),
  };
}
