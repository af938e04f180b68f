// SPDX-License-Identifier: Apache-2.0
// Nodes of one cluster in one process, each with a packet path of its own in the kernel.
import type { TestContext } from 'node:test';
import { type Cluster, openCluster } from '../../src/controlplane/cluster.js';
import { openEtcdPresence } from '../../src/controlplane/etcd/presence.js';
import { openEtcdStore } from '../../src/controlplane/etcd/store.js';
import { openMemoryStore } from '../../src/controlplane/memory-store.js';
import { openMemoryPresence, type Presence, presenceHub } from '../../src/controlplane/presence.js';
import type { Store } from '../../src/controlplane/store.js';
import type { EventLog } from '../../src/model/events.js';
import { openEventLog } from '../../src/observability/event-log.js';
import { startEtcd } from './etcd.js';
import { openReconciled, type Reconciled } from './reconciled.js';

/** A node of the cluster. */
export interface ClusterNode extends Reconciled {
  readonly name: string;
  readonly presence: Presence;
  readonly cluster: Cluster;
  readonly events: EventLog;
  /** Types of its events about a node, oldest first. */
  told(about: string): readonly string[];
}

export const BEHIND_MS = 1500;

/** What the nodes of a cluster share: each asks for its own part. */
export type Sharing = () => Promise<{ readonly store: Store; readonly presence: Presence }>;

const log = { info: () => undefined, warn: () => undefined };

export const KINDS: Readonly<Record<'memory' | 'etcd', (t: TestContext) => Promise<Sharing>>> = {
  async memory() {
    const store = openMemoryStore();
    const hub = presenceHub();
    return async () => ({ store, presence: openMemoryPresence(hub) });
  },
  async etcd(t) {
    const etcd = await startEtcd(t);
    let opened = 0;
    return async () => {
      const client = etcd.client();
      const snapshot = `${etcd.directory}/${++opened}.json`;
      const store = await openEtcdStore({ client, prefix: '/fairlead/', snapshot, endpoints: 1, log });
      const presence = openEtcdPresence({ client, prefix: '/fairlead/', node: 'test', log, ttlSeconds: 3 });
      etcd.using(store);
      etcd.using(presence);
      return { store, presence };
    };
  },
};

let instances = 0;

/** Opens a node, which is closed with the test, or before by its presence. */
export async function openNode(t: TestContext, name: string, share: Sharing): Promise<ClusterNode> {
  const { store, presence } = await share();
  const node = await openReconciled(t, { store });
  const events = openEventLog();
  const cluster = openCluster({
    ...{
      node: name,
      instance: `${++instances}`,
      version: '1.2.3',
      startedAt: new Date(0),
      presence,
      store,
      maps: node.maps,
      events,
    },
    reconciler: node.reconciler,
    times: { lookMs: 50, publishMs: 20, behindMs: BEHIND_MS, takenMs: 300 },
  });
  t.after(async () => {
    cluster.close();
    await presence.close();
  });
  return Object.assign(Object.create(node) as Reconciled, {
    ...{ name, presence, cluster, events },
    told: (about: string) =>
      events.since(0).events.flatMap(({ type, object }) => (object === `/nodes/${about}` ? [type] : [])),
  });
}
