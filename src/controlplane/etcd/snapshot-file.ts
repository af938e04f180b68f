// SPDX-License-Identifier: Apache-2.0
// The last state on disk, to begin from when etcd is away.
import { mkdir, readFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { errnoOf, FairleadError, messageOf } from '../../model/errors.js';
import type { Snapshot } from '../../model/objects.js';
import { replaceFile } from '../atomic-file.js';
import { acquireLock, lockName } from '../lock.js';
import { formatStateSlowly, parseState } from '../state-file.js';
import type { StoreLog } from '../store.js';

/** From a change to its write: what follows from it in the kernel comes first. */
const AFTER_MS = 200;
/** Between two writes, as a multiple of what it took to make the text: the newest of a burst is what counts. A slow disk does not make this longer. */
const REST = 10;

/** The snapshot in the file, null when there is none. Throws 'damaged', or 'unavailable' when it cannot be read. */
export async function loadSnapshot(path: string): Promise<Snapshot | null> {
  try {
    return await parseState(await readFile(path, 'utf8'), path);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return null;
    if (error instanceof FairleadError) throw error;
    throw new FairleadError('unavailable', `read "${path}": ${messageOf(error)}`, [], { cause: error });
  }
}

/** Keeps other processes from it until the function is called. Throws 'busy' when one has it. */
export async function lockSnapshot(path: string): Promise<() => void> {
  await mkdir(dirname(path), { recursive: true, mode: 0o750 });
  return acquireLock(`${path}.lock`);
}

/** Names whoever has the snapshot locked: see lockName. */
export const snapshotName = (path: string): string => lockName(`${path}.lock`);

export interface SnapshotFile {
  /** Writes this one, or a later one, soon. A failure is told to the log, and tried again with the next. */
  save(snapshot: Snapshot): void;
  /** Resolves when what was given is written. */
  close(): Promise<void>;
}

export function openSnapshotFile(path: string, log: StoreLog): SnapshotFile {
  let waiting: Snapshot | null = null;
  let running: Promise<void> | null = null;
  let told = '';
  let closed = false;
  let written = false; // once; the first is wanted soon
  let hurry: () => void = () => undefined;

  const rest = (ms: number): Promise<void> =>
    new Promise((resolve) => {
      hurry = resolve;
      setTimeout(resolve, ms);
    });

  async function run(): Promise<void> {
    if (!closed && written) await rest(AFTER_MS);
    written = true;
    for (let next = waiting; next !== null; next = waiting) {
      waiting = null;
      const began = performance.now();
      const text = await formatStateSlowly(next);
      const tookMs = performance.now() - began;
      try {
        await replaceFile(path, text);
        told = '';
      } catch (error) {
        const line = `write "${path}": ${messageOf(error)}; a start without etcd would serve an older state`;
        if (line !== told) log.warn({ revision: next.revision }, line);
        told = line;
      }
      if (!closed) await rest(Math.max(AFTER_MS, REST * tookMs));
    }
    running = null;
  }

  return {
    save(snapshot) {
      waiting = snapshot;
      running ??= run();
    },
    async close() {
      closed = true;
      hurry();
      await running;
    },
  };
}
