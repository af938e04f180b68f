// SPDX-License-Identifier: Apache-2.0
import { setTimeout as pause } from 'node:timers/promises';
import type { Command } from 'commander';
import type { Io } from './io.js';

const intervalMs = 1000;

/** Adds `--watch` to a command that looks at something. */
export function watchable(command: Command): Command {
  return command.option('-w, --watch', 'redraw every second until Ctrl-C');
}

/**
 * Runs `look` once, or, watching, each second until Ctrl-C. On a terminal each picture takes the place of the one before,
 * cut to the screen; elsewhere they follow one another.
 */
export async function watchOr(io: Io, isWatching: boolean, look: (io: Io) => Promise<void>): Promise<void> {
  if (!isWatching) return look(io);
  const signal = io.stopSignal();
  while (!signal.aborted) {
    const picture: string[] = [];
    await look({ ...io, out: (text) => void picture.push(text), err: (text) => void picture.push(text) });
    if (signal.aborted) return;
    io.out(drawn(picture.join(''), io.screen()));
    await pause(intervalMs, undefined, { signal }).catch(() => {}); // the signal ends the loop
  }
}

// From the top left: each line, then clear to its end; after the last, clear the rest.
function drawn(picture: string, screen: { readonly rows: number } | null): string {
  if (screen === null) return picture;
  const lines = picture
    .trimEnd()
    .split('\n')
    .slice(0, Math.max(1, screen.rows - 1));
  return `\x1b[H${lines.map((line) => `${line}\x1b[K\n`).join('')}\x1b[J`;
}
