// SPDX-License-Identifier: Apache-2.0
import { setImmediate as nextTurn } from 'node:timers/promises';

/** Between two turns of the event loop, ms: well below what a client of the API would notice. */
const SLICE_MS = 4;

/**
 * Gives a function to call between the pieces of a long job. When it is time to let the event loop turn it returns a promise
 * to await, else undefined (awaiting that costs as much as a small piece, so where pieces are many, look first).
 */
export function slices(): () => Promise<void> | undefined {
  let start = performance.now();
  const turn = async (): Promise<void> => {
    await nextTurn();
    start = performance.now();
  };
  return () => (performance.now() - start < SLICE_MS ? undefined : turn());
}
