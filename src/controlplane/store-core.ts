// SPDX-License-Identifier: Apache-2.0
import { FairleadError } from '../model/errors.js';
import type { Pool, PoolHealth, Snapshot, StoredPool } from '../model/objects.js';
import { timeOfDay } from './clock.js';
import { nextLog } from './ring-log.js';
import { AT_HAND, type Change, type Store } from './store.js';

/** What a kind of store adds to the common part. */
export interface Backing {
  readonly kind: string;
  readonly initial: Snapshot;
  /** Makes the snapshot durable, or throws and leaves the one before in force. Never called twice at a time. */
  persist(next: Snapshot): Promise<void>;
  /** Gives up what the store holds; called once. */
  release(): void;
}

/** A store with one writer, this process: updates run one after the other, readers see a snapshot once it is durable. */
export function createStore({ kind, initial, persist, release }: Backing): Store {
  let current = initial;
  let queue: Promise<unknown> = Promise.resolve();
  let closing: Promise<void> | null = null;
  const listeners = new Set<(snapshot: Snapshot) => void>();

  const run = async (decide: (snapshot: Snapshot) => readonly Change[]): Promise<Snapshot> => {
    const changes = decide(current);
    if (changes.length === 0) return current;
    const next = applyChanges(current, changes);
    await persist(next);
    current = next;
    tellAll(listeners, next);
    return next;
  };

  return {
    kind,
    read: () => current,
    state: () => AT_HAND,
    update(decide) {
      if (closing !== null) return Promise.reject(new FairleadError('unavailable', 'update the store: it is closed'));
      const result = queue.then(() => run(decide));
      queue = result.catch(() => undefined); // the caller has the error; the next update starts anew
      return result;
    },
    watch(listener) {
      const own = (snapshot: Snapshot) => listener(snapshot); // the same function may watch twice
      listeners.add(own);
      return () => void listeners.delete(own);
    },
    close() {
      closing ??= queue.then(() => {
        listeners.clear();
        return release();
      });
      return closing;
    },
  };
}

/** The snapshot after these changes, which all get the next revision. Changes nothing. */
export function applyChanges(snapshot: Snapshot, changes: readonly Change[]): Snapshot {
  const revision = snapshot.revision + 1;
  const services = new Map(snapshot.services);
  const pools = new Map(snapshot.pools);
  for (const change of changes) {
    if (change.kind === 'service') set(services, change.name, change.value, revision);
    else if (change.kind === 'pool') setPool(pools, change.name, change.value, revision);
    else setHealth(pools, change.name, change.value);
  }
  return { ...snapshot, revision, services, pools };
}

function set<T>(objects: Map<string, { value: T; revision: number }>, name: string, value: T | null, revision: number) {
  if (value === null) objects.delete(name);
  else objects.set(name, { value, revision });
}

/** With the pool goes the log of its members: who writes one writes the other. */
function setPool(pools: Map<string, StoredPool>, name: string, value: Pool | null, revision: number): void {
  const old = pools.get(name);
  const health = value && healthAfter(old, value);
  if (value === null) pools.delete(name);
  else {
    const log = nextLog(old, value, timeOfDay(), health ?? undefined);
    pools.set(name, { value, revision, log, ...(health && { health }) });
  }
}

function setHealth(pools: Map<string, StoredPool>, name: string, health: PoolHealth): void {
  const old = pools.get(name);
  if (old) pools.set(name, { ...old, health, log: nextLog(old, old.value, timeOfDay(), health) });
}

/** What was known of the backends that are still the same ones, and are looked after. */
function healthAfter(old: StoredPool | undefined, value: Pool): PoolHealth | null {
  if (!old?.health || !value.healthCheck) return null;
  const before = new Map(old.value.backends.map((backend) => [backend.name, backend.address]));
  const same = new Set(
    value.backends.filter((b) => b.state !== 'disabled' && before.get(b.name) === b.address).map(({ name }) => name),
  );
  const { failOpen, down, slow } = old.health;
  const kept = <T extends { readonly name: string }>(list: readonly T[]) => list.filter(({ name }) => same.has(name));
  return { failOpen, down: kept(down), slow: kept(slow) };
}

/** The change is durable: a listener's bug must not look like a failed update to the writer. It surfaces as uncaught. */
export function tellAll(listeners: Iterable<(snapshot: Snapshot) => void>, snapshot: Snapshot): void {
  for (const listener of listeners) {
    try {
      listener(snapshot);
    } catch (error) {
      queueMicrotask(() => {
        throw error;
      });
    }
  }
}
