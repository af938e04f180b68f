// SPDX-License-Identifier: Apache-2.0
import type { StoreConfig } from './config.js';
import { readAccess } from './etcd/access.js';
import { openFileStore } from './file-store.js';
import { openFollowStore } from './follow-store.js';
import type { Store, StoreLog } from './store.js';

/** Opens the store of the configuration; throws as openFileStore, openFollowStore and openEtcdStore do. */
export async function openStore({ type, path, follow, etcd }: StoreConfig, log: StoreLog): Promise<Store> {
  if (type === 'file') return follow ? openFollowStore(path, (line) => log.warn({}, line)) : openFileStore(path);
  const access = await readAccess(etcd);
  // Loaded when it is wanted: gRPC is as large as the rest of the daemon.
  const [{ openEtcdClient }, { openEtcdStore }] = await Promise.all([
    import('./etcd/client.js'),
    import('./etcd/store.js'),
  ]);
  const client = openEtcdClient(access);
  try {
    const { prefix, snapshot, endpoints } = etcd;
    const store = await openEtcdStore({ client, prefix, snapshot, endpoints: endpoints.length, log });
    return { ...store, close: () => store.close().finally(() => client.close()) };
  } catch (error) {
    client.close();
    throw error;
  }
}
