// SPDX-License-Identifier: Apache-2.0
// Events as server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html).
import { Readable } from 'node:stream';
import type { EventLog, EventsSince, FairleadEvent, NewEvent } from '../model/events.js';

export type Wanted = (event: NewEvent) => boolean;

/** A proxy may close what is silent for longer. */
const HEARTBEAT_MS = 15_000;
/** Of one read of the log, so that a reader who was away gets turns between. */
const AT_ONCE = 500;

const textOf = (event: FairleadEvent): string => `id: ${event.id}\ndata: ${JSON.stringify(event)}\n\n`;

/** The gap a reader has; without a number when the events of another run are what is missing. */
export function lostEvent({ lost, isOther, events, newest }: EventsSince): FairleadEvent | null {
  if (lost === 0 && !isOther) return null;
  const message = isOther
    ? 'the daemon was started anew: events of the run before are lost'
    : `${lost} events are lost: they are no longer kept`;
  return {
    id: (events[0]?.id ?? newest + 1) - 1,
    at: new Date().toISOString(),
    type: 'events.lost',
    severity: 'warning',
    object: null,
    message,
    data: { lost: isOther ? null : lost },
  };
}

/**
 * The events after `from` and all that come, as text/event-stream; ends when it is destroyed. What its reader is too slow for waits in the log,
 * not here, and is told as lost once the log has dropped it.
 */
export function eventStream(log: EventLog, from: number, wanted: Wanted, heartbeatMs = HEARTBEAT_MS): Readable {
  let last = from;
  let hasRoom = false;
  let isQuiet = true;

  function send(text: string): void {
    isQuiet = false;
    hasRoom = stream.push(text);
  }

  function pump(): void {
    while (hasRoom) {
      const since = log.since(last);
      const gap = lostEvent(since);
      const part = since.events.slice(0, AT_ONCE);
      const text = part.filter(wanted).map(textOf).join('');
      const end = part.at(-1);
      if (gap === null && end === undefined) return;
      last = end?.id ?? since.newest;
      if (gap !== null || text !== '') send(`${gap === null ? '' : textOf(gap)}${text}`);
    }
  }

  const stream = new Readable({
    read() {
      hasRoom = true;
      pump();
    },
    destroy(error, done) {
      stop();
      clearInterval(timer);
      done(error);
    },
  });
  const stop = log.subscribe(pump);
  const timer = setInterval(() => {
    if (isQuiet && hasRoom) hasRoom = stream.push(': heartbeat\n\n');
    isQuiet = true;
  }, heartbeatMs);
  stream.push(`: fairlead events\nretry: 1000\n\n`);
  return stream;
}
