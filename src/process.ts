// SPDX-License-Identifier: Apache-2.0
// What the processes that stay have in common: a log, and an end.
import { type Logger, pino } from 'pino';

export type { Logger };

/** Structured lines on stdout. */
export const openLog = (): Logger => pino({ base: null });

/** Resolves with the name of the signal that asks this process to stop. */
export const stopped = (): Promise<string> =>
  new Promise((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => resolve(signal));
  });
