// SPDX-License-Identifier: Apache-2.0

export const minRingSize = 251;
export const maxRingSize = 131071;
const rowsPerMember = 100;

/** Whether `n` is a prime. By trial division: meant for ring sizes. */
export function isPrime(n: number): boolean {
  if (!Number.isInteger(n) || n < 2) return false;
  for (let d = 2; d * d <= n; d++) if (n % d === 0) return false;
  return true;
}

/**
 * The ring size, in rows, of a pool. `wanted` 0 chooses the smallest prime of at least 100 rows a member within 251..131071 (both are prime).
 * Any other `wanted` is returned as it is. Throws RangeError unless that is a prime in 251..131071.
 */
export function ringSize(memberCount: number, wanted: number): number {
  if (wanted === 0) {
    let size = Math.min(Math.max(minRingSize, rowsPerMember * memberCount), maxRingSize);
    while (!isPrime(size)) size++;
    return size;
  }
  if (!isPrime(wanted) || wanted < minRingSize || wanted > maxRingSize)
    throw new RangeError(`choose ring size: got ${wanted}, wanted 0 or a prime in ${minRingSize}..${maxRingSize}`);
  return wanted;
}
