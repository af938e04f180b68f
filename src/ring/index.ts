// SPDX-License-Identifier: Apache-2.0
export { type RingDiff, diffRings, rowsOwned } from './diff.js';
export { buildRing, buildRingSliced, type Ring, type RingMember } from './ring.js';
export { sipHash, sipHash13 } from './siphash.js';
export { isPrime, maxRingSize, minRingSize, ringSize } from './size.js';
