// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { REASON_NAMES } from '../../src/dataplane/reasons.js';
import { fuzz } from '../fuzz/fuzz.js';
import { random } from '../fuzz/random.js';
import { runSteps, type Tried } from '../fuzz/run.js';
import { randomProgram, randomWorld } from '../fuzz/setup.js';
import { makeSteps, type Step } from '../fuzz/steps.js';
import { openSplitting } from '../fuzz/tables.js';
import { pinTo } from '../support/packet-run.js';
import { chosenSeed } from '../unit/random.js';

/** What random packets cannot do: other tests reach these. */
const ELSEWHERE = ['no_headroom', 'icmp_limited', 'rate_limited', 'internal'];
const MIN_FRAME = 14; // of a test run

const seed = Number(process.env.FUZZ_SEED ?? chosenSeed());
before(() => pinTo(0));

test('xdp_lb: what the reference model says of 200,000 random packets', async (t) => {
  t.diagnostic(`seed ${seed}`);
  const tried: Tried = { frames: 0, stalls: 0, reasons: [] };
  const found = await fuzz({ seed, packets: 200_000, kinds: [], flags: 0xffff }, tried);
  t.diagnostic(`${tried.stalls} nodes not judged to their end, for the machine stood still`);
  assert.equal(found, null, `seed ${seed}, ${found}`);
  const missed = REASON_NAMES.filter((name, reason) => !tried.reasons[reason] && !ELSEWHERE.includes(name));
  assert.deepEqual(missed, []);
});

test('xdp_lb: what the reference model says of packets cut at every byte', async (t) => {
  t.diagnostic(`seed ${seed}`);
  const draws = random(seed);
  const config = randomProgram(draws);
  const limits = { kinds: [], largest: 300, faultless: true };
  const whole = makeSteps(draws, randomWorld(random(seed), config), 120, limits);
  const cut = whole.flatMap((step): Step[] => {
    if (step === 'forget' || !('frame' in step)) return [step];
    const lengths = Array.from({ length: step.frame.length - MIN_FRAME + 1 }, (_, at) => MIN_FRAME + at);
    return lengths.map((linear) => ({ frame: step.frame.subarray(0, linear), linear }));
  });
  const path = await openSplitting(config);
  const tried: Tried = { frames: 0, stalls: 0, reasons: [] };
  assert.equal(await runSteps(path, randomWorld(random(seed), config), cut, tried), null, `seed ${seed}`);
  path.close();
  assert.ok(tried.frames > 5000, `${tried.frames} frames`);
});
