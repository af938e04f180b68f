// SPDX-License-Identifier: Apache-2.0
// What all nodes of a cluster share beside services and pools.
import { randomUUID } from 'node:crypto';
import { reader, Type } from '../../model/check.js';
import { FairleadError, messageOf } from '../../model/errors.js';
import type { EtcdClient } from './client.js';
import type { Keys } from './keys.js';

export interface Cluster {
  readonly hashKey: string; // 32 hex digits
}

const readDocument = reader<Cluster>(
  Type.Object(
    {
      format: Type.Literal(1),
      hashKey: Type.String({ pattern: '^[0-9a-f]{32}$', description: '32 hex digits' }),
      writeId: Type.Optional(Type.String()),
    },
    { additionalProperties: false },
  ),
);

/** The text of the cluster's document. */
export const clusterText = (hashKey: string): string => JSON.stringify({ format: 1, hashKey, writeId: randomUUID() });

/** The cluster; null when there is none. Throws 'damaged' for a document that is not one. */
export async function readCluster(client: EtcdClient, keys: Keys): Promise<Cluster | null> {
  const [item] = (await client.range(keys.cluster)).items;
  if (item === undefined) return null;
  let value: unknown;
  try {
    value = JSON.parse(item.value);
  } catch (error) {
    throw new FairleadError('damaged', `read "${keys.cluster}": ${messageOf(error)}`);
  }
  const { draft, fields } = readDocument(value);
  const [first] = fields;
  if (first) throw new FairleadError('damaged', `read "${keys.cluster}": ${first.pointer}: ${first.detail}`, fields);
  return draft as Cluster;
}

/** Makes the cluster with this secret, unless another node is faster; answers the one there is. */
export async function writeCluster(client: EtcdClient, keys: Keys, hashKey: string): Promise<Cluster> {
  await client.commit(
    [{ key: keys.cluster, revision: 0 }],
    [
      { key: keys.cluster, value: clusterText(hashKey) },
      { key: keys.revision, value: JSON.stringify({ writeId: randomUUID() }) },
    ],
  );
  const cluster = await readCluster(client, keys);
  if (cluster === null) throw new FairleadError('unavailable', `write "${keys.cluster}": it is gone again`);
  return cluster;
}
