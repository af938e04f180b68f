// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { FairleadEvent, NewEvent } from '../../src/model/events.js';
import { openEventLog } from '../../src/observability/event-log.js';

const event = (type: string): NewEvent => ({ type, severity: 'info', object: null, message: `${type}.` });

test('events: each has the next number and the time it was told', () => {
  const log = openEventLog(10, () => Date.UTC(2026, 0, 2), 1);
  log.emit(event('node.started'));
  log.emit({ ...event('backend.down'), object: '/pools/web/backends/b1' });
  assert.deepEqual(log.since(1).events, [
    {
      id: 2,
      at: '2026-01-02T00:00:00.000Z',
      type: 'backend.down',
      severity: 'info',
      object: '/pools/web/backends/b1',
      message: 'backend.down.',
    },
  ]);
});

test('events: the oldest go, and who asks for them is told how many', () => {
  const log = openEventLog(3, Date.now, 1);
  for (let at = 1; at <= 10; at++) log.emit(event(`t.${at % 2}`));
  const { events, lost } = log.since(2);
  assert.deepEqual(
    events.map(({ id }) => id),
    [8, 9, 10],
  );
  assert.equal(lost, 5);
  assert.equal(log.since(10).lost, 0);
  assert.equal(log.counts().dropped, 7);
  assert.equal(log.counts().byType.get('t.0'), 5);
});

test('events: a listener hears all from then on, until it has enough', () => {
  const log = openEventLog();
  const heard: FairleadEvent[] = [];
  log.emit(event('a.a'));
  const stop = log.subscribe((told) => heard.push(told));
  log.emit(event('b.b'));
  stop();
  log.emit(event('c.c'));
  assert.deepEqual(
    heard.map(({ type }) => type),
    ['b.b'],
  );
});
