// SPDX-License-Identifier: Apache-2.0
import type { Change, Store } from '../controlplane/store.js';
import { applyChanges } from '../controlplane/store-core.js';
import type { Effect } from '../model/effect.js';
import { FairleadError, messageOf } from '../model/errors.js';
import type { EventLog } from '../model/events.js';
import type { NodeView } from '../model/node-view.js';
import type { Snapshot } from '../model/objects.js';
import type { WriteQuery } from './query.js';

/** What every route works on. */
export interface Api {
  readonly store: Store;
  readonly node: NodeView;
  readonly events: EventLog;
}

/** A write that was done, or with `dryRun` would be. */
export interface Written {
  readonly before: Snapshot;
  readonly snapshot: Snapshot;
  /** Of a dry run; null of one that was done. */
  readonly effect: Effect | null;
}

const appliedTimeoutMs = 10_000;

/**
 * Runs one write and answers the snapshot that holds it. With `dryRun` nothing is stored: the snapshot is what it would be,
 * its revision too if nobody else writes. With `wait` it resolves when the kernel has the snapshot; throws 'unavailable' when
 * that does not happen in time, and says that the write is stored all the same.
 */
export async function write(
  { store, node }: Api,
  query: WriteQuery,
  decide: (snapshot: Snapshot) => readonly Change[],
): Promise<Written> {
  let before = store.read();
  const admitted = (snapshot: Snapshot): readonly Change[] => {
    before = snapshot;
    const changes = decide(snapshot);
    if (changes.length > 0) node.admit(applyChanges(snapshot, changes));
    return changes;
  };
  if (query.dryRun === true) {
    const changes = admitted(before);
    const snapshot = changes.length > 0 ? applyChanges(before, changes) : before;
    return { before, snapshot, effect: await node.effect(before, snapshot) };
  }
  const snapshot = await store.update(admitted);
  if (query.wait === 'applied') {
    try {
      await node.applied(snapshot.revision, appliedTimeoutMs);
    } catch (error) {
      const text = `revision ${snapshot.revision} is stored, but not applied: ${messageOf(error)}`;
      throw new FairleadError('unavailable', text, [], { cause: error });
    }
  }
  return { before, snapshot, effect: null };
}
