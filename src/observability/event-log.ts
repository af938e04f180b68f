// SPDX-License-Identifier: Apache-2.0
import type { EventLog, FairleadEvent } from '../model/events.js';

/** Keeps the newest `capacity` events in memory. A listener that throws is the listener's own trouble: it must not. */
export function openEventLog(capacity = 10_000, clock: () => number = Date.now): EventLog {
  let kept: FairleadEvent[] = [];
  let newest = 0;
  const byType = new Map<string, number>();
  const listeners = new Set<(event: FairleadEvent) => void>();
  return {
    emit(event) {
      const told = { id: ++newest, at: new Date(clock()).toISOString(), ...event };
      kept.push(told);
      if (kept.length >= 2 * capacity) kept = kept.slice(-capacity); // seldom, so that each costs little
      byType.set(event.type, (byType.get(event.type) ?? 0) + 1);
      for (const listener of listeners) listener(told);
    },
    since(id) {
      const events = kept.slice(-capacity).filter((event) => event.id > id);
      const first = events[0]?.id ?? newest + 1;
      return { events, lost: Math.max(0, first - 1 - Math.max(0, id)) };
    },
    subscribe(listener) {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
    counts: () => ({ byType, dropped: Math.max(0, newest - capacity) }),
  };
}
