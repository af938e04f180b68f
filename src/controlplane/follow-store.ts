// SPDX-License-Identifier: Apache-2.0
import { watch } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import { FairleadError, messageOf } from '../model/errors.js';
import type { Snapshot } from '../model/objects.js';
import { parseState } from './state-file.js';
import { AT_HAND, type Store } from './store.js';

/** A change that no event told of is seen within this. */
const PERIOD_MS = 1000;

/**
 * Follows the state file that another process writes at `path`: read only, without a lock. What is in force is the last content that was a
 * state; `warn` is told, once, of one that is not, and of one that goes back or has another hash key, which the running programs
 * could not take. Throws 'damaged' or 'unavailable' when there is nothing to begin with. Updates are refused as 'unavailable'.
 */
export async function openFollowStore(path: string, warn: (line: string) => void): Promise<Store> {
  let current = await read(path);
  let told = '';
  let running: Promise<void> | null = null;
  let again = false;
  let closed = false;
  const listeners = new Set<(snapshot: Snapshot) => void>();

  async function look(): Promise<void> {
    do {
      again = false;
      try {
        take(await read(path));
        told = '';
      } catch (error) {
        const line = `${messageOf(error)}; revision ${current.revision} stays in force`;
        if (line !== told) warn(line);
        told = line;
      }
    } while (again && !closed);
    running = null;
  }

  function take(next: Snapshot): void {
    if (next.revision === current.revision) return;
    if (next.hashKey !== current.hashKey)
      throw new FairleadError(
        'conflict',
        `follow "${path}": it has another hash key; start this daemon anew to take it`,
      );
    if (next.revision < current.revision)
      throw new FairleadError('conflict', `follow "${path}": it went back to revision ${next.revision}`);
    current = next;
    for (const listener of listeners) listener(next);
  }

  const trigger = (): void => {
    if (closed) return;
    if (running) again = true;
    else running = look();
  };
  const directory = watch(dirname(path), (_, name) => {
    if (name === null || name === basename(path)) trigger();
  });
  directory.on('error', trigger); // the period goes on
  const timer = setInterval(trigger, PERIOD_MS);

  return {
    kind: 'file',
    read: () => current,
    state: () => AT_HAND,
    update: () =>
      Promise.reject(
        new FairleadError(
          'unavailable',
          `update the store: this node only follows "${path}"; ask the node that writes it`,
        ),
      ),
    watch(listener) {
      const own = (snapshot: Snapshot) => listener(snapshot);
      listeners.add(own);
      return () => void listeners.delete(own);
    },
    async close() {
      closed = true;
      clearInterval(timer);
      directory.close();
      await running;
    },
  };
}

async function read(path: string): Promise<Snapshot> {
  const text = await readFile(path, 'utf8').catch((error: unknown) => {
    throw new FairleadError('unavailable', `follow "${path}": ${messageOf(error)}`);
  });
  return parseState(text, path);
}
