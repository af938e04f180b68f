// SPDX-License-Identifier: Apache-2.0
import { scale } from './hash.js';

/** One chunk of matching: about 0.2 ms before the JIT has compiled it, 0.02 ms after. */
const probesPerStep = 2048;

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
  const total = weight.reduce((sum, w) => sum + w, 0);
  const rows = weight.map((w) => Math.floor((w * size) / total));
  const remainder = weight.map((w) => (w * size) % total);
  const left = size - rows.reduce((sum, r) => sum + r, 0);
  const byRemainder = [...weight.keys()].sort((i, j) => at(remainder, j) - at(remainder, i) || i - j);
  for (const i of byRemainder.slice(0, left)) rows[i] = at(rows, i) + 1;
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
  const count = weight.length;
  const owners = new Uint16Array(size);
  const steps = new Int32Array(size); // of a row: at which step its owner reached it
  const missing = apportion(weight, size); // of a member: rows it has yet to get
  const position = new Int32Array(count);
  const stride = new Int32Array(count);
  const taken = new Int32Array(count); // of a member: steps walked
  const stack = new Uint16Array(count); // members with a row missing, each once
  let top = 0;
  for (let i = count - 1; i >= 0; i--) {
    position[i] = scale(at(hashA, i), size);
    stride[i] = 1 + scale(at(hashB, i), size - 1);
    if (at(missing, i) > 0) stack[top++] = i;
  }
  yield;

  /** Up to `probesPerStep` probes; a plain function, for a generator's body keeps its variables in memory. */
  const match = (): void => {
    let budget = probesPerStep;
    while (top > 0 && budget > 0) {
      const member = at(stack, --top);
      const mine = at(weight, member);
      const jump = at(stride, member);
      let row = at(position, member);
      let step = at(taken, member);
      let want = at(missing, member);
      while (want > 0 && budget > 0) {
        budget--;
        step++;
        const rival = at(owners, row) - 1;
        // step / mine < rivalStep / theirs, in integers: at most 2^17 x 2^8. No member meets a row twice, so rival is not member.
        const lead = rival < 0 ? 1 : at(steps, row) * mine - step * at(weight, rival);
        if (lead > 0 || (lead === 0 && member < rival)) {
          owners[row] = member + 1;
          steps[row] = step;
          want--;
          if (rival >= 0) {
            const before = at(missing, rival);
            missing[rival] = before + 1;
            if (before === 0) stack[top++] = rival;
          }
        }
        row += jump;
        if (row >= size) row -= size;
      }
      position[member] = row;
      taken[member] = step;
      missing[member] = want;
      if (want > 0) stack[top++] = member;
    }
  };

  while (top > 0) {
    match();
    yield;
  }
  return owners;
}

/** Reads a typed array at an index known to be inside. */
function at(array: Int32Array | Uint32Array | Uint16Array, index: number): number {
  return array[index] as number;
}
