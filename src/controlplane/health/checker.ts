// SPDX-License-Identifier: Apache-2.0
// Checks backends again and again, each at its own times.
import { timeoutOf } from '../../model/health-schema.js';
import type { HealthCheck } from '../../model/objects.js';
import type { CheckTarget, Outcome } from './attempt.js';
import { openTrack, spacingMs, type Track, takeResult } from './track.js';

/** A backend to look after. */
export interface Subject {
  readonly pool: string;
  readonly backend: string;
  readonly check: HealthCheck;
  readonly address: string;
  readonly port: number;
  readonly through: CheckTarget['through'];
}

/** What this node knows of it. */
export interface Checked {
  readonly subject: Subject;
  readonly track: Readonly<Track>;
  readonly last: (Outcome & { readonly at: number; readonly latencyMs: number }) | null; // `at`: Unix ms
  /** What was wrong when something last was. */
  readonly lastError: string | null;
}

export interface Checker {
  /** Begins to look after it; `up` and `isNew` as in openTrack. */
  add(subject: Subject, up: boolean, isNew: boolean): Checked;
  remove(checked: Checked): void;
  /** Checks by result, and how long they took: counts by bucket of DURATIONS, the last one beyond; the sum in seconds. */
  counts(): {
    readonly results: Readonly<Record<Outcome['result'], number>>;
    readonly durations: readonly number[];
    readonly sum: number;
  };
  /** Checks that wait for their turn, because RUNNING_MAX others run. */
  waiting(): number;
  close(): void;
}

/** Upper ends of the buckets of durations, seconds. */
export const DURATIONS: readonly number[] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];
/** At a time: each holds a socket, and backends that do not answer hold theirs for the whole timeout. */
const RUNNING_MAX = 1000;
/** Of the time between two checks, so that they do not fall together. Never longer: what is promised about `fall` intervals holds. */
const JITTER = 0.1;
/** How long one turn of the event loop may be used, ms. */
const SLICE_MS = 4;
/** Timers of one duration share a list: durations are rounded to these. */
const TICK_MS = 10;

function bucketOf(seconds: number): number {
  const bucket = DURATIONS.findIndex((end) => seconds <= end);
  return bucket < 0 ? DURATIONS.length : bucket;
}

type Own = { -readonly [K in keyof Checked]: Checked[K] } & {
  track: Track;
  timer: NodeJS.Timeout | null;
  gone: boolean;
};

/** `run` as runCheck; `told` is called after a result that made a backend up or down, or was its first. */
export function openChecker(run: (target: CheckTarget) => Promise<Outcome>, told: (checked: Checked) => void): Checker {
  const all = new Set<Own>();
  const queue: Own[] = [];
  const results = { ok: 0, timeout: 0, error: 0, answer: 0 };
  const durations = new Array<number>(DURATIONS.length + 1).fill(0);
  let sum = 0;
  let running = 0;
  let scheduled = false;

  function arm(own: Own, ms: number): void {
    own.timer = setTimeout(
      () => {
        own.timer = null;
        queue.push(own);
        next();
      },
      Math.round(ms / TICK_MS) * TICK_MS,
    );
  }

  /** Begins what is due, for a part of a turn of the event loop: a thousand sockets take longer than one should. */
  function next(): void {
    if (scheduled) return;
    const begun = performance.now();
    while (running < RUNNING_MAX && queue.length > 0) {
      if (performance.now() - begun > SLICE_MS) {
        scheduled = true;
        setImmediate(() => {
          scheduled = false;
          next();
        });
        return;
      }
      const own = queue.shift();
      if (!own || own.gone) continue;
      running++;
      void once(own);
    }
  }

  async function once(own: Own): Promise<void> {
    const { check, address, port, through } = own.subject;
    const begun = performance.now();
    const outcome = await run({ check, address, port, through, timeoutMs: timeoutOf(check) * 1000 });
    const now = performance.now();
    running--;
    if (!own.gone) {
      const seconds = (now - begun) / 1000;
      results[outcome.result]++;
      durations[bucketOf(seconds)] = (durations[bucketOf(seconds)] ?? 0) + 1;
      sum += seconds;
      if (outcome.detail !== '') own.lastError = outcome.detail;
      own.last = { ...outcome, at: Date.now(), latencyMs: now - begun };
      if (takeResult(own.track, outcome.result === 'ok', check, now)) told(own);
      const rest = spacingMs(own.track, check) * (1 - JITTER * Math.random()) - (performance.now() - begun);
      arm(own, Math.max(0, rest));
    }
    next();
  }

  return {
    add(subject, up, isNew) {
      const track = openTrack(up, isNew, subject.check, performance.now());
      const own: Own = { subject, track, last: null, lastError: null, timer: null, gone: false };
      all.add(own);
      arm(own, Math.random() * (isNew ? TICK_MS : subject.check.interval * 1000)); // many begin together: at a start
      return own;
    },
    remove(checked) {
      const own = checked as Own;
      own.gone = true;
      if (own.timer) clearTimeout(own.timer);
      all.delete(own);
    },
    counts: () => ({ results, durations, sum }),
    waiting: () => queue.length,
    close() {
      for (const own of all) {
        own.gone = true;
        if (own.timer) clearTimeout(own.timer);
      }
      all.clear();
      queue.length = 0;
    },
  };
}
