// SPDX-License-Identifier: Apache-2.0

/** Outcome of comparing counts with the shares they should have. */
export interface Fit {
  readonly statistic: number;
  readonly limit: number; // fits while statistic <= limit
  readonly fits: boolean;
}

/**
 * Pearson's chi-square of `got` (counts) against `wanted` (shares, any scale). The limit is the 99.999 % quantile by
 * Wilson and Hilferty's cube-root approximation (1931), a few percent high: a right balancer fails less than once in
 * 100,000 comparisons. A count where no share is wanted never fits; members without a share and without counts do not matter.
 */
export function chiSquare(got: readonly number[], wanted: readonly number[]): Fit {
  const total = got.reduce((sum, count) => sum + count, 0);
  const weight = wanted.reduce((sum, share) => sum + share, 0);
  let statistic = 0;
  let members = 0;
  wanted.forEach((share, index) => {
    const count = got[index] ?? 0;
    const expected = weight === 0 ? 0 : (total * share) / weight;
    if (expected > 0) members++;
    if (expected > 0) statistic += (count - expected) ** 2 / expected;
    else if (count > 0) statistic = Number.POSITIVE_INFINITY;
  });
  const freedom = Math.max(1, members - 1);
  const spread = 2 / (9 * freedom);
  const limit = freedom * (1 - spread + 4.265 * Math.sqrt(spread)) ** 3;
  return { statistic, limit, fits: statistic <= limit };
}
