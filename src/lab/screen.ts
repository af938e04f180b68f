// SPDX-License-Identifier: Apache-2.0
import type { WriteStream } from 'node:tty';

/** Output of a command that watches: lines that stay, and a block that is kept current. */
export interface Screen {
  readonly redraws: boolean; // false: the output is no terminal, every block stays
  say(line: string): void;
  draw(lines: readonly string[]): void;
}

/** On a terminal the block is redrawn in place, cut to the window; elsewhere it is printed as it comes. */
export function openScreen(stream: WriteStream): Screen {
  let drawn = 0;
  const clear = () => {
    if (drawn > 0) stream.write(`\x1b[${drawn}A\x1b[J`);
    drawn = 0;
  };
  return {
    redraws: stream.isTTY,
    say(line) {
      clear();
      stream.write(`${line}\n`);
    },
    draw(lines) {
      clear();
      // A terminal that does not say its size has 0 by 0.
      const rows = stream.isTTY ? Math.max(2, (stream.rows || 24) - 1) : lines.length;
      const more = lines.length - rows + 1;
      const fitting = more > 1 ? [...lines.slice(0, rows - 1), `... ${more} more lines`] : lines;
      const width = stream.isTTY ? stream.columns || 80 : Number.POSITIVE_INFINITY;
      stream.write(`${fitting.map((line) => line.slice(0, width)).join('\n')}\n`);
      if (stream.isTTY) drawn = fitting.length;
    },
  };
}
