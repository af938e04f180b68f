// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  FLAPS,
  openTrack,
  riseNeeded,
  spacingMs,
  type Track,
  takeResult,
} from '../../src/controlplane/health/track.js';
import { timeoutOf } from '../../src/model/health-schema.js';
import type { HealthCheck } from '../../src/model/objects.js';
import { chosenSeed, randomFrom } from './random.js';

const check: HealthCheck = { type: 'tcp', interval: 2, rise: 2, fall: 3, via: 'direct', slowStart: 0 };

/** Results in order, '+' and '-', a second apart from `at`: what it was after each, 'U' or 'd'. */
function play(track: Track, results: string, at = 0, of = check): string {
  return [...results]
    .map((result, i) => {
      takeResult(track, result === '+', of, at + i * 1000);
      return track.up ? 'U' : 'd';
    })
    .join('');
}

test('track: fall in a row take it out, rise in a row bring it back', () => {
  assert.equal(play(openTrack(true, false, check, 0), '--+--+---+-++-'), 'UUUUUUUUddddUU');
});

test('track: of one that nobody has seen yet the first result decides', () => {
  assert.equal(play(openTrack(true, true, check, 0), '-'), 'd');
  assert.equal(play(openTrack(true, true, check, 0), '+--'), 'UUU');
});

test('track: a new daemon goes on from what was agreed', () => {
  assert.equal(play(openTrack(true, false, check, 0), '--'), 'UU');
  assert.equal(play(openTrack(false, false, check, 0), '-+'), 'dd');
  assert.equal(play(openTrack(false, false, check, 0), '++'), 'dU');
});

test('track: its first result is told, then only what changes it', () => {
  const track = openTrack(true, false, check, 0);
  const told = [true, true, false, false, false, false, true, true].map((well, at) =>
    takeResult(track, well, check, at),
  );
  assert.deepEqual(told, [true, false, false, false, true, false, false, true]);
});

test('track: each time it went down lately doubles what it takes to come back, up to five minutes', () => {
  const track = openTrack(true, false, check, 0);
  const needed: number[] = [];
  for (let turn = 0; turn < 9; turn++) {
    assert.equal(play(track, '---', turn * 1000).at(-1), 'd');
    needed.push(riseNeeded(track, check));
    const well = play(track, '+'.repeat(riseNeeded(track, check)), turn * 1000);
    assert.match(well, /^d*U$/);
  }
  assert.deepEqual(needed, [2, 4, 8, 16, 32, 64, 128, 150, 150]);
  assert.equal(track.downs, 9);
  assert.ok(FLAPS <= 3);
});

test('track: after ten minutes up the past is forgotten', () => {
  const track = openTrack(true, false, check, 0);
  play(track, '---++---++++', 0);
  assert.equal(track.downs, 2);
  takeResult(track, true, check, 12_000 + 599_000);
  assert.equal(track.downs, 2);
  takeResult(track, true, check, 12_000 + 601_000);
  play(track, '---', 700_000);
  assert.equal(riseNeeded(track, check), 2);
});

test('spacing: down within fall intervals, whenever it breaks and however it does', () => {
  const seed = chosenSeed();
  console.log(`seed ${seed} (set SEED to repeat)`);
  const random = randomFrom(seed);
  for (let round = 0; round < 2000; round++) {
    const interval = 0.2 + random() * 10;
    const fall = 1 + Math.floor(random() * 6);
    const of: HealthCheck = { ...check, interval, fall, timeout: Math.max(0.05, random() * (interval / 2)) };
    const track = openTrack(true, false, of, 0);
    takeResult(track, true, of, 0);
    const broken = 0; // right after a check began that was still well: the worst moment
    const isSilent = random() < 0.5;
    let begun = broken + spacingMs(track, of);
    let ended = begun;
    while (track.up) {
      ended = begun + (isSilent ? timeoutOf(of) * 1000 : 1);
      takeResult(track, false, of, ended);
      if (track.up) begun = Math.max(ended, begun + spacingMs(track, of));
    }
    const took = ended - broken;
    assert.ok(took <= fall * interval * 1000 + 2, `${JSON.stringify(of)}: ${took} ms`);
    assert.ok(fall === 1 || took > (fall - 1) * interval * 500, `not much too early: ${JSON.stringify(of)}: ${took}`);
  }
});
