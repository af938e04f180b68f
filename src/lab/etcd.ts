// SPDX-License-Identifier: Apache-2.0
import { setTimeout as pause } from 'node:timers/promises';
import { FairleadError } from '../model/errors.js';
import { spawnInside, stopChild } from './children.js';
import { namespacePath, run } from './netns.js';
import type { Topology } from './topology.js';
import type { LabPrograms } from './xdp.js';

const PORT = 2379;

/** Where the lab's etcd is for the balancers. */
export const etcdEndpoint = ({ routerAddress4 }: Topology): string => `http://${routerAddress4}:${PORT}`;

/** A real etcd of one member in the router's namespace, with its data below `directory`. Throws 'unsupported' when it is not installed. */
export async function startEtcd(topology: Topology, directory: string, signal: AbortSignal): Promise<LabPrograms> {
  const url = etcdEndpoint(topology);
  const args = [
    `--data-dir=${directory}/etcd`,
    `--listen-client-urls=${url}`,
    `--advertise-client-urls=${url}`,
    '--listen-peer-urls=http://127.0.0.1:2380',
    '--unsafe-no-fsync', // nothing here outlives the lab
    '--logger=zap',
    '--log-level=error',
  ];
  const child = spawnInside(topology.router, ['etcd', ...args], ['ignore', 'ignore', 'pipe']);
  let said = '';
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    said = (said + text).slice(-2000);
  });
  const inRouter = [`--net=${namespacePath(topology.router)}`, 'ss', '-Hltn', `sport = :${PORT}`];
  for (const deadline = Date.now() + 15_000; (await run('nsenter', inRouter)) === ''; await pause(50)) {
    const ended = child.exitCode !== null || child.signalCode !== null;
    if (!ended && Date.now() < deadline && !signal.aborted) continue;
    await stopChild(child, 1_000);
    signal.throwIfAborted();
    if (/No such file/.test(said))
      throw new FairleadError('unsupported', 'start etcd: it is not installed; apt-get install etcd-server');
    throw new FairleadError('unavailable', `start etcd: ${said.trim() || 'it does not listen'}`);
  }
  return { close: () => stopChild(child, 2_000) };
}
