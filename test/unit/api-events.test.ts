// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { eventStream } from '../../src/api/event-stream.js';
import type { NewEvent } from '../../src/model/events.js';
import { openEventLog } from '../../src/observability/event-log.js';
import { openEvents } from '../support/event-source.js';
import { until } from '../support/lab.js';
import { openApi } from '../support/open-api.js';

const event = (type: string, severity: NewEvent['severity'] = 'info', object: string | null = null): NewEvent => ({
  type,
  severity,
  object,
  message: `${type}.`,
});
const numbers = (events: readonly { readonly id: number }[]): number[] => events.map(({ id }) => id);
const page = { accept: 'application/json' };

test('events api: a stream begins now, tells each event with its number, and resumes after Last-Event-ID', async (t) => {
  const { socket, events } = await openApi(t, openEventLog(100, Date.now, 1));
  events.emit(event('node.started'));
  const first = await openEvents(socket);
  assert.deepEqual([first.status, first.type], [200, 'text/event-stream']);
  await until('the stream has begun', () => first.comments.length > 0);
  for (let at = 0; at < 3; at++) events.emit(event('backend.down'));
  await until('three have come', () => first.events.length === 3);
  assert.deepEqual([numbers(first.events), first.lastId()], [[2, 3, 4], '4']);
  assert.equal(first.events[0]?.message, 'backend.down.');
  first.close();
  events.emit(event('backend.up'));
  events.emit(event('backend.up'));
  const again = await openEvents(socket, undefined, { 'last-event-id': first.lastId() });
  await until('two have come', () => again.events.length === 2);
  assert.deepEqual(numbers(again.events), [5, 6]);
  again.close();
});

test('events api: what was dropped meanwhile is one events.lost, and what is of another run is all of this one', async (t) => {
  const log = openEventLog(10, Date.now, 1001);
  const { socket } = await openApi(t, log);
  for (let at = 0; at < 30; at++) log.emit(event('t.t'));
  for (const [given, lost, firstId] of [
    ['1005', 15, 1021],
    ['999', null, 1021], // the run before
    ['5000', null, 1021], // the clock was set back
  ] as const) {
    const source = await openEvents(socket, undefined, { 'last-event-id': given });
    await until('all have come', () => source.events.length === 11);
    const [gap, ...rest] = source.events;
    assert.deepEqual([gap?.type, gap?.severity, gap?.data], ['events.lost', 'warning', { lost }]);
    assert.deepEqual(
      numbers(rest),
      Array.from({ length: 10 }, (_, at) => firstId + at),
    );
    assert.equal(gap?.id, firstId - 1, 'so that a reader who resumes from it gets the rest');
    source.close();
  }
});

test('events api: an id of another run before anything happened is told once', async (t) => {
  const { socket, events } = await openApi(t);
  const source = await openEvents(socket, undefined, { 'last-event-id': '7' });
  await until('it is told', () => source.events.length === 1);
  events.emit(event('t.t'));
  await until('the next has come', () => source.events.length === 2);
  assert.deepEqual(
    source.events.map(({ type }) => type),
    ['events.lost', 't.t'],
  );
  source.close();
});

test('events api: ids of a later run are larger, and exact as numbers', () => {
  const now = Date.now();
  const earlier = openEventLog(10, () => now);
  const later = openEventLog(10, () => now + 1000);
  for (let at = 0; at < 10; at++) earlier.emit(event('t.t'));
  later.emit(event('t.t'));
  const last = earlier.since(0).newest;
  assert.ok(later.since(last).isOther && later.since(0).newest > last && Number.isSafeInteger(later.since(0).newest));
});

test('events api: a stream is filtered by type, noun, object and severity', async (t) => {
  const { socket, events } = await openApi(t, openEventLog(100, Date.now, 1));
  const told = [
    event('backend.down', 'warning', '/pools/web/backends/b1'),
    event('backend.up', 'info', '/pools/web/backends/b1'),
    event('pool.changed', 'info', '/pools/web'),
    event('pool.changed', 'info', '/pools/web2'),
    event('config.apply_failed', 'error'),
  ];
  for (const [query, wanted] of [
    ['type=backend', [1, 2]],
    ['type=backend.up', [2]],
    ['type=back', []],
    ['object=/pools/web', [1, 2, 3]],
    ['object=/pools/web2', [4]],
    ['severity=warning', [1, 5]],
    ['severity=error', [5]],
    ['type=backend&severity=warning', [1]],
  ] as const) {
    const log = openEventLog(100, Date.now, 1);
    for (const each of told) log.emit(each);
    const { items } = (await (await openApi(t, log)).ask('GET', `/api/v1/events?${query}`, undefined, page)).body as {
      items: { id: number }[];
    };
    assert.deepEqual(numbers(items).reverse(), wanted, query);
  }
  const source = await openEvents(socket, '/api/v1/events?type=backend&severity=warning&after=0');
  for (const each of told) events.emit(each);
  events.emit(event('backend.down', 'error'));
  await until('two have come', () => source.events.length === 2);
  assert.deepEqual(numbers(source.events), [1, 6]);
  source.close();
});

test('events api: a page is the newest first, and goes on by cursor whatever comes meanwhile', async (t) => {
  const { ask, events } = await openApi(t, openEventLog(100, Date.now, 1));
  for (let at = 0; at < 7; at++) events.emit(event('t.t'));
  type EventPage = { items: { id: number }[]; nextCursor: string | null; lost: number };
  const first = await ask('GET', '/api/v1/events?limit=3', undefined, page);
  const one = first.body as EventPage;
  events.emit(event('t.t'));
  const two = (await ask('GET', `/api/v1/events?limit=3&cursor=${one.nextCursor}`, undefined, page)).body as EventPage;
  const three = (await ask('GET', `/api/v1/events?limit=3&cursor=${two.nextCursor}`, undefined, page))
    .body as EventPage;
  assert.deepEqual(
    [one, two, three].map(({ items }) => numbers(items)),
    [[7, 6, 5], [4, 3, 2], [1]],
  );
  assert.deepEqual([three.nextCursor, one.lost], [null, 0]);
  const since = (await ask('GET', '/api/v1/events?after=6', undefined, page)).body as EventPage;
  assert.deepEqual(numbers(since.items), [8, 7]);
  const future = (await ask('GET', '/api/v1/events?since=2100-01-01T00:00:00Z', undefined, page)).body as EventPage;
  assert.deepEqual(future.items, []);
});

test('events api: what is asked for wrongly is refused by name', async (t) => {
  const { ask } = await openApi(t);
  for (const [query, headers, name] of [
    ['severity=bad', {}, 'query parameter "severity"'],
    ['since=yesterday', {}, 'query parameter "since"'],
    ['after=-1', {}, 'query parameter "after"'],
    ['cursor=eA', page, 'query parameter "cursor"'],
    ['kind=x', {}, 'query parameter "kind"'],
    ['', { 'last-event-id': 'x' }, 'header "Last-Event-ID"'],
  ] as const) {
    const { status, body } = await ask('GET', `/api/v1/events?${query}`, undefined, headers);
    assert.equal(status, 400, query);
    assert.ok((body as { detail: string }).detail.startsWith(name), JSON.stringify(body));
  }
});

test('events api: a quiet stream has a heartbeat', async () => {
  const stream = eventStream(openEventLog(), 0, () => true, 5);
  let text = '';
  for await (const chunk of stream) {
    text += chunk;
    if (text.includes(': heartbeat\n\n: heartbeat\n\n')) break;
  }
  assert.match(text, /^: fairlead events\nretry: 1000\n\n/);
});

test('events api: who reads too slowly costs nothing here, and is told what was lost', async (t) => {
  const log = openEventLog(50, Date.now, 1);
  const { socket } = await openApi(t, log);
  const source = await openEvents(socket, '/api/v1/events?after=0');
  await until('the stream has begun', () => source.comments.length > 0);
  source.pause();
  const big = { ...event('t.t'), message: 'x'.repeat(10_000) };
  const before = process.memoryUsage().arrayBuffers;
  for (let at = 0; at < 5000; at++) {
    log.emit(big);
    if (at % 100 === 0) await new Promise(setImmediate);
  }
  assert.ok(process.memoryUsage().arrayBuffers - before < 20e6, 'fifty megabytes are not kept for it');
  source.resume();
  await until('the newest has come', () => source.events.at(-1)?.id === 5000);
  const gaps = source.events.filter(({ type }) => type === 'events.lost');
  const lost = gaps.reduce((sum, { data }) => sum + Number(data?.lost), 0);
  assert.equal(source.events.length - gaps.length + lost, 5000, 'each has come or is told as lost');
  assert.ok(lost > 0);
  source.close();
});

test('events api: a stream that was left is let go, and so are those of a daemon that ends', async (t) => {
  const { socket, events, close } = await openApi(t);
  const sources = await Promise.all(Array.from({ length: 100 }, () => openEvents(socket)));
  const full = await openEvents(socket);
  assert.equal(full.status, 503);
  for (const source of sources) source.close();
  await until('there is room again', async () => {
    const source = await openEvents(socket);
    source.close();
    return source.status === 200;
  });
  const open = await openEvents(socket);
  assert.equal(open.status, 200);
  const begun = performance.now();
  await close();
  assert.ok(performance.now() - begun < 5000, 'an open stream does not hold up the end');
  const stream = eventStream(events, 0, () => true);
  stream.destroy();
  await once(stream, 'close');
});
