// SPDX-License-Identifier: Apache-2.0
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { FairleadError } from '../model/errors.js';
import { startInside, stopChild } from './children.js';
import { recordOwner, runtimeDirectory, takeLock } from './lock.js';
import { createNamespaces, everyOne, existingNamespaces } from './netns.js';
import { removeLab } from './teardown.js';
import { planTopology, type Topology } from './topology.js';

/**
 * Which lab: its name (prefix of the namespaces), its number of backends, 1..64, and of balancers, 1 (default) or 2. `store`: a file (default), which the first
 * balancer writes and the others follow, or an etcd that all share. `bgp`: the VIPs are announced to the router by BIRD, instead of fixed routes there.
 */
export interface LabOptions {
  readonly name: string;
  readonly backends: number;
  readonly balancers?: number;
  readonly store?: 'file' | 'etcd';
  readonly bgp?: boolean;
}

/** A lab that stands. `close` takes everything down in reverse; what was added with `onClose` goes first. */
export interface LabBase {
  readonly topology: Topology;
  readonly directory: string; // runtime files; removed at the end
  onClose(undo: () => Promise<void>): void;
  close(): Promise<void>;
}

/**
 * Brings up the lab without a balancer: namespaces and the backends' servers. What an earlier lab of that name left
 * behind is removed first. Throws 'busy' when one is running, 'conflict' when namespaces of these names exist that no
 * lab made, the signal's reason when it fires; then nothing stays behind.
 */
export async function openBase(options: LabOptions, signal: AbortSignal): Promise<LabBase> {
  const topology = planTopology(options.name, options.backends, options.balancers, options.bgp);
  const { name } = topology;
  const directory = runtimeDirectory(name);
  const undo: ((clean: boolean) => Promise<void>)[] = [];
  const close = async () => {
    let failure: { readonly error: unknown } | null = null;
    for (let step = undo.pop(); step; step = undo.pop())
      try {
        await step(failure === null);
      } catch (error) {
        failure ??= { error };
      }
    if (failure) throw failure.error;
  };
  const lock = await takeLock(name, 10_000);
  undo.push(async () => lock.release());
  try {
    await removeLab(name);
    const foreign = existingNamespaces(name);
    if (foreign.length > 0)
      throw new FairleadError(
        'conflict',
        `start lab "${name}": namespace "${foreign[0]}" exists and no lab made it; choose another --name`,
      );
    const keeper = startKeeper(name);
    undo.push((clean) => dismissKeeper(keeper, clean));
    mkdirSync(directory, { mode: 0o755 });
    undo.push(() => removeLab(name));
    recordOwner(name);
    signal.throwIfAborted();
    await createNamespaces(topology);
    const servers = await startServers(topology, signal);
    undo.push(async () => void (await everyOne(servers.map((server) => stopChild(server, 1_000)))));
  } catch (error) {
    await close();
    throw error;
  }
  return { topology, directory, onClose: (step) => void undo.push(step), close };
}

/** One echo server per backend, four at a time: each is a Node process that starts in about 100 ms of CPU time. */
async function startServers(topology: Topology, signal: AbortSignal): Promise<ChildProcess[]> {
  const { httpPort, echoPort, natBackendPort, vip4, vip6, backends } = topology;
  const servers: ChildProcess[] = [];
  for (let index = 0; index < backends.length; index += 4) {
    signal.throwIfAborted();
    const some = backends.slice(index, index + 4).map(({ namespace, name, address4, address6 }) => {
      const own = ['nat', `${natBackendPort}`, address4, address6];
      const args = [name, `${httpPort}`, `${echoPort}`, vip4, vip6, ...own];
      return startInside(namespace, 'echo-server.js', args);
    });
    servers.push(...(await everyOne(some)));
  }
  return servers; // those of a start that fails end with the namespaces
}

function startKeeper(name: string): ChildProcess {
  const file = fileURLToPath(new URL('keeper.js', import.meta.url));
  return spawn(process.execPath, [file, name], {
    detached: true,
    cwd: '/',
    stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
  });
}

/** After a clean-up that failed, the keeper is left to try again. */
async function dismissKeeper(keeper: ChildProcess, clean: boolean): Promise<void> {
  if (keeper.exitCode !== null || keeper.signalCode !== null) return;
  const exited = once(keeper, 'exit');
  if (!clean) return keeper.disconnect();
  keeper.send('done');
  await exited;
}
