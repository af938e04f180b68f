// SPDX-License-Identifier: Apache-2.0
import { processIo } from '../../src/cli/io.js';
import type { LocalParts } from '../../src/cli/local-commands.js';
import { runCli } from '../../src/cli/run.js';

/** How one command line ended. */
export interface Ended {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

/** What a test changes around a command line. */
export interface Around {
  readonly columns?: number; // of a terminal; without it, output goes to no terminal
  readonly env?: Readonly<Record<string, string>>;
  readonly stdin?: string;
  readonly stop?: AbortSignal;
  readonly parts?: Partial<LocalParts>;
  onOut?(text: string): void;
}

/** Runs one command line with its output caught. Files are read for real. */
export async function cli(args: readonly string[], around: Around = {}): Promise<Ended> {
  const { columns, env = {}, stdin, stop = new AbortController().signal, parts = {}, onOut } = around;
  let out = '';
  let err = '';
  const io = {
    ...realIo,
    out(text: string) {
      out += text;
      onOut?.(text);
    },
    err(text: string) {
      err += text;
    },
    screen: () => (columns === undefined ? null : { columns, rows: 40 }),
    env,
    read: (path: string) => (path === '-' && stdin !== undefined ? Promise.resolve(stdin) : realIo.read(path)),
    stopSignal: () => stop,
  };
  const code = await runCli(args, { ...noParts, ...parts }, io);
  return { code, out, err };
}

const realIo = processIo();

const unexpected = () => {
  throw new Error('not expected in this test');
};

/** Parts that no command of a test may reach. */
export const noParts: LocalParts = {
  serve: unexpected,
  agent: unexpected,
  detach: unexpected,
  doctor: unexpected,
  migrate: unexpected,
  token: { list: unexpected, create: unexpected, remove: unexpected },
  lab: { up: unexpected, down: unexpected, run: unexpected, status: unexpected },
};
