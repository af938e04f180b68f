// SPDX-License-Identifier: Apache-2.0
import { messageOf } from '../../model/errors.js';
import type { Forwarding, HealthCheck } from '../../model/objects.js';

/** Where one check goes. */
export interface CheckTarget {
  readonly check: HealthCheck;
  readonly address: string;
  readonly port: number;
  /** Milliseconds from its beginning to its end. */
  readonly timeoutMs: number;
  /** `address` is a VIP, to be asked on this backend of the pool, through the tunnel; null: it is asked as it is. */
  readonly through: { readonly pool: string; readonly address: string; readonly forwarding: Forwarding } | null;
  /** The local port; any when left out. */
  readonly fromPort?: number;
}

/** How a check ended. 'error': no connection, or none that lasted; 'answer': not the one that was expected. */
export interface Outcome {
  readonly result: 'ok' | 'timeout' | 'error' | 'answer';
  /** What was wrong, in a few words; '' when nothing was. */
  readonly detail: string;
}

/** The options of a socket that comes from there. */
export const comingFrom = ({ fromPort }: CheckTarget): { readonly localPort?: number } =>
  fromPort === undefined ? {} : { localPort: fromPort };

export const OK: Outcome = { result: 'ok', detail: '' };

/** One that has no answer to be wrong. */
export const failed = (error: unknown): Outcome => ({ result: 'error', detail: messageOf(error).slice(0, 200) });
export const wrong = (detail: string): Outcome => ({ result: 'answer', detail: detail.slice(0, 200) });

/** A timer that comes this much too late tells of a process that had no time, ms. */
const LATE_MS = 30;

/** Runs `begin`, which answers how to let go of everything it holds, until it calls `done` or the time is over. Never rejects. */
export function attempt(timeoutMs: number, begin: (done: (outcome: Outcome) => void) => () => void): Promise<Outcome> {
  return new Promise((resolve) => {
    const due = performance.now() + timeoutMs;
    let end: () => void = () => undefined;
    let isOver = false;
    let isLate = false;
    const done = (outcome: Outcome): void => {
      if (isOver) return;
      isOver = true;
      clearTimeout(timer);
      end();
      resolve(outcome);
    };
    /** What has come is looked at first. And when it was this process that had no time, the answer gets as much more, once. */
    const timeUp = (): void => {
      const late = performance.now() - due;
      const isFirst = !isLate;
      isLate = true;
      if (isFirst && late > LATE_MS) timer = setTimeout(timeUp, Math.min(late, timeoutMs));
      else setImmediate(() => done({ result: 'timeout', detail: `no answer within ${Math.round(timeoutMs)} ms` }));
    };
    let timer = setTimeout(timeUp, timeoutMs);
    try {
      end = begin(done);
    } catch (error) {
      done(failed(error));
    }
    if (isOver) end();
  });
}
