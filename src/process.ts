// SPDX-License-Identifier: Apache-2.0
// What the processes that stay have in common: a log, and an end.
import { type Logger, pino } from 'pino';
import type { EventLog } from './model/events.js';

export type { Logger };

/** Structured lines on stdout. */
export const openLog = (): Logger => pino({ base: null });

/** Resolves with the name of the signal that asks this process to stop. */
export const stopped = (): Promise<string> =>
  new Promise((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => resolve(signal));
  });

/** Calls back for each SIGHUP, until the returned function is called; without it a SIGHUP ends the process. */
export function onHangup(listener: () => void): () => void {
  process.on('SIGHUP', listener);
  return () => void process.off('SIGHUP', listener);
}

const levels = { info: 'info', warning: 'warn', error: 'error' } as const;

/** Has the log tell the events whose types begin with `prefix`, too. */
export function logEvents(log: Logger, events: EventLog, prefix: string): void {
  events.subscribe(({ type, severity, message }) => {
    if (type.startsWith(prefix)) log[levels[severity]]({ event: type }, message);
  });
}
