// SPDX-License-Identifier: Apache-2.0
import { stat } from 'node:fs/promises';
import { messageOf } from '../../model/errors.js';
import type { EventLog } from '../../model/events.js';

/** What files say, taken anew when they change. */
export interface Reloaded<T> {
  current(): T;
  /** Reads the files now, changed or not. */
  reload(): Promise<void>;
  close(): void;
}

const lookMs = 2000;

/**
 * Reads `files` with `load`, and again when one of them changes (looked at every two seconds, for they come in by renames and symbolic links) or on `reload`.
 * What does not load is told once as an event, and the last that did stays in force. Rejects when the first time fails.
 */
export async function openReloaded<T>(
  name: string,
  files: readonly string[],
  load: () => Promise<T>,
  events: EventLog,
  taken: (value: T) => void = () => {},
): Promise<Reloaded<T>> {
  let seen = await looks(files);
  let current = await load();
  let lastError: string | null = null;
  let running: Promise<void> | null = null;

  async function again(force: boolean): Promise<void> {
    const now = await looks(files);
    if (now === seen && !force) return;
    try {
      current = await load();
      seen = now; // taken before the files were read: a change meanwhile is seen next time
      taken(current);
      lastError = null;
      events.emit({
        type: `api.${name}_reloaded`,
        severity: 'info',
        object: null,
        message: `the ${name} of the API were read anew`,
      });
    } catch (error) {
      const text = messageOf(error); // `seen` stays: half-written files are tried again
      if (text === lastError) return;
      lastError = text;
      const message = `${text}; the ${name} from before stay in force`;
      events.emit({ type: `api.${name}_not_reloaded`, severity: 'error', object: null, message });
    }
  }
  const reload = async (force: boolean): Promise<void> => {
    await running;
    running = again(force).finally(() => {
      running = null;
    });
    await running;
  };
  const timer = setInterval(() => void (running ?? reload(false)), lookMs).unref();
  return { current: () => current, reload: () => reload(true), close: () => clearInterval(timer) };
}

async function looks(files: readonly string[]): Promise<string> {
  const each = files.map(async (file) => {
    const found = await stat(file, { bigint: true }).catch(() => null);
    return found === null ? 'none' : `${found.dev}:${found.ino}:${found.size}:${found.mtimeNs}:${found.ctimeNs}`;
  });
  return (await Promise.all(each)).join();
}
