// SPDX-License-Identifier: Apache-2.0
// A store that was restored from a copy: rows still remember whom they belonged to meanwhile.
import { isDeepStrictEqual } from 'node:util';
import { messageOf } from '../../model/errors.js';
import type { RingLog, Snapshot, StoredPool } from '../../model/objects.js';
import { timeOfDay } from '../clock.js';
import { logOf, nextLog } from '../ring-log.js';
import type { Change, Store, StoreLog } from '../store.js';

/** Pools written at once. */
const BATCH = 100;

export interface Carrier {
  /**
   * What an etcd holds that went back to an older state, with logs that go on from what was in force `before`: a connection that began since the copy was made keeps
   * its backend, as it does after any other change. Every node comes to the same, but for the time; the first to write it says when it was.
   */
  carry(before: Snapshot, restored: Snapshot): Snapshot;
  /** Writes the logs that etcd does not have, unless another node was faster. What fails is told to the log, and left to the next call. */
  write(): Promise<void>;
}

export function openCarrier(update: Store['update'], log: StoreLog): Carrier {
  /** By pool: logs that are in force here, and not in etcd. */
  let ahead: ReadonlyMap<string, RingLog> = new Map();

  return {
    carry(before, restored) {
      const pools = new Map(restored.pools);
      const found = new Map<string, RingLog>();
      for (const [name, stored] of restored.pools) {
        const old = before.pools.get(name);
        if (!old || !isOlder(stored, old)) continue;
        const next = nextLog(old, stored.value, timeOfDay(), stored.health);
        pools.set(name, { ...stored, log: next });
        found.set(name, next);
      }
      ahead = found;
      return found.size === 0 ? restored : { ...restored, pools };
    },
    async write() {
      while (ahead.size > 0) {
        const some = new Map([...ahead].slice(0, BATCH));
        try {
          await update((snapshot) => writesOf(some, snapshot));
        } catch (error) {
          return log.warn({ pools: ahead.size }, `write what rows of a restored store remember: ${messageOf(error)}`);
        }
        ahead = new Map([...ahead].filter(([name, each]) => some.get(name) !== each));
      }
    },
  };
}

/** Whether what is in force is not the past of what was restored. */
function isOlder(restored: StoredPool, inForce: StoredPool): boolean {
  const [log, old] = [logOf(restored), logOf(inForce)];
  return log.generation <= old.generation && !isDeepStrictEqual(log, old);
}

/** Of these, the ones that are still in force. */
const writesOf = (logs: ReadonlyMap<string, RingLog>, { pools }: Snapshot): Change[] =>
  [...logs].flatMap(([name, log]) => {
    const stored = pools.get(name);
    return stored?.log === log ? [{ kind: 'pool', name, value: stored.value }] : [];
  });
