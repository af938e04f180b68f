// SPDX-License-Identifier: Apache-2.0
// A whole state out of etcd, and into it.
import { randomUUID } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import { isRecord } from '../../model/check.js';
import { FairleadError } from '../../model/errors.js';
import type { Snapshot } from '../../model/objects.js';
import { slices } from '../slices.js';
import type { EtcdClient, KeyValue, Put } from './client.js';
import { clusterText, readCluster } from './cluster.js';
import { poolText, serviceText, take, type Update } from './documents.js';
import type { Keys } from './keys.js';
import { listRange } from './listing.js';

/** What one write may hold: etcd takes 128 keys and 1.5 MiB. A larger document goes alone. */
const BATCH = { items: 60, bytes: 512 * 1024 } as const;

/** Everything in etcd, whole. Throws 'not-found' without a cluster, 'damaged' when a document there is not in force. */
export async function readEtcd(
  client: EtcdClient,
  keys: Keys,
  name: string,
): Promise<{ readonly snapshot: Snapshot; readonly notes: readonly string[] }> {
  const cluster = await readCluster(client, keys);
  if (cluster === null) throw new FairleadError('not-found', `migrate: ${name} holds no cluster`);
  const { items } = await listRange(client, keys.documents);
  const revision = items.reduce((newest, item) => Math.max(newest, item.revision), 0);
  const empty: Snapshot = { revision, hashKey: cluster.hashKey, services: new Map(), pools: new Map() };
  const updates = new Map<string, Update>(items.flatMap((item) => (keys.parse(item.key) ? [[item.key, item]] : [])));
  const { snapshot, skipped } = await take({ snapshot: empty, skipped: new Map() }, keys, updates);
  const [first] = skipped;
  if (first) {
    const rest = skipped.size > 1 ? ` (and ${skipped.size - 1} more)` : '';
    throw new FairleadError(
      'damaged',
      `migrate: "${first[0]}" is not in force: ${first[1].detail}${rest}; mend or delete it first`,
    );
  }
  return { snapshot, notes: [] };
}

/**
 * What writes the snapshot. The cluster's own document goes last: nodes that wait for a cluster take nothing of a state that is not whole. Throws 'conflict'
 * when etcd holds a cluster with objects, or objects that differ from these.
 */
export async function prepareEtcd(
  client: EtcdClient,
  keys: Keys,
  name: string,
  snapshot: Snapshot,
  refuseObjects: (where: string, services: number, pools: number) => void,
): Promise<{ readonly notes: readonly string[]; write(): Promise<number> }> {
  const writeId = randomUUID();
  const wanted = await documentsOf(snapshot, keys, writeId);
  const cluster = await readCluster(client, keys);
  const there = (await listRange(client, keys.documents)).items.filter(({ key }) => keys.parse(key) !== null);
  const kept = cluster === null ? there.filter((item) => isSameDocument(item, wanted.get(item.key))) : [];
  if (kept.length < there.length) {
    const services = there.filter(({ key }) => keys.parse(key)?.kind === 'service').length;
    refuseObjects(name, services, there.length - services);
  }
  for (const { key } of kept) wanted.delete(key);
  const isOther = cluster !== null && cluster.hashKey !== snapshot.hashKey;
  return {
    notes: [
      ...(kept.length > 0 ? [`${kept.length} documents were there already, of a migration that was interrupted`] : []),
      ...(isOther
        ? ['the empty cluster there had another hash key: nodes that run with it already have to be started anew']
        : []),
    ],
    async write() {
      const clusterItem = (await client.range(keys.cluster)).items[0];
      for (const puts of batches(wanted)) {
        const absent = puts.map(({ key }) => ({ key, revision: 0 }));
        const { done } = await client.commit(absent, puts);
        if (!done) throw faster(name);
      }
      const { done } = await client.commit(
        [{ key: keys.cluster, revision: clusterItem?.revision ?? 0 }],
        [
          { key: keys.cluster, value: clusterText(snapshot.hashKey) },
          { key: keys.revision, value: JSON.stringify({ writeId }) },
        ],
      );
      if (!done) throw faster(name);
      return wanted.size;
    },
  };
}

const faster = (name: string): FairleadError =>
  new FairleadError('conflict', `migrate: somebody else writes to ${name}; stop that, then begin anew`);

async function documentsOf({ pools, services }: Snapshot, keys: Keys, writeId: string): Promise<Map<string, string>> {
  const pause = slices();
  const documents = new Map<string, string>();
  for (const [poolName, stored] of pools) {
    documents.set(keys.pool(poolName), poolText(stored, writeId));
    await pause();
  }
  for (const [serviceName, { value }] of services) {
    documents.set(keys.service(serviceName), serviceText(value, writeId));
    await pause();
  }
  return documents;
}

function isSameDocument({ value }: KeyValue, wanted: string | undefined): boolean {
  if (wanted === undefined) return false;
  const without = (text: string): unknown => {
    const parsed: unknown = JSON.parse(text);
    return isRecord(parsed) ? { ...parsed, writeId: null } : parsed;
  };
  try {
    return isDeepStrictEqual(without(value), without(wanted));
  } catch {
    return false; // it is no JSON
  }
}

function* batches(documents: ReadonlyMap<string, string>): Generator<Put[]> {
  let batch: Put[] = [];
  let size = 0;
  for (const [key, value] of documents) {
    const own = Buffer.byteLength(value);
    if (batch.length > 0 && (batch.length >= BATCH.items || size + own > BATCH.bytes)) {
      yield batch;
      batch = [];
      size = 0;
    }
    batch.push({ key, value });
    size += own;
  }
  if (batch.length > 0) yield batch;
}
