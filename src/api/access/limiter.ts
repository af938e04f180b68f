// SPDX-License-Identifier: Apache-2.0

/** Whether one more is within the rate; if not, after how many seconds it would be, and whether the one before still was. */
export type Taken =
  | { readonly ok: true }
  | { readonly ok: false; readonly waitSeconds: number; readonly isFirst: boolean };

export interface Limiter {
  take(key: string): Taken;
}

/**
 * A token bucket for each key: `perSecond` on average, `burst` at once. Holds the `capacity` keys used last; one that was forgotten
 * begins with a full bucket. `clock` in seconds.
 */
export function openLimiter(
  perSecond: number,
  burst: number,
  capacity = 10_000,
  clock: () => number = () => performance.now() / 1000,
): Limiter {
  const buckets = new Map<string, { left: number; at: number; isDry: boolean }>(); // oldest use first
  return {
    take(key) {
      const now = clock();
      const bucket = buckets.get(key) ?? { left: burst, at: now, isDry: false };
      buckets.delete(key);
      buckets.set(key, bucket);
      for (const oldest of buckets.keys()) {
        if (buckets.size <= capacity) break;
        buckets.delete(oldest);
      }
      bucket.left = Math.min(burst, bucket.left + (now - bucket.at) * perSecond);
      bucket.at = now;
      const isFirst = !bucket.isDry;
      bucket.isDry = bucket.left < 1;
      if (bucket.isDry) return { ok: false, waitSeconds: Math.ceil((1 - bucket.left) / perSecond), isFirst };
      bucket.left -= 1;
      return { ok: true };
    },
  };
}
