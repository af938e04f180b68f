// SPDX-License-Identifier: Apache-2.0

export type Colour = 'red' | 'yellow' | 'green';

/** A column of rows of `T`. Numbers are right-aligned and never cut. */
export interface Column<T> {
  readonly title: string;
  readonly kind?: 'text' | 'number';
  readonly spare?: boolean; // left out where there is no room
  text(row: T): string;
  colour?(row: T): Colour | null;
}

/** How a table is printed: `width` in characters, null for any; `colours` with ANSI escapes. */
export interface TableStyle {
  readonly width: number | null;
  readonly headers: boolean;
  readonly colours: boolean;
}

const gap = '  ';
const leastWidth = 4; // of a cut column: three characters and the ellipsis
const codes: Record<Colour, number> = { red: 31, yellow: 33, green: 32 };

/**
 * Lays rows out below their titles, two spaces between columns, nothing after the last. When that is too wide, columns that
 * can be spared are left out, the last one first; then the widest text columns are cut, with an ellipsis, until it fits or
 * nothing is left to cut.
 */
export function formatTable<T>(columns: readonly Column<T>[], rows: readonly T[], style: TableStyle): string[] {
  const { width, headers, colours } = style;
  const cells = rows.map((row) => columns.map((column) => printable(column.text(row))));
  const titles = headers ? [columns.map(({ title }) => title)] : [];
  const widths = columns.map((_, i) =>
    Math.max(0, ...[...titles, ...cells].map((line) => [...(line[i] ?? '')].length)),
  );
  const excess = widths.reduce((sum, each) => sum + each, gap.length * (columns.length - 1)) - (width ?? Infinity);
  if (excess > 0) {
    const spared = columns.findLastIndex(({ spare }) => spare === true);
    if (spared >= 0) return formatTable(columns.toSpliced(spared, 1), rows, style);
    cutWidest(columns, widths, excess);
  }
  const line = (texts: readonly string[], row?: T) =>
    columns
      .map((column, i) => {
        const cut = cutTo(texts[i] ?? '', widths[i] ?? 0);
        const room = ' '.repeat((widths[i] ?? 0) - [...cut].length);
        const colour = (colours && row !== undefined && column.colour?.(row)) || null;
        const shown = colour === null ? cut : paint(cut, colour);
        return column.kind === 'number' ? room + shown : shown + room;
      })
      .join(gap)
      .trimEnd();
  return [...titles.map((each) => line(each)), ...cells.map((each, i) => line(each, rows[i]))];
}

/** The text in a colour. */
export function paint(text: string, colour: Colour): string {
  return `\x1b[${codes[colour]}m${text}\x1b[39m`;
}

/** The text without what would move a terminal's cursor. */
export function printable(text: string): string {
  return text.replace(/\p{Cc}/gu, '?');
}

function cutWidest<T>(columns: readonly Column<T>[], widths: number[], excess: number): void {
  for (let rest = excess; rest > 0; rest--) {
    let widest = -1;
    for (const [i, { kind, title }] of columns.entries()) {
      const least = Math.max(leastWidth, title.length);
      if (kind !== 'number' && (widths[i] ?? 0) > Math.max(least, widths[widest] ?? 0)) widest = i;
    }
    if (widest < 0) return;
    widths[widest] = (widths[widest] ?? 0) - 1;
  }
}

function cutTo(text: string, width: number): string {
  const letters = [...text];
  return letters.length <= width ? text : `${letters.slice(0, width - 1).join('')}…`;
}
