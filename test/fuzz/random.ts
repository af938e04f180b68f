// SPDX-License-Identifier: Apache-2.0
import { randomFrom } from '../unit/random.js';

export interface Random {
  /** 0 to limit - 1. */
  below(limit: number): number;
  /** True once in `times`. */
  once(times: number): boolean;
  pick<T>(list: readonly T[]): T;
  bytes(count: number): Buffer;
}

export function random(seed: number): Random {
  const next = randomFrom(seed);
  const below = (limit: number): number => Math.floor(next() * limit);
  return {
    below,
    once: (times) => below(times) === 0,
    pick: (list) => list[below(list.length)] as (typeof list)[number],
    bytes: (count) => {
      const drawn = Buffer.allocUnsafe(count);
      for (let at = 0; at < count; at++) drawn[at] = below(256);
      return drawn;
    },
  };
}
