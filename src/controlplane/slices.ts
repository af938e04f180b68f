// SPDX-License-Identifier: Apache-2.0

/** Between two turns of the event loop, ms: well below what a client of the API would notice. */
const SLICE_MS = 4;

/** When the piece of this turn began. Jobs share it: several at once, or one after the other, take no more of a turn than one does. */
let start = Number.NEGATIVE_INFINITY;
/** Jobs that wait for their turn, one of them to a turn. */
const waiting: (() => void)[] = [];

function next(): void {
  start = performance.now();
  waiting.shift()?.();
  if (waiting.length > 0) setImmediate(next);
}

const turn = (): Promise<void> =>
  new Promise((resolve) => {
    if (waiting.push(resolve) === 1) setImmediate(next);
  });

/**
 * Gives a function to call between the pieces of a long job. When it is time to let the event loop turn it returns a promise
 * to await, else undefined (awaiting that costs as much as a small piece, so where pieces are many, look first).
 */
export function slices(): () => Promise<void> | undefined {
  return () => (performance.now() - start < SLICE_MS ? undefined : turn());
}
