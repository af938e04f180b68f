// SPDX-License-Identifier: Apache-2.0
// What the store in etcd knows, and small steps on it. Pure.
import type { Snapshot } from '../../model/objects.js';
import type { Change } from '../store.js';
import { type Documents, knownRevision, poolText, serviceText } from './documents.js';
import type { Keys } from './keys.js';

export interface State extends Documents {
  /** Revision of the newest write of ours (Keys.revision); 0: none. */
  readonly guard: number;
  /** Counts the clusters: revisions of two of them are not to be compared. */
  readonly epoch: number;
  /** Keys deleted here whose deletion the watch has not told yet, and at which revision. */
  readonly deleted: ReadonlyMap<string, number>;
}

/** With revisions that equal none, and nothing of what etcd said: what is in force came from another cluster, or from a file. */
export function unlike(state: State): State {
  const without = <T extends { revision: number }>(objects: ReadonlyMap<string, T>): Map<string, T> =>
    new Map([...objects].map(([name, stored]) => [name, { ...stored, revision: 0, written: 0 }]));
  const { pools, services } = state.snapshot;
  const snapshot = { ...state.snapshot, pools: without(pools), services: without(services) };
  return { ...state, snapshot, skipped: new Map(), deleted: new Map(), guard: 0 };
}

/** Every key that is known to hold something. */
export function keysOf({ snapshot, skipped }: Documents, keys: Keys): Set<string> {
  const all = new Set(skipped.keys());
  for (const name of snapshot.pools.keys()) all.add(keys.pool(name));
  for (const name of snapshot.services.keys()) all.add(keys.service(name));
  return all;
}

/** The key that a change is about. */
export const keyOf = (keys: Keys, { kind, name }: Change): string =>
  kind === 'service' ? keys.service(name) : keys.pool(name);

/** The revision of a key in etcd, as far as is known here; 0: there is no such key. */
export function storedRevision(documents: Documents, keys: Keys, key: string): number {
  return documents.skipped.get(key)?.value === null ? 0 : knownRevision(documents, keys, key);
}

/** What a change puts; null: it deletes. */
export function textOf(draft: Snapshot, change: Change, writeId: string): string | null {
  if (change.value === null) return null;
  if (change.kind === 'service') return serviceText(change.value, writeId);
  const stored = draft.pools.get(change.name);
  return stored ? poolText(stored, writeId, change.kind === 'pool') : null;
}

/** The draft of a write that was done at this revision. */
export function atRevision(draft: Snapshot, changes: readonly Change[], revision: number): Snapshot {
  const pools = new Map(draft.pools);
  const services = new Map(draft.services);
  for (const { kind, name } of changes) {
    const pool = kind === 'service' ? undefined : pools.get(name);
    const service = kind === 'service' ? services.get(name) : undefined;
    if (pool) pools.set(name, kind === 'health' ? { ...pool, written: revision } : { ...pool, revision });
    if (service) services.set(name, { ...service, revision });
  }
  return { ...draft, revision, pools, services };
}

/** The snapshot with these changes as `own` has them. */
export function withChanges(snapshot: Snapshot, own: Snapshot, changes: readonly Change[]): Snapshot {
  const pools = new Map(snapshot.pools);
  const services = new Map(snapshot.services);
  for (const { kind, name } of changes) {
    if (kind === 'service') move(own.services, services, name);
    else move(own.pools, pools, name);
  }
  return { ...snapshot, pools, services };
}

function move<T>(from: ReadonlyMap<string, T>, to: Map<string, T>, name: string): void {
  const value = from.get(name);
  if (value === undefined) to.delete(name);
  else to.set(name, value);
}
