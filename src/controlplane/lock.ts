// SPDX-License-Identifier: Apache-2.0
import { randomBytes } from 'node:crypto';
import { link, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { errnoOf, FairleadError } from '../model/errors.js';

/**
 * Takes the lock file at `path` for this process and answers the function that gives it back. Throws 'busy' while another
 * live process (or this one) holds it.
 *
 * Node has no flock(2), so the file holds "pid starttime" of its owner (the start time tells a reused pid apart) and
 * appears by link(2), which is exclusive and shows it whole. A dead owner's file is taken over: renamed aside, which only
 * one taker can do, and looked at again, so that a lock taken by somebody faster is put back.
 */
export async function acquireLock(path: string): Promise<() => Promise<void>> {
  const mine = await identityOf(process.pid);
  const own = `${path}.${randomBytes(6).toString('hex')}`;
  await writeFile(own, `${mine}\n`, { mode: 0o600, flag: 'wx' });
  try {
    while (!(await linked(own, path))) {
      const holder = await readFile(path, 'utf8').catch(absent);
      if (holder === null) continue; // given back just now
      if (await isAlive(holder)) throw busy(path, holder);
      await setAside(path, `${own}.stale`, holder);
    }
  } finally {
    await rm(own, { force: true });
  }
  return () => rm(path, { force: true });
}

async function linked(from: string, to: string): Promise<boolean> {
  try {
    await link(from, to);
    return true;
  } catch (error) {
    if (errnoOf(error) === 'EEXIST') return false;
    // The winner of a race sweeps up, `from` included.
    if (errnoOf(error) === 'ENOENT') throw new FairleadError('busy', `lock "${to}": another process was faster`);
    throw error;
  }
}

async function setAside(path: string, aside: string, expected: string): Promise<void> {
  const moved = await rename(path, aside).catch(absent);
  if (moved === null) return; // another taker was faster
  const found = await readFile(aside, 'utf8');
  if (found !== expected) await linked(aside, path);
  await rm(aside, { force: true });
}

async function isAlive(holder: string): Promise<boolean> {
  const pid = Number.parseInt(holder, 10);
  if (!Number.isInteger(pid) || pid <= 0) return false; // a crash before the text reached the disk
  return (await identityOf(pid)) === holder.trim();
}

// "pid starttime"; the start time (clock ticks since boot) is field 22 of /proc/pid/stat, counted after the name, which may hold spaces.
async function identityOf(pid: number): Promise<string | null> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => null);
  if (stat === null) return null;
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return fields[0] === 'Z' ? null : `${pid} ${fields[19]}`;
}

function busy(path: string, holder: string): FairleadError {
  return new FairleadError('busy', `lock "${path}": process ${Number.parseInt(holder, 10)} holds it; stop it first`);
}

function absent(error: unknown): null {
  if (errnoOf(error) === 'ENOENT') return null;
  throw error;
}
