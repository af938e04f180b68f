// SPDX-License-Identifier: Apache-2.0

/** Of the time that passes, how much the steady clock gains or loses at most to meet the machine's. */
const SLEW = 0.1;

/**
 * Time of day, whole Unix ms, that goes on evenly from where `wall` was at first and follows it slowly: when the machine's clock is set an hour
 * on or back, nothing that is to last minutes ends early. `steady`: ms of a clock that is never set.
 */
export function openClock(wall: () => number, steady: () => number): () => number {
  let last = steady();
  let ahead = wall() - last;
  return () => {
    const now = steady();
    const most = (now - last) * SLEW;
    ahead += Math.max(-most, Math.min(most, wall() - now - ahead));
    last = now;
    return Math.round(now + ahead);
  };
}

/** This process's. */
export const timeOfDay = openClock(
  () => Date.now(),
  () => performance.now(),
);
