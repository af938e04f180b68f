// SPDX-License-Identifier: Apache-2.0
import { existsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { setTimeout as pause } from 'node:timers/promises';
import { FairleadError } from '../model/errors.js';
import { isAlive, ownerOf, runtimeDirectory, takeLock } from './lock.js';
import { destroyNamespaces, existingNamespaces, kill, processesIn, unmount } from './netns.js';
import { checkLabName } from './topology.js';

/** What is there of a lab. `pid` is the process that runs it, null when none does (then the rest is left of a crash). */
export interface LabStatus {
  readonly name: string;
  readonly pid: number | null;
  readonly namespaces: readonly string[];
  readonly processes: number; // inside the namespaces
  readonly socket: string | null; // of the daemon's API
}

/**
 * Removes processes, pins, namespaces and files of the lab `name`, whatever state they are in. The caller holds the lock.
 * Touches nothing when there is no runtime directory: then namespaces of such names are somebody else's.
 */
export async function removeLab(name: string): Promise<void> {
  const directory = runtimeDirectory(name);
  if (!existsSync(directory)) return;
  await destroyNamespaces(name);
  for (const node of [directory, `${directory}/lb2`]) await unmount(`${node}/bpf`); // the pins go with it
  await rm(directory, { recursive: true, force: true });
}

/** Takes the lab down, however it was started or ended: stops its process, then removes the rest. False when there was nothing. */
export async function labDown(name: string): Promise<boolean> {
  checkLabName(name);
  if (!existsSync(runtimeDirectory(name))) return false;
  const owner = ownerOf(name);
  if (owner && isAlive(owner)) {
    kill(owner.pid, 'SIGTERM');
    const deadline = Date.now() + 10_000;
    while (isAlive(owner) && Date.now() < deadline) await pause(50);
    if (isAlive(owner)) kill(owner.pid, 'SIGKILL');
    while (isAlive(owner) && Date.now() < deadline + 2_000) await pause(50);
    if (isAlive(owner)) throw new FairleadError('busy', `stop lab "${name}": process ${owner.pid} does not end`);
  }
  const lock = await takeLock(name, 10_000);
  try {
    await removeLab(name);
  } finally {
    lock.release();
  }
  return true;
}

/** What is there of the lab `name` now. */
export function labStatus(name: string): LabStatus {
  checkLabName(name);
  const owner = ownerOf(name);
  const namespaces = existingNamespaces(name);
  const socket = `${runtimeDirectory(name)}/api.sock`;
  return {
    name,
    pid: owner && isAlive(owner) ? owner.pid : null,
    namespaces,
    processes: processesIn(namespaces).length,
    socket: existsSync(socket) ? socket : null,
  };
}
