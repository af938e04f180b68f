// SPDX-License-Identifier: Apache-2.0
// Stores on a real etcd, for the tests.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { type EtcdAccess, type EtcdClient, prefixRange } from '../../src/controlplane/etcd/client.js';
import type { FollowTimes } from '../../src/controlplane/etcd/follow.js';
import { openEtcdStore } from '../../src/controlplane/etcd/store.js';
import type { Store } from '../../src/controlplane/store.js';
import type { EventLog } from '../../src/model/events.js';
import { openEventLog } from '../../src/observability/event-log.js';
import { type Etcd, startEtcd } from '../support/etcd.js';

export interface Line {
  readonly level: 'info' | 'warn';
  readonly fields: Record<string, unknown>;
  readonly line: string;
}

export interface Opened {
  readonly etcd: Etcd;
  readonly store: Store;
  readonly log: readonly Line[];
  readonly events: EventLog;
  readonly snapshot: string;
}

export interface Options {
  readonly etcd?: Etcd;
  readonly over?: Partial<EtcdAccess>;
  readonly name?: string;
  readonly times?: FollowTimes;
  readonly wrap?: (client: EtcdClient) => EtcdClient;
}

/** A store on an etcd, a new one or this. Closed when the test ends. */
export async function openStore(
  t: TestContext,
  { etcd: given, over, name = 'node', times, wrap = (client) => client }: Options = {},
): Promise<Opened> {
  const etcd = given ?? (await startEtcd(t));
  const log: Line[] = [];
  const note = (level: Line['level']) => (fields: object, line: string) =>
    void log.push({ level, fields: { ...fields }, line });
  const snapshot = join(etcd.directory, `${name}.json`);
  const events = openEventLog(1000, Date.now, 1);
  const access = etcd.access(over);
  const store = await openEtcdStore({
    client: wrap(etcd.client(over)),
    prefix: '/fairlead/',
    snapshot,
    endpoints: access.endpoints.length,
    log: { info: note('info'), warn: note('warn') },
    events,
    ...(times && { times }),
  });
  etcd.using(store);
  return { etcd, store, log, events, snapshot };
}

/** Asserts that the store holds what etcd holds: every document with its revision, and nothing else. */
export async function assertEqualToEtcd({ etcd, store }: Pick<Opened, 'etcd' | 'store'>): Promise<void> {
  const { items } = await etcd.client().range(prefixRange('/fairlead/v1/'));
  const inEtcd = items
    .filter(({ key }) => /v1\/(pools|services)\//.test(key))
    .map(({ key, value, revision }) => {
      const { writeId: _, ringLog, ...body } = JSON.parse(value);
      return [key.split('/').slice(3).join('/'), revision, body, ringLog];
    });
  const { pools, services } = store.read();
  const here = [
    ...[...pools].map(([name, { value, revision, log }]) => [`pools/${name}`, revision, value, log]),
    ...[...services].map(([name, { value, revision }]) => [`services/${name}`, revision, value, undefined]),
  ];
  const byKey = (a: unknown[], b: unknown[]) => (String(a[0]) < String(b[0]) ? -1 : 1);
  assert.deepEqual(here.sort(byKey), inEtcd.sort(byKey));
}
