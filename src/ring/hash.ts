// SPDX-License-Identifier: Apache-2.0

/**
 * Spreads a 32-bit integer over all 32 bits; a bijection. Returns 0..2^32-1.
 * Constants: "lowbias32" of C. Wellons' hash prospector, two multiplications with low bias.
 */
export function mix32(value: number): number {
  let h = Math.imul(value ^ (value >>> 16), 0x7feb352d);
  h = Math.imul(h ^ (h >>> 15), 0x846ca68b);
  return (h ^ (h >>> 16)) >>> 0;
}

/** Scales a 32-bit hash to 0..bound-1 without a division. `bound` up to 2^21: the product stays exact in a double. */
export function scale(hash: number, bound: number): number {
  return Math.floor((hash * bound) / 0x1_0000_0000);
}

/**
 * A 64-bit hash of a name as two independent 32-bit halves. Not keyed: the same name gives the same hash on every node.
 *
 * Each half takes every UTF-16 unit by xor, multiplication with its own odd constant and a rotation (so that high bits reach
 * low ones); a step is a bijection of the half's state. The end mixes the length in and each half into the other.
 */
export function hashName(name: string): readonly [number, number] {
  let a = 0x243f6a88; // the fraction of pi: nothing up the sleeve
  let b = 0x85a308d3 | 0;
  for (let i = 0; i < name.length; i++) {
    const unit = name.charCodeAt(i);
    a = Math.imul(a ^ unit, 0x9e3779b1);
    a = (a << 13) | (a >>> 19);
    b = Math.imul(b ^ unit, 0x85ebca77);
    b = (b << 17) | (b >>> 15);
  }
  const first = mix32(a ^ name.length ^ Math.imul(b, 0xc2b2ae3d));
  return [first, mix32(b ^ Math.imul(first, 0x27d4eb2f))];
}
