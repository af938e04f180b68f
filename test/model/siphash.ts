// SPDX-License-Identifier: Apache-2.0
// SipHash-1-3 in 32-bit halves: fast enough for millions of packets.

/** The 64-bit state words, low half first: v0 at 0 and 1, v1 at 2 and 3, ... */
const v = new Int32Array(8);

function add(a: number, b: number): void {
  const low = ((v[a] ?? 0) >>> 0) + ((v[b] ?? 0) >>> 0);
  v[a + 1] = (v[a + 1] ?? 0) + (v[b + 1] ?? 0) + (low > 0xffffffff ? 1 : 0);
  v[a] = low;
}

function rotateXor(a: number, by: number, with_: number): void {
  const low = v[a] ?? 0;
  const high = v[a + 1] ?? 0;
  v[a] = ((low << by) | (high >>> (32 - by))) ^ (v[with_] ?? 0);
  v[a + 1] = ((high << by) | (low >>> (32 - by))) ^ (v[with_ + 1] ?? 0);
}

function swap(a: number): void {
  const low = v[a] ?? 0;
  v[a] = v[a + 1] ?? 0;
  v[a + 1] = low;
}

function round(): void {
  add(0, 2);
  rotateXor(2, 13, 0);
  swap(0);
  add(4, 6);
  rotateXor(6, 16, 4);
  add(0, 6);
  rotateXor(6, 21, 0);
  add(4, 2);
  rotateXor(2, 17, 4);
  swap(4);
}

function compress(low: number, high: number): void {
  v[6] = (v[6] ?? 0) ^ low;
  v[7] = (v[7] ?? 0) ^ high;
  round();
  v[0] = (v[0] ?? 0) ^ low;
  v[1] = (v[1] ?? 0) ^ high;
}

/** High 32 bits of SipHash-1-3 of `data` under a key of four little-endian words. */
export const sipHashHigh = (key: Uint32Array, data: Buffer): number => sipHash(key, data)[1];

/** SipHash-1-3 of `data` under a key of four little-endian words: low and high 32 bits. */
export function sipHash(key: Uint32Array, data: Buffer): [number, number] {
  const [k0 = 0, k1 = 0, k2 = 0, k3 = 0] = key;
  v[0] = k0 ^ 0x70736575; // "somepseudorandomlygeneratedbytes", as the paper has it
  v[1] = k1 ^ 0x736f6d65;
  v[2] = k2 ^ 0x6e646f6d;
  v[3] = k3 ^ 0x646f7261;
  v[4] = k0 ^ 0x6e657261;
  v[5] = k1 ^ 0x6c796765;
  v[6] = k2 ^ 0x79746573;
  v[7] = k3 ^ 0x74656462;
  const whole = data.length & ~7;
  for (let at = 0; at < whole; at += 8) compress(data.readInt32LE(at), data.readInt32LE(at + 4));
  const tail = [0, 0];
  for (let at = whole; at < data.length; at++) {
    const word = (at - whole) >> 2;
    tail[word] = (tail[word] ?? 0) | ((data[at] ?? 0) << (8 * (at & 3)));
  }
  compress(tail[0] ?? 0, (tail[1] ?? 0) | (data.length << 24));
  v[4] = (v[4] ?? 0) ^ 0xff;
  round();
  round();
  round();
  const half = (at: number): number => ((v[at] ?? 0) ^ (v[at + 2] ?? 0) ^ (v[at + 4] ?? 0) ^ (v[at + 6] ?? 0)) >>> 0;
  return [half(0), half(1)];
}
