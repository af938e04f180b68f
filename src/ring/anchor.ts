// SPDX-License-Identifier: Apache-2.0
import { scale } from './hash.js';

/** One chunk of matching: half a millisecond while it is still interpreted, microseconds once compiled. */
const probesPerStep = 512;
/** What a step costs a member of weight 1; one of weight w pays the w-th part. Below 2^17 steps x 2^13 a score is a 32-bit integer. */
const stepCost = 8192;

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
  const rows = new Int32Array(weight.length);
  const order = new Float64Array(weight.length); // largest remainder first, then index; as numbers, for these sort without a callback
  let left = size;
  for (let i = 0; i < weight.length; i++) {
    const wanted = (weight[i] as number) * size;
    const whole = Math.floor(wanted / total);
    rows[i] = whole;
    left -= whole;
    order[i] = (total - (wanted - whole * total)) * 0x1_0000 + i;
  }
  for (const key of order.sort().subarray(0, left)) rows[key % 0x1_0000] = (rows[key % 0x1_0000] as number) + 1;
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
  const missing = apportion(weight, size);
  yield;
  const matching: Matching = {
    owners: new Uint16Array(size),
    scores: new Int32Array(size).fill(0x7fff_ffff),
    position: new Int32Array(weight.length),
    stride: new Int32Array(weight.length),
    cost: new Int32Array(weight.length),
    score: new Int32Array(weight.length),
    missing,
    queue: [],
    head: 0,
  };
  for (let i = 0; i < weight.length; i++) {
    matching.position[i] = scale(hashA[i] as number, size);
    matching.stride[i] = 1 + scale(hashB[i] as number, size - 1);
    matching.cost[i] = Math.floor(stepCost / (weight[i] as number));
    if ((missing[i] as number) > 0) matching.queue.push(i);
  }
  do {
    yield;
    match(matching);
  } while (matching.head < matching.queue.length);
  return matching.owners;
}

/** A matching under way. By row: 1-based owner and its score (lower is better). By member: where it stands and what it lacks. */
interface Matching {
  readonly owners: Uint16Array;
  readonly scores: Int32Array;
  readonly position: Int32Array;
  readonly stride: Int32Array;
  readonly cost: Int32Array;
  readonly score: Int32Array; // steps walked x cost
  readonly missing: Int32Array;
  readonly queue: number[]; // members with rows missing, each once from head on
  head: number;
}

/** The next probes of a matching, about `probesPerStep` of them. A plain function: a generator's body is no place for a hot loop. */
function match(matching: Matching): void {
  const { owners, scores, position, stride, cost, score, missing, queue } = matching;
  const size = owners.length;
  let budget = probesPerStep;
  let head = matching.head;
  while (head < queue.length && budget > 0) {
    const member = queue[head] as number;
    const perStep = cost[member] as number;
    const jump = stride[member] as number;
    const from = score[member] as number;
    const until = from + budget * perStep;
    let row = position[member] as number;
    let mine = from;
    let want = missing[member] as number;
    do {
      mine += perStep;
      let best = scores[row] as number;
      while (mine > best) {
        mine += perStep;
        row += jump;
        row -= size & ~((row - size) >> 31); // wraps without a branch, which would be mispredicted
        best = scores[row] as number;
      }
      const rival = (owners[row] as number) - 1; // never the member itself: it meets no row twice
      if (mine < best || member < rival) {
        owners[row] = member + 1;
        scores[row] = mine;
        want--;
        if (rival >= 0) {
          const lacked = missing[rival] as number;
          missing[rival] = lacked + 1;
          if (lacked === 0) queue.push(rival);
        }
      }
      row += jump;
      row -= size & ~((row - size) >> 31);
    } while (want > 0 && mine < until);
    budget -= (mine - from) / perStep;
    position[member] = row;
    score[member] = mine;
    missing[member] = want;
    if (want === 0) head++;
  }
  matching.head = head;
}
