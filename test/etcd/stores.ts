// SPDX-License-Identifier: Apache-2.0
// Stores on a real etcd, for the tests.
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import type { EtcdAccess } from '../../src/controlplane/etcd/client.js';
import type { FollowTimes } from '../../src/controlplane/etcd/follow.js';
import { openEtcdStore } from '../../src/controlplane/etcd/store.js';
import type { Store } from '../../src/controlplane/store.js';
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
  readonly snapshot: string;
}

export interface Options {
  readonly etcd?: Etcd;
  readonly over?: Partial<EtcdAccess>;
  readonly name?: string;
  readonly times?: FollowTimes;
}

/** A store on an etcd, a new one or this. Closed when the test ends. */
export async function openStore(
  t: TestContext,
  { etcd: given, over, name = 'node', times }: Options = {},
): Promise<Opened> {
  const etcd = given ?? (await startEtcd(t));
  const log: Line[] = [];
  const note = (level: Line['level']) => (fields: object, line: string) =>
    void log.push({ level, fields: { ...fields }, line });
  const snapshot = join(etcd.directory, `${name}.json`);
  const access = etcd.access(over);
  const store = await openEtcdStore({
    client: etcd.client(over),
    prefix: '/fairlead/',
    snapshot,
    endpoints: access.endpoints.length,
    log: { info: note('info'), warn: note('warn') },
    ...(times && { times }),
  });
  t.after(() => store.close());
  return { etcd, store, log, snapshot };
}
