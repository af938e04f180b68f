// SPDX-License-Identifier: Apache-2.0
import { mkdir, readFile, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { errnoOf, FairleadError, messageOf } from '../model/errors.js';
import type { Snapshot } from '../model/objects.js';
import { replaceFile } from './atomic-file.js';
import { acquireLock } from './lock.js';
import { emptySnapshot } from './memory-store.js';
import { formatState, parseState } from './state-file.js';
import type { Store } from './store.js';
import { createStore } from './store-core.js';

/**
 * Opens the store in the JSON file at `path`, and makes the file (0600) and its directory when they are missing. A change
 * is a new file written, flushed and renamed over the old one: after a crash there is the old state or the new one, whole.
 * Throws 'busy' while another process has it open, 'damaged' for content that is not a state, 'permission' or
 * 'unavailable' when the system refuses. An update that cannot be written rejects with 'unavailable' and changes nothing here.
 */
export async function openFileStore(path: string): Promise<Store> {
  const release = await explained('open', path, async () => {
    await mkdir(dirname(path), { recursive: true, mode: 0o750 });
    return acquireLock(`${path}.lock`);
  });
  try {
    const initial = await explained('open', path, () => load(path));
    const persist = (next: Snapshot) => written(path, next);
    return createStore({ kind: 'file', initial, persist, release });
  } catch (error) {
    release();
    throw error;
  }
}

async function load(path: string): Promise<Snapshot> {
  await rm(`${path}.tmp`, { force: true }); // of a writer that was killed
  const text = await readFile(path, 'utf8').catch((error: unknown) => {
    if (errnoOf(error) === 'ENOENT') return null;
    throw error;
  });
  if (text !== null) return parseState(text, path);
  const empty = emptySnapshot();
  await replaceFile(path, formatState(empty));
  return empty;
}

async function written(path: string, next: Snapshot): Promise<void> {
  try {
    await replaceFile(path, formatState(next));
  } catch (error) {
    throw new FairleadError('unavailable', `write "${path}": ${messageOf(error)}; nothing was changed`, [], {
      cause: error,
    });
  }
}

async function explained<T>(verb: string, path: string, step: () => Promise<T>): Promise<T> {
  try {
    return await step();
  } catch (error) {
    if (error instanceof FairleadError) throw error;
    const code = ['EACCES', 'EPERM'].includes(errnoOf(error) ?? '') ? 'permission' : 'unavailable';
    throw new FairleadError(code, `${verb} "${path}": ${messageOf(error)}`, [], { cause: error });
  }
}
