// SPDX-License-Identifier: Apache-2.0
// When to ask the kernel to look for a neighbour.
import { type Neighbour, Nud, usableMac } from './hop.js';

/** What was done for a neighbour so far. `at`: when it was last asked for, ms of a monotonic clock; -Infinity: never. */
export interface Probes {
  readonly at: number;
  /** Without an answer, in a row. */
  readonly count: number;
}

export const NO_PROBES: Probes = { at: Number.NEGATIVE_INFINITY, count: 0 };

/** Between two questions to a neighbour that was known: packets of XDP do not make the kernel confirm it. */
const STALE_MS = 3_000;
/** Between two questions to one that does not answer: doubles from the first to the last. Each has the kernel ask three times. */
const FIRST_MS = 1_000;
const LAST_MS = 8_000;

/** Whether to ask for this neighbour now. */
export function probeDue({ at, count }: Probes, neighbour: Neighbour, now: number): boolean {
  const { state } = neighbour;
  if (usableMac(neighbour)) return (state & Nud.STALE) !== 0 && now - at >= STALE_MS;
  const asking = (state & Nud.INCOMPLETE) !== 0;
  return !asking && now - at >= Math.min(FIRST_MS * 2 ** Math.max(count - 1, 0), LAST_MS);
}
