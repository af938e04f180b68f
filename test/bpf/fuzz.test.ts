// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { REASON_NAMES } from '../../src/dataplane/reasons.js';
import { fuzz } from '../fuzz/fuzz.js';
import type { Tried } from '../fuzz/run.js';
import { pinTo } from '../support/packet-run.js';
import { chosenSeed } from '../unit/random.js';

/** What random packets cannot do: other tests reach these. */
const ELSEWHERE = ['no_headroom', 'icmp_limited', 'rate_limited', 'internal'];

test('xdp_lb: what the reference model says of 200,000 random packets', async (t) => {
  const seed = Number(process.env.FUZZ_SEED ?? chosenSeed());
  t.diagnostic(`seed ${seed}`);
  pinTo(0);
  const tried: Tried = { frames: 0, stalls: 0, reasons: [] };
  const found = await fuzz({ seed, packets: 200_000, kinds: [], flags: 0xffff }, tried);
  t.diagnostic(`${tried.stalls} nodes not judged to their end, for the machine stood still`);
  assert.equal(found, null, `seed ${seed}, ${found}`);
  const missed = REASON_NAMES.filter((name, reason) => !tried.reasons[reason] && !ELSEWHERE.includes(name));
  assert.deepEqual(missed, []);
});
