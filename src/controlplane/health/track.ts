// SPDX-License-Identifier: Apache-2.0
// From results to "up" and "down", for one backend as one node sees it. Times are ms of a monotonic clock.
import { timeoutOf } from '../../model/health-schema.js';
import type { HealthCheck } from '../../model/objects.js';

export interface Track {
  up: boolean;
  /** Results in a row that say otherwise. */
  streak: number;
  /** Whether there has been a result. */
  known: boolean;
  /** How often it went down lately, and since when it has been what it is. */
  downs: number;
  since: number;
}

/** After so long up, its downs are forgotten. */
const FORGET_MS = 600_000;
/** What damping may ask of one that comes back: this long well. */
const HOLD_MAX_SECONDS = 300;
/** Downs within FORGET_MS from which on a backend is said to flap. */
export const FLAPS = 3;

/** As the nodes have it; `isNew`: nobody has seen it yet, so the first result decides. */
export const openTrack = (up: boolean, isNew: boolean, { fall }: HealthCheck, now: number): Track => ({
  up,
  streak: isNew ? fall - 1 : 0,
  known: false,
  downs: 0,
  since: now,
});

/**
 * Results in a row that bring it back. Twice as many with each time it went down lately: a backend that flaps moves the rows of others, too, so it has to be well for longer and longer.
 */
export const riseNeeded = ({ downs }: Track, { rise, interval }: HealthCheck): number =>
  Math.max(rise, Math.min(rise * 2 ** Math.max(0, downs - 1), Math.ceil(HOLD_MAX_SECONDS / interval)));

/** Takes in one result; true when it is the one that makes it up or down. */
export function takeResult(track: Track, isWell: boolean, check: HealthCheck, now: number): boolean {
  const isFirst = !track.known;
  track.known = true;
  if (track.up && track.downs > 0 && now - track.since > FORGET_MS) track.downs = 0;
  if (isWell === track.up) {
    track.streak = 0;
    return isFirst;
  }
  track.streak++;
  if (track.streak < (track.up ? check.fall : riseNeeded(track, check))) return isFirst;
  track.up = isWell;
  track.streak = 0;
  track.since = now;
  if (!isWell) track.downs++;
  return true;
}

/**
 * When the next check begins, ms after the beginning of the last. While results say that it is down they come a little faster, so that the last of `fall` has had its
 * time when `fall` intervals are over; that is what `timeout` up to half an interval can be promised.
 */
export function spacingMs({ up, streak }: Track, check: HealthCheck): number {
  const { interval, fall } = check;
  const timeout = timeoutOf(check);
  const isFailing = up && streak > 0;
  const seconds = fall === 1 ? interval - timeout : isFailing ? interval - timeout / (fall - 1) : interval;
  return Math.max(seconds, timeout, 0.05) * 1000;
}
