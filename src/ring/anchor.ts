// SPDX-License-Identifier: Apache-2.0
import { scale } from './hash.js';

/** One chunk of matching: some 0.2 ms before the JIT has compiled it, 0.01 ms after. */
const probesPerStep = 2048;
/** Scores are step x this / weight, rounded down: below 2^17 x 2^13, so a 32-bit integer, and unequal for any two steps of one member. */
const scoreUnit = 8192;

/** The configured members in name order as arrays, index i from 0: weight 1..256 and the two halves of the name's hash. */
export interface AnchorMembers {
  readonly weight: Int32Array;
  readonly hashA: Uint32Array;
  readonly hashB: Uint32Array;
}

/**
 * How many of `size` rows each weight gets: largest remainder, ties to the lower index. Every count is less than one row from
 * size x weight / sum. Exact integers. At least one weight is positive.
 */
export function apportion(weight: Int32Array, size: number): Int32Array {
  let total = 0;
  for (const w of weight) total += w;
  const rows = weight.map((w) => Math.floor((w * size) / total));
  const remainder = weight.map((w) => (w * size) % total);
  let left = size;
  for (const r of rows) left -= r;
  const byRemainder = weight
    .map((_, i) => i)
    .sort((i, j) => (remainder[j] as number) - (remainder[i] as number) || i - j);
  for (const i of byRemainder.subarray(0, left)) rows[i] = (rows[i] as number) + 1;
  return rows;
}

/**
 * The anchor: gives every one of `size` rows (a prime) to a member, each in exact proportion to its weight (see apportion), live or not.
 * A generator that yields between chunks of work; returns 1-based member indexes, without a hole.
 *
 * As in Maglev (Eisenbud et al., NSDI 2016, section 3.4), each member walks all rows in an order of its own, start and stride taken
 * from its name, and wants the first it can have. Not as in Maglev, who gets a row is not decided by whose turn came first but by the
 * row: it prefers the member that reaches it in the fewest steps for its weight (step / weight, then name order) and leaves a worse one
 * for it, who then walks on. With the row counts fixed, that is the stable matching of Gale and Shapley (1962): there is one result,
 * whatever the order of the proposals, no turns need scheduling, and since a preference does not depend on who else is configured,
 * removing a member moves about half as many rows of others as Maglev does (bench/ring.ts measures both). None at all is not to be had:
 * then each row must rank all members once and for all, which is rendezvous hashing, and shares would stray by 10 % at 100 rows a member.
 *
 * Costs about size x ln(size) probes, as Maglev does.
 */
export function* anchorSteps(members: AnchorMembers, size: number): Generator<void, Uint16Array, void> {
  const { weight, hashA, hashB } = members;
  const matching: Matching = {
    weight,
    owners: new Uint16Array(size),
    scores: new Int32Array(size).fill(0x7fff_ffff),
    position: Int32Array.from(hashA, (hash) => scale(hash, size)),
    stride: Int32Array.from(hashB, (hash) => 1 + scale(hash, size - 1)),
    step: new Int32Array(weight.length),
    missing: apportion(weight, size),
    queue: [],
  };
  yield;
  for (const [member, rows] of matching.missing.entries()) if (rows > 0) matching.queue.push(member);
  while (matching.queue.length > 0) {
    match(matching);
    yield;
  }
  return matching.owners;
}

/** A matching under way. By row: 1-based owner and its score (lower is better). By member: where it stands and what it lacks. */
interface Matching {
  readonly weight: Int32Array;
  readonly owners: Uint16Array;
  readonly scores: Int32Array;
  readonly position: Int32Array;
  readonly stride: Int32Array;
  readonly step: Int32Array;
  readonly missing: Int32Array;
  queue: number[]; // members with rows missing, each once
}

/** The next probes of a matching, `probesPerStep` of them. A plain function: a generator's body is no place for a hot loop. */
function match(matching: Matching): void {
  const { weight, owners, scores, position, stride, step, missing, queue } = matching;
  const size = owners.length;
  let budget = probesPerStep;
  let head = 0;
  while (head < queue.length && budget > 0) {
    const member = queue[head] as number;
    const perStep = scoreUnit / (weight[member] as number);
    const jump = stride[member] as number;
    let row = position[member] as number;
    let taken = step[member] as number;
    let want = missing[member] as number;
    for (; want > 0 && budget > 0; budget--) {
      taken++;
      const score = (taken * perStep) | 0;
      const best = scores[row] as number;
      if (score <= best) {
        const rival = (owners[row] as number) - 1; // never the member itself: it meets no row twice
        if (score < best || member < rival) {
          owners[row] = member + 1;
          scores[row] = score;
          want--;
          if (rival >= 0) {
            const lacked = missing[rival] as number;
            missing[rival] = lacked + 1;
            if (lacked === 0) queue.push(rival);
          }
        }
      }
      row += jump;
      if (row >= size) row -= size;
    }
    position[member] = row;
    step[member] = taken;
    missing[member] = want;
    if (want === 0) head++;
  }
  matching.queue = queue.slice(head);
}
