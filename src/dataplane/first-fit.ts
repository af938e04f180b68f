// SPDX-License-Identifier: Apache-2.0

/** A piece of `ring_rows` or `counters` that is taken. */
export interface Range {
  readonly start: number;
  readonly size: number;
}

/** First start at which `size` entries are free below `capacity`, or -1. `from` leaves the entries below it alone. */
export function firstFit(taken: readonly Range[], size: number, capacity: number, from = 0): number {
  let start = from;
  for (const range of [...taken].sort((a, b) => a.start - b.start)) {
    if (range.start - start >= size) return start;
    start = Math.max(start, range.start + range.size);
  }
  return capacity - start >= size ? start : -1;
}
