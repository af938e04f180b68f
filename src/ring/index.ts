// SPDX-License-Identifier: Apache-2.0
export { diffRings, type RingDiff, rowsOwned } from './diff.js';
export { type Generation, type GenerationMember, type HistoryView, openHistory, type RingHistory } from './history.js';
export { buildRing, buildRingSliced, type Ring, type RingMember } from './ring.js';
export { sipHash, sipHash13 } from './siphash.js';
export { isPrime, maxRingSize, minRingSize, ringSize } from './size.js';
