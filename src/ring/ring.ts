// SPDX-License-Identifier: Apache-2.0
import { setImmediate as nextTurn } from 'node:timers/promises';
import { type AnchorMembers, anchorSteps } from './anchor.js';
import { hashName, mix32, scale } from './hash.js';
import { isPrime, maxRingSize } from './size.js';

/**
 * A configured member. `weight` is an integer 0..256, 0 owns no row; a member that is not `live` keeps its claim but owns none now. Of a live one with a
 * `part` (0..1) so much of its rows is its own, and the rest as if it were not live: on its way back it moves nobody else's rows.
 */
export interface RingMember {
  readonly name: string;
  readonly weight: number;
  readonly live: boolean;
  readonly part?: number;
}

/** `names` in code-unit order; `owners[row]` is a 1-based index into it, 0 for nobody. */
export interface Ring {
  readonly names: readonly string[];
  readonly owners: Uint16Array;
}

const maxAttempts = 16;
const rowsPerStep = 256;
const namesPerStep = 64;
const sliceMs = 1; // one step more may follow, and a garbage collection

/**
 * Builds the anchored ring: who owns each of `size` rows (a prime up to 131071).
 *
 * The anchor (see anchor.ts) gives rows to all members with a weight, live or not, in exact proportion. A row whose anchor is not live
 * goes to a live one (see `substitute`). So the ring depends on the set of (name, weight, live, part) and on nothing else, not on the order of
 * members or of events: a member that goes moves only the rows it had, its return restores the ring exactly. Holes (0) only
 * when no live member has a weight. Throws RangeError on a bad size, a bad weight, a name given twice, or more than 65535 members.
 */
export function buildRing(members: readonly RingMember[], size: number): Ring {
  const steps = ringSteps(members, size);
  for (;;) {
    const step = steps.next();
    if (step.done) return step.value;
  }
}

/** As buildRing, same result, but lets the event loop turn after every millisecond or so of work. Leave `members` as they are until it is done. */
export async function buildRingSliced(members: readonly RingMember[], size: number): Promise<Ring> {
  const steps = ringSteps(members, size);
  let start = performance.now();
  for (;;) {
    const step = steps.next();
    if (step.done) return step.value;
    if (performance.now() - start >= sliceMs) {
      await nextTurn();
      start = performance.now();
    }
  }
}

function* ringSteps(members: readonly RingMember[], size: number): Generator<void, Ring, void> {
  const sorted = check(members, size);
  const names = sorted.map((m) => m.name);
  const claims = sorted.filter((m) => m.weight > 0);
  const hashA = new Uint32Array(claims.length);
  const hashB = new Uint32Array(claims.length);
  for (const [i, claim] of claims.entries()) {
    if (i % namesPerStep === 0) yield;
    [hashA[i], hashB[i]] = hashName(claim.name);
  }
  yield;
  const owners = new Uint16Array(size);
  const either = [...claims.keys()].filter((i) => claims[i]?.live);
  if (either.length === 0) return { names, owners };
  const whole = either.filter((i) => (claims[i]?.part ?? 1) >= 1);
  const live = whole.length > 0 ? whole : either; // somebody has to take them
  const isLive = new Uint8Array(claims.length + 1);
  for (const i of live) isLive[i + 1] = 1;

  const anchors: AnchorMembers = { weight: Int32Array.from(claims, (c) => c.weight), hashA, hashB };
  const settling: Settling = {
    anchors,
    anchor: yield* anchorSteps(anchors, size),
    live: Uint16Array.from(live, (i) => i + 1),
    isLive,
    below: Float64Array.of(0, ...claims.map((c) => (c.live ? (c.part ?? 1) * 0x1_0000_0000 : 0))),
    owner: Uint16Array.of(0, ...sorted.flatMap((m, i) => (m.weight > 0 ? [i + 1] : []))),
  };
  for (let from = 0; from < size; from += rowsPerStep) {
    yield;
    settle(settling, owners, from, Math.min(from + rowsPerStep, size));
  }
  return { names, owners };
}

/** What settles a row. A claim is the 1-based index of a member among those with a weight, as the anchor has it; 0 is unused. */
interface Settling {
  readonly anchors: AnchorMembers;
  readonly anchor: Uint16Array; // of a row: the claim
  readonly live: Uint16Array; // the live claims
  readonly isLive: Uint8Array; // of a claim: the whole of it
  readonly below: Float64Array; // of a claim: rows with a hash below are its own
  readonly owner: Uint16Array; // of a claim: 1-based index among all members
}

/** Fills rows from..to-1: with the anchor where it is live, with a substitute where it is not. */
function settle(settling: Settling, owners: Uint16Array, from: number, to: number): void {
  const { anchor, isLive, below, owner } = settling;
  for (let row = from; row < to; row++) {
    const claim = anchor[row] as number;
    const isHome = isLive[claim] === 1 || mix32(~row) < (below[claim] as number);
    owners[row] = owner[isHome ? claim : substitute(settling, row)] as number;
  }
}

/**
 * The live claim that stands in on a row whose anchor is not live: the first live one among the anchors of pseudo-random other rows, the
 * row's own probe sequence. Anchors hold rows by weight, so a member is met with a probability in proportion to its weight, without
 * drawing any in vain, and the sequence stays as it is when the configured set changes elsewhere.
 *
 * After 16 attempts (most of the weight is dead, or the live have no row) it is the best of all live ones in rendezvous hashing
 * (Thaler and Ravishankar, 1998), by weight approximately: hash / weight needs no logarithm, whose last bit may differ between machines.
 */
function substitute({ anchors, anchor, live, isLive }: Settling, row: number): number {
  for (let attempt = 0; attempt < maxAttempts; attempt++) {
    const claim = anchor[scale(mix32(row * maxAttempts + attempt), anchor.length)] as number;
    if (isLive[claim] === 1) return claim;
  }
  const rowHash = mix32(row);
  let best = 0;
  let lowest = Number.POSITIVE_INFINITY;
  for (const claim of live) {
    const score = mix32((anchors.hashA[claim - 1] as number) ^ rowHash) / (anchors.weight[claim - 1] as number);
    if (score < lowest) {
      best = claim;
      lowest = score;
    }
  }
  return best;
}

function check(members: readonly RingMember[], size: number): RingMember[] {
  if (!isPrime(size) || size > maxRingSize)
    throw new RangeError(`build ring: got size ${size}, wanted a prime up to ${maxRingSize}`);
  if (members.length > 0xffff) throw new RangeError(`build ring: got ${members.length} members, wanted at most 65535`);
  const sorted = [...members].sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
  for (const [i, { name, weight }] of sorted.entries()) {
    if (!Number.isInteger(weight) || weight < 0 || weight > 256)
      throw new RangeError(`build ring: got weight ${weight} for "${name}", wanted an integer 0..256`);
    if (sorted[i + 1]?.name === name) throw new RangeError(`build ring: got "${name}" twice, wanted names once`);
  }
  return sorted;
}
