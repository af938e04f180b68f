// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sipHash, sipHash13 } from '../../src/ring/siphash.js';

const count = (n: number): Uint8Array => Uint8Array.from({ length: n }, (_, i) => i);
const key = count(16);

// The reference implementation's vectors: key 00..0f, input 00, 01, .. of n bytes.
const vectors24 = [
  0x726fdb47dd0e0e31n,
  0x74f839c593dc67fdn,
  0x0d6c8009d9a94f5an,
  0x85676696d7fb7e2dn,
  0xcf2794e0277187b7n,
  0x18765564cd99a68dn,
  0xcbc9466e58fee3cen,
  0xab0200f58b01d137n,
  0x93f5f5799a932462n,
  0x9e0082df0ba9e4b0n,
];
const vectors13 = [
  0xabac0158050fc4dcn,
  0xc9f49bf37d57ca93n,
  0x82cb9b024dc7d44dn,
  0x8bf80ab8e7ddf7fbn,
  0xcf75576088d38328n,
  0xdef9d52f49533b67n,
  0xc50d2b50c59f22a7n,
  0xd3927d989bb11140n,
  0x369095118d299a8en,
  0x25a48eb36c063de4n,
  0x79de85ee92ff097fn,
];

test('siphash: SipHash-2-4 gives the published vectors', () => {
  assert.deepEqual(
    vectors24.map((_, n) => sipHash(2, 4, key, count(n))),
    vectors24,
  );
  assert.equal(sipHash(2, 4, key, count(15)), 0xa129ca6149be45e5n);
});

test('siphash: SipHash-1-3 gives the known vectors', () => {
  assert.deepEqual(
    vectors13.map((_, n) => sipHash13(key, count(n))),
    vectors13,
  );
  // CPython 3.11 with PYTHONHASHSEED=0 (a key of zeros): hash(b'123456789abcdefg').
  assert.equal(sipHash13(new Uint8Array(16), Buffer.from('123456789abcdefg')), 0x2b1aa8d688793027n);
});

test('siphash: the length counts modulo 256, and a key of another size is refused', () => {
  assert.notEqual(sipHash13(key, new Uint8Array(300)), sipHash13(key, new Uint8Array(44)));
  assert.throws(() => sipHash13(count(15), count(1)), /got a key of 15 bytes, wanted 16/);
});
