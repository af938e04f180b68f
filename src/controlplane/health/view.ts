// SPDX-License-Identifier: Apache-2.0
// The store as this node acts on it: where the nodes cannot agree, because the store is away, with the health that this node has found itself.
import type { PoolHealth, Snapshot, StoredPool } from '../../model/objects.js';
import { timeOfDay } from '../clock.js';
import { nextLog } from '../ring-log.js';
import type { Store } from '../store.js';

/** What acts on services and pools needs of a store. */
export type StoreView = Pick<Store, 'read' | 'watch'>;

export interface HealthView extends StoreView {
  /** Puts this in the place of what the store says of the pool's health; null: no more. */
  set(pool: string, health: PoolHealth | null): void;
  /** What `set` put there. */
  own(pool: string): PoolHealth | null;
}

interface Own {
  readonly health: PoolHealth;
  base: StoredPool;
  stored: StoredPool;
}

export function openView(store: Store): HealthView {
  const own = new Map<string, Own>();
  const listeners = new Set<(snapshot: Snapshot) => void>();
  let shown: { readonly from: Snapshot; readonly snapshot: Snapshot } | null = null;

  const changed = (): void => {
    shown = null;
    const snapshot = read();
    for (const listener of listeners) listener(snapshot);
  };
  /** `before` is what its history goes on from. */
  const overlay = (before: StoredPool, base: StoredPool, health: PoolHealth): StoredPool => ({
    ...base,
    health,
    log: nextLog(before, base.value, timeOfDay(), health),
  });

  function read(): Snapshot {
    const from = store.read();
    if (own.size === 0) return from;
    if (shown?.from === from) return shown.snapshot;
    const pools = new Map(from.pools);
    for (const [name, each] of own) {
      const base = pools.get(name);
      if (!base) own.delete(name);
      else {
        if (base !== each.base) Object.assign(each, { base, stored: overlay(base, base, each.health) });
        pools.set(name, each.stored);
      }
    }
    shown = { from, snapshot: { ...from, pools } };
    return shown.snapshot;
  }

  return {
    read,
    watch(listener) {
      const unwatch = store.watch(() => listener(read()));
      const each = (snapshot: Snapshot) => listener(snapshot);
      listeners.add(each);
      return () => {
        unwatch();
        listeners.delete(each);
      };
    },
    own: (pool) => own.get(pool)?.health ?? null,
    set(pool, health) {
      const before = read().pools.get(pool);
      const base = store.read().pools.get(pool);
      if (health === null) {
        if (!own.delete(pool)) return;
      } else if (before && base) own.set(pool, { health, base, stored: overlay(before, base, health) });
      changed();
    },
  };
}
