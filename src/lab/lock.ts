// SPDX-License-Identifier: Apache-2.0
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import { FairleadError } from '../model/errors.js';

/** A lab's name, held: by the process that runs the lab, or for a moment by one that cleans up after it. */
export interface LabLock {
  release(): void;
}

/** The process a lab belongs to. `startTicks` tells it from a later one with the same id. */
export interface LabOwner {
  readonly pid: number;
  readonly startTicks: string;
}

/** Files of a running lab. /run is a tmpfs, so a reboot takes them together with the namespaces. */
export function runtimeDirectory(name: string): string {
  return `/run/fairlead-lab-${name}`;
}

/**
 * Takes the lab's lock, waiting up to `waitMs` while another process cleans up. Throws 'busy' when a living lab holds
 * it (at once) or when the wait is over. The kernel frees the lock with its holder, however that ends: it is a socket
 * name without a file.
 */
export async function takeLock(name: string, waitMs: number): Promise<LabLock> {
  const deadline = Date.now() + waitMs;
  for (;;) {
    const server = await listen(`\0fairlead-lab-${name}`);
    if (server) return { release: () => server.close() };
    const owner = ownerOf(name);
    if (owner && isAlive(owner) && owner.pid !== process.pid)
      throw new FairleadError(
        'busy',
        `lab "${name}" is running already as process ${owner.pid}; stop it with Ctrl-C there or: fairlead lab down --name ${name}`,
      );
    if (Date.now() > deadline)
      throw new FairleadError('busy', `lab "${name}" is being started or cleaned up by another process; try again`);
    await pause(50);
  }
}

/** Writes this process down as the owner of the lab; its runtime directory exists. */
export function recordOwner(name: string): void {
  writeFileSync(`${runtimeDirectory(name)}/pid`, `${process.pid} ${startTicksOf(process.pid)}\n`);
}

/** Who runs (or, after a crash, ran) the lab; null when it was taken down properly. */
export function ownerOf(name: string): LabOwner | null {
  try {
    const [pid, startTicks] = readFileSync(`${runtimeDirectory(name)}/pid`, 'utf8')
      .trim()
      .split(' ');
    return pid && startTicks ? { pid: Number(pid), startTicks } : null;
  } catch {
    return null;
  }
}

/** Whether that very process still runs. */
export function isAlive(owner: LabOwner): boolean {
  return startTicksOf(owner.pid) === owner.startTicks;
}

const PF_EXITING = 0x4; // linux/sched.h

/** Field 22 of /proc/PID/stat; null when there is no such process, or it has ended but for the release of what it holds. */
function startTicksOf(pid: number): string | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' '); // the command's name may hold spaces
    const ending = fields[0] === 'Z' || (Number(fields[6]) & PF_EXITING) !== 0;
    return ending ? null : (fields[19] ?? null);
  } catch {
    return null;
  }
}

function listen(path: string): Promise<Server | null> {
  return new Promise((resolve, reject) => {
    const server = createServer((socket) => socket.destroy());
    server.on('error', (error: NodeJS.ErrnoException) => (error.code === 'EADDRINUSE' ? resolve(null) : reject(error)));
    server.listen(path, () => resolve(server.unref()));
  });
}
