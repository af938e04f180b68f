// SPDX-License-Identifier: Apache-2.0
import { randomBytes } from 'node:crypto';
import { FairleadError } from '../model/errors.js';
import type { EventLog } from '../model/events.js';
import type { EtcdConfig, StoreConfig } from './config.js';
import { readAccess } from './etcd/access.js';
import { loadSnapshot, snapshotName } from './etcd/snapshot-file.js';
import { openFileStore } from './file-store.js';
import { openFollowStore } from './follow-store.js';
import { openMemoryPresence, type Presence } from './presence.js';
import type { Store, StoreLog } from './store.js';

/** What a node has in common with the others, and what it says of itself to them. */
export interface Shared {
  readonly store: Store;
  readonly presence: Presence;
  /** Tells this node from another that says it has its name; it stays the same when the daemon is killed and starts again, while they share something. */
  readonly instance: string;
  close(): Promise<void>;
}

/** Opens what the configuration of this node says; throws as openFileStore, openFollowStore and openEtcdStore do. With a file the node is alone. */
export async function openShared(
  { type, path, follow, etcd }: StoreConfig,
  node: string,
  log: StoreLog,
  events: EventLog,
): Promise<Shared> {
  if (type === 'etcd') return openEtcd(etcd, node, log, events, () => refuseForgotten(path));
  const store = follow ? await openFollowStore(path, (line) => log.warn({}, line)) : await openFileStore(path);
  const presence = openMemoryPresence();
  return { store, presence, instance: anyInstance(), close: () => presence.close().then(() => store.close()) };
}

const anyInstance = (): string => randomBytes(8).toString('hex');

/** Throws when there is a file of a file store with objects in it: whoever goes over to etcd wants them there. */
async function refuseForgotten(path: string): Promise<void> {
  const file = await loadSnapshot(path);
  const count = file === null ? 0 : file.services.size + file.pools.size;
  if (count === 0) return;
  throw new FairleadError(
    'conflict',
    `etcd holds no cluster yet, and "${path}" holds ${count} objects; bring them over with "fairlead migrate --from file --to etcd", or delete that file`,
  );
}

async function openEtcd(
  config: EtcdConfig,
  node: string,
  log: StoreLog,
  events: EventLog,
  mayBegin: () => Promise<void>,
): Promise<Shared> {
  const access = await readAccess(config);
  // Loaded when it is wanted: gRPC is as large as the rest of the daemon.
  const [{ openEtcdClient }, { openEtcdStore }, { openEtcdPresence }] = await Promise.all([
    import('./etcd/client.js'),
    import('./etcd/store.js'),
    import('./etcd/presence.js'),
  ]);
  const client = openEtcdClient(access);
  try {
    const { prefix, snapshot, endpoints } = config;
    const store = await openEtcdStore({ client, prefix, snapshot, endpoints: endpoints.length, log, events, mayBegin });
    const presence = openEtcdPresence({ client, prefix, node, log });
    return {
      store,
      presence,
      instance: snapshot === null ? anyInstance() : snapshotName(snapshot),
      close: async () => {
        await Promise.all([presence.close(), store.close()]);
        client.close();
      },
    };
  } catch (error) {
    client.close();
    throw error;
  }
}
