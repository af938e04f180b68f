// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openClock } from '../../src/controlplane/clock.js';

const HOUR = 3_600_000;

/** A machine with a clock that can be set. */
function machine() {
  const at = { wall: 1_000 * HOUR, steady: 5_000 };
  const now = openClock(
    () => at.wall,
    () => at.steady,
  );
  const pass = (ms: number): number => {
    at.wall += ms;
    at.steady += ms;
    return now();
  };
  return { at, pass };
}

test('clock: it goes as the machine’s does while nobody sets that', () => {
  const { at, pass } = machine();
  for (let step = 0; step < 100; step++) assert.equal(pass(1_234), at.wall);
});

for (const jump of [HOUR, -HOUR])
  test(`clock: set by ${jump} ms, it is off by a tenth of the time that passes at most, never goes back, and gets there`, () => {
    const { at, pass } = machine();
    pass(1_000);
    const before = at.wall;
    at.wall += jump;
    let last = before;
    for (let minute = 1; minute <= 15; minute++) {
      const now = pass(60_000);
      assert.ok(now > last);
      assert.ok(Math.abs(now - (before + minute * 60_000)) <= minute * 6_000 + 1, `after ${minute} minutes`);
      last = now;
    }
    for (let hour = 0; hour < 11; hour++) pass(HOUR);
    assert.equal(pass(1), at.wall);
  });
