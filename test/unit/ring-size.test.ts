// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isPrime, ringSize } from '../../src/ring/size.js';

test('ring size: chosen, it is the smallest prime of 100 rows a member within 251..131071', () => {
  for (const [members, size] of [
    [0, 251],
    [1, 251],
    [2, 251],
    [3, 307],
    [10, 1009],
    [100, 10007],
    [1000, 100003],
    [1310, 131009],
    [1311, 131071],
    [60000, 131071],
  ] as const)
    assert.equal(ringSize(members, 0), size, `${members} members`);
});

test('ring size: a wanted prime in 251..131071 is taken, anything else refused', () => {
  for (const size of [251, 65537, 131071]) assert.equal(ringSize(5, size), size);
  for (const size of [-7, 1, 241, 252, 65536, 131101, 251.5, Number.NaN])
    assert.throws(
      () => ringSize(5, size),
      new RegExp(`RangeError: choose ring size: got ${size}, wanted 0 or a prime in 251..131071`),
    );
});

test('ring size: primes are told from the rest', () => {
  const primes = Array.from({ length: 60 }, (_, i) => i).filter(isPrime);
  assert.deepEqual(primes, [2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59]);
  for (const square of [251 * 251, 359 * 359, 361 * 361]) assert.equal(isPrime(square), false);
});
