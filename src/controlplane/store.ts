// SPDX-License-Identifier: Apache-2.0
import type { Pool, Service, Snapshot } from '../model/objects.js';

/** One object to write; `value: null` deletes it. */
export type Change =
  | { readonly kind: 'service'; readonly name: string; readonly value: Service | null }
  | { readonly kind: 'pool'; readonly name: string; readonly value: Pool | null };

/**
 * Where services and pools live. The same contract holds for every kind of store (test/unit/store-contract.ts).
 *
 * - `read` answers at once with the newest snapshot known here.
 * - `update` is the compare-and-swap: `decide` is given the newest snapshot and returns the changes, or throws to
 *   refuse; nothing else is written between. It may be called again when another writer was faster, so it must be
 *   pure. It resolves, with the snapshot that holds the changes, when they are durable. No changes: the snapshot as
 *   it is, revision unchanged. All changes of one call get one new revision; the store's revision grows by one.
 * - With a change of a pool goes the log of its members (StoredPool), in the same write: see ring-log.ts.
 * - `watch` calls back after each change with the whole snapshot, never twice for one revision, until the returned
 *   function is called.
 */
export interface Store {
  readonly kind: string;
  read(): Snapshot;
  update(decide: (snapshot: Snapshot) => readonly Change[]): Promise<Snapshot>;
  watch(listener: (snapshot: Snapshot) => void): () => void;
  close(): Promise<void>;
}
