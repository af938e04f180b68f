// SPDX-License-Identifier: Apache-2.0
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { type Static, Type } from '../model/check.js';
import { FairleadError } from '../model/errors.js';
import type { EventLog, FairleadEvent, NewEvent, Severity } from '../model/events.js';
import { EventAnswer } from './answers.js';
import { describe } from './describe.js';
import { eventStream, lostEvent, type Wanted } from './event-stream.js';
import { pageFrom } from './page.js';
import { ListQuery } from './query.js';
import type { Api } from './write.js';

const SEVERITIES: readonly Severity[] = ['info', 'warning', 'error'];
/** Readers at once; each holds a connection. */
const STREAMS_MAX = 100;

/** Parameters of the events. `limit` and `cursor` are for a page, not for the stream. */
export const EventsQuery = Type.Object(
  {
    ...ListQuery.properties,
    type: Type.Optional(Type.String({ description: 'a type, as backend.down, or its noun: backend' })),
    object: Type.Optional(Type.String({ description: 'a path below /api/v1: of it and what is in it, as /pools/web' })),
    severity: Type.Optional(Type.Enum(['info', 'warning', 'error'], { description: 'this one and worse' })),
    since: Type.Optional(Type.String({ description: 'not before this time (RFC 3339)' })),
    after: Type.Optional(
      Type.Integer({
        minimum: 0,
        maximum: Number.MAX_SAFE_INTEGER,
        description: 'with a larger id; 0: all that are kept. Last-Event-ID goes before it',
      }),
    ),
  },
  { additionalProperties: false },
);
export type EventsQuery = Static<typeof EventsQuery>;

/** `GET /events`: a stream of server-sent events, or, for who accepts only JSON, a page of them, the newest first. */
export function eventRoutes(app: FastifyInstance, { events }: Api): void {
  let streams = 0;
  const schema = describe({
    summary: 'Events: a stream that goes on after Last-Event-ID; with "Accept: application/json" a page, newest first',
    tag: 'events',
    operation: 'listEvents',
    query: EventsQuery,
    headers: {
      'last-event-id': { type: 'string', pattern: '^[0-9]{1,15}$', description: 'id of the last event the reader has' },
    },
    answer: EventAnswer,
    stream: true,
  });
  app.get<{ Querystring: EventsQuery }>('/events', { schema }, async (request, reply) => {
    const { query } = request;
    const wanted = wantedOf(query);
    reply.header('cache-control', 'no-store');
    if (wantsPage(request.headers.accept)) {
      reply.header('vary', 'accept');
      return pageOfEvents(events, query, wanted);
    }
    if (streams >= STREAMS_MAX) throw new FairleadError('busy', `${STREAMS_MAX} readers follow the events already`);
    streams++;
    const stream = eventStream(events, startOf(events, request), wanted);
    stream.once('close', () => {
      streams--;
    });
    // HEAD has no body: nobody would end the stream.
    if (request.method === 'HEAD') stream.destroy();
    return reply.type('text/event-stream').header('x-accel-buffering', 'no').send(stream);
  });
}

const wantsPage = (accept = ''): boolean =>
  accept.includes('application/json') && !accept.includes('text/event-stream');

function wantedOf({ type, object, severity = 'info', since }: EventsQuery): Wanted {
  const least = SEVERITIES.indexOf(severity);
  const from = since === undefined ? 0 : Date.parse(since);
  if (Number.isNaN(from))
    throw new FairleadError(
      'invalid',
      'query parameter "since": wanted a time such as 2026-11-29T08:00:00Z (RFC 3339)',
    );
  return (event: NewEvent & { readonly at?: string }) =>
    SEVERITIES.indexOf(event.severity) >= least &&
    (type === undefined || event.type === type || event.type.startsWith(`${type}.`)) &&
    (object === undefined || event.object === object || event.object?.startsWith(`${object}/`) === true) &&
    (from === 0 || Date.parse(event.at ?? '') >= from);
}

/** The id after which a stream begins: what the reader says, or now. */
function startOf(events: EventLog, { headers, query }: FastifyRequest<{ Querystring: EventsQuery }>): number {
  const given = headers['last-event-id'];
  if (given !== undefined && given !== '') {
    if (typeof given === 'string' && /^\d{1,15}$/.test(given)) return Number(given);
    throw new FairleadError('invalid', `header "Last-Event-ID": got "${given}", wanted the id of an event`);
  }
  if (query.after !== undefined) return query.after;
  return query.since === undefined ? events.since(0).newest : 0;
}

function pageOfEvents(events: EventLog, query: EventsQuery, wanted: Wanted): object {
  const since = events.since(query.after ?? 0);
  const newestFirst = since.events.filter(wanted).reverse();
  const { items, nextCursor } = pageFrom(newestFirst, query, (event: FairleadEvent) => [-event.id]);
  // A reader that begins has lost nothing.
  const gap = query.after === undefined || query.after === 0 ? null : lostEvent(since);
  return { items, nextCursor, lost: gap?.data?.lost === undefined ? 0 : gap.data.lost };
}
