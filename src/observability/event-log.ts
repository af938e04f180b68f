// SPDX-License-Identifier: Apache-2.0
import type { EventLog, FairleadEvent } from '../model/events.js';

/** More in a run than a daemon can tell: the ids of a later run are larger, unless the clock was set back between. 15 digits until 2286. */
const IDS_PER_MS = 100;

/** Keeps the newest `capacity` events in memory. A listener that throws is the listener's own trouble: it must not. */
export function openEventLog(
  capacity = 10_000,
  clock: () => number = Date.now,
  first: number = clock() * IDS_PER_MS,
): EventLog {
  let kept: FairleadEvent[] = [];
  let newest = first - 1;
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
      const isOther = id !== 0 && (id < first - 1 || id > newest);
      const after = isOther ? first - 1 : Math.max(id, first - 1);
      const from = Math.max(after + 1, newest - capacity + 1);
      return { events: kept.slice(from - newest - 1 + kept.length), lost: from - after - 1, isOther, newest };
    },
    subscribe(listener) {
      const own = (event: FairleadEvent) => listener(event); // the same function may listen twice
      listeners.add(own);
      return () => void listeners.delete(own);
    },
    counts: () => ({ byType, dropped: Math.max(0, newest - first + 1 - capacity) }),
  };
}
