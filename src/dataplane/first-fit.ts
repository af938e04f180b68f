// SPDX-License-Identifier: Apache-2.0

/** A piece of `ring_rows` or `counters` that is taken. */
export interface Range {
  readonly start: number;
  readonly size: number;
}

/** Takes the first free piece of `size` entries below `capacity` and puts it into `taken`, sorted by start; null when there is none. */
export function takeFirstFit(taken: Range[], size: number, capacity: number): Range | null {
  let start = 0;
  let at = 0;
  for (const range of taken) {
    if (range.start - start >= size) break;
    start = Math.max(start, range.start + range.size);
    at++;
  }
  if (at === taken.length && capacity - start < size) return null;
  const found = { start, size };
  taken.splice(at, 0, found);
  return found;
}

export const byStart = (a: Range, b: Range): number => a.start - b.start;
