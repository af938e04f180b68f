// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { runSwaps } from '../chaos/swaps.js';

test('swaps: no live frame is lost while programs take each other’s place', (t) => {
  const { frames, lost, wrong, swaps } = runSwaps(2_000_000, 50);
  t.diagnostic(`${frames} frames, ${swaps} swaps`);
  assert.deepEqual([lost, wrong], [0, 0]);
  assert.ok(frames >= 2_000_000 && swaps >= 50);
});
