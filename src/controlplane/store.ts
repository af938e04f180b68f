// SPDX-License-Identifier: Apache-2.0
import type { Pool, PoolHealth, Service, Snapshot } from '../model/objects.js';

/** One object to write; `value: null` deletes it. */
export type Change =
  | { readonly kind: 'service'; readonly name: string; readonly value: Service | null }
  | { readonly kind: 'pool'; readonly name: string; readonly value: Pool | null }
  /** What the nodes have found out about a pool's backends. Its revision stays: nobody has edited it. No pool of that name: nothing. */
  | { readonly kind: 'health'; readonly name: string; readonly value: PoolHealth };

/**
 * Where services and pools live. The same contract holds for every kind of store (test/unit/store-contract.ts).
 *
 * - `read` answers at once with the newest snapshot known here.
 * - `update` is the compare-and-swap: `decide` is given the newest snapshot and returns the changes, or throws to
 *   refuse; nothing else is written between. It may be called again when another writer was faster, so it must be
 *   pure. It resolves, with the snapshot that holds the changes, when they are durable. No changes: the snapshot as
 *   it is, revision unchanged. All changes of one call get one new revision, later than every one before (by one, where
 *   nobody else counts: in a file).
 * - With a change of a pool goes the log of its members (StoredPool), in the same write: see ring-log.ts.
 * - `watch` calls back after each change with the whole snapshot, never twice for one revision, until the returned
 *   function is called.
 */
export interface Store {
  readonly kind: string;
  read(): Snapshot;
  update(decide: (snapshot: Snapshot) => readonly Change[]): Promise<Snapshot>;
  watch(listener: (snapshot: Snapshot) => void): () => void;
  state(): StoreState;
  close(): Promise<void>;
}

/** How a store does. */
export interface StoreState {
  /** False while what is read may be old and nothing can be written. */
  readonly connected: boolean;
  /** Why not, and what is in force meanwhile; a sentence, null when all is well. */
  readonly detail: string | null;
  /** Documents that are not in force, because of what is wrong with them: the last good one of each is. By key. */
  readonly skipped: readonly { readonly key: string; readonly revision: number; readonly detail: string }[];
  /** How often everything was read anew, by reason; every reason there is, or none. */
  readonly relists: ReadonlyMap<string, number>;
}

/** The state of a store that nothing can come between. */
export const AT_HAND: StoreState = { connected: true, detail: null, skipped: [], relists: new Map() };

/** Where a store says what happens to it: structured lines. */
export interface StoreLog {
  info(fields: object, line: string): void;
  warn(fields: object, line: string): void;
}
