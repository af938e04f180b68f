// SPDX-License-Identifier: Apache-2.0
import { readFile } from 'node:fs/promises';
import { text } from 'node:stream/consumers';
import { FairleadError, messageOf } from '../model/errors.js';

/** What the command line touches of its process. */
export interface Io {
  out(text: string): void;
  err(text: string): void;
  /** Of the terminal that `out` writes to; null when it is none. */
  screen(): { readonly columns: number; readonly rows: number } | null;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** The text of a file, `-` is the standard input. Throws 'invalid' when it cannot be read. */
  read(path: string): Promise<string>;
  /** Aborted by the first Ctrl-C or SIGTERM after the first call; the process goes on. */
  stopSignal(): AbortSignal;
}

/** The real process. A reader of `out` that went away (`| head`) ends the process quietly. */
export function processIo(): Io {
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(0);
    throw error;
  });
  let stop: AbortController | null = null;
  return {
    out: (chunk) => void process.stdout.write(chunk),
    err: (chunk) => void process.stderr.write(chunk),
    screen: () =>
      process.stdout.isTTY ? { columns: process.stdout.columns || 80, rows: process.stdout.rows || 24 } : null,
    env: process.env,
    read: (path) => readInput(path),
    stopSignal() {
      if (stop !== null) return stop.signal;
      const controller = new AbortController();
      stop = controller;
      for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => controller.abort());
      return controller.signal;
    },
  };
}

async function readInput(path: string): Promise<string> {
  try {
    return path === '-' ? await text(process.stdin) : await readFile(path, 'utf8');
  } catch (error) {
    throw new FairleadError('invalid', `read "${path}": ${messageOf(error)}`, [], { cause: error });
  }
}
