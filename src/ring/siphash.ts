// SPDX-License-Identifier: Apache-2.0

const mask = (1n << 64n) - 1n;
const rotate = (x: bigint, by: bigint): bigint => ((x << by) | (x >> (64n - by))) & mask;

/**
 * SipHash-c-d (Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012) of `data` under a key of 16 bytes, as a 64-bit integer.
 * Key and data are read as little-endian 64-bit words; the last word carries the length modulo 256 in its top byte.
 * For control-plane use: BigInt, not fast. Throws RangeError unless the key is 16 bytes.
 */
export function sipHash(compressRounds: number, finalRounds: number, key: Uint8Array, data: Uint8Array): bigint {
  if (key.length !== 16) throw new RangeError(`hash with SipHash: got a key of ${key.length} bytes, wanted 16`);
  const k0 = littleEndian(key.subarray(0, 8));
  const k1 = littleEndian(key.subarray(8));
  let v0 = k0 ^ 0x736f6d6570736575n; // "somepseudorandomlygeneratedbytes"
  let v1 = k1 ^ 0x646f72616e646f6dn;
  let v2 = k0 ^ 0x6c7967656e657261n;
  let v3 = k1 ^ 0x7465646279746573n;
  const rounds = (count: number): void => {
    for (let i = 0; i < count; i++) {
      v0 = (v0 + v1) & mask;
      v2 = (v2 + v3) & mask;
      v1 = rotate(v1, 13n) ^ v0;
      v3 = rotate(v3, 16n) ^ v2;
      v0 = (rotate(v0, 32n) + v3) & mask;
      v2 = (v2 + v1) & mask;
      v3 = rotate(v3, 21n) ^ v0;
      v1 = rotate(v1, 17n) ^ v2;
      v2 = rotate(v2, 32n);
    }
  };
  const compress = (word: bigint): void => {
    v3 ^= word;
    rounds(compressRounds);
    v0 ^= word;
  };
  const tail = data.length & ~7;
  for (let i = 0; i < tail; i += 8) compress(littleEndian(data.subarray(i, i + 8)));
  compress((BigInt(data.length & 0xff) << 56n) | littleEndian(data.subarray(tail)));
  v2 ^= 0xffn;
  rounds(finalRounds);
  return v0 ^ v1 ^ v2 ^ v3;
}

/** SipHash-1-3, the variant of the packet path. Contract as sipHash. */
export function sipHash13(key: Uint8Array, data: Uint8Array): bigint {
  return sipHash(1, 3, key, data);
}

function littleEndian(bytes: Uint8Array): bigint {
  return bytes.reduceRight((word, byte) => (word << 8n) | BigInt(byte), 0n);
}
