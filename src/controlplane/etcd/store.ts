// SPDX-License-Identifier: Apache-2.0
// The store in etcd, shared by all nodes.
import { randomUUID } from 'node:crypto';
import { FairleadError, messageOf } from '../../model/errors.js';
import type { EventLog, NewEvent } from '../../model/events.js';
import type { Snapshot } from '../../model/objects.js';
import { newHashKey } from '../memory-store.js';
import { slices } from '../slices.js';
import type { Change, Store, StoreLog } from '../store.js';
import { applyChanges, tellAll } from '../store-core.js';
import type { EtcdClient, KeyEvent } from './client.js';
import { readCluster, writeCluster } from './cluster.js';
import { knownRevision, take, type Update } from './documents.js';
import {
  type FollowedListing,
  type FollowTimes,
  follow,
  RELIST_REASONS,
  type Reader,
  type RelistReason,
} from './follow.js';
import { keysBelow } from './keys.js';
import type { Listing } from './listing.js';
import { openCarrier } from './restored.js';
import { loadSnapshot, lockSnapshot, openSnapshotFile } from './snapshot-file.js';
import { atRevision, keyOf, keysOf, type State, storedRevision, textOf, unlike, withChanges } from './state.js';
import { commitOnce } from './write.js';

export interface EtcdStoreOptions {
  /** Of the node, closed by whoever opened it. */
  readonly client: EtcdClient;
  /** Ends with '/'. */
  readonly prefix: string;
  /** The file of the last state; null: none is kept. */
  readonly snapshot: string | null;
  readonly endpoints: number; // how many
  /** Asked before a cluster is made; throws 'conflict' when that would be a mistake. */
  readonly mayBegin?: () => Promise<void>;
  readonly log: StoreLog;
  readonly events?: EventLog;
  readonly times?: FollowTimes;
}

/** How long a start waits for etcd before it goes on with the file, and a writer for what a faster one wrote, ms. */
const START_MS = 3000;
/** The same where there is no file and etcd has begun to answer: a large cluster on a busy machine takes its time. */
const FIRST_START_MS = 30_000;
const CATCH_UP_MS = 2000;
/** After so long away, writes are refused without asking etcd: they would wait in line, each for its own timeout, ms. */
const AWAY_MS = 3000;
/** How long a writer tries to be the fastest, ms. */
const UPDATE_MS = 10_000;
/** Of --max-txn-ops (128), less what goes with each write. */
const CHANGES_MAX = 120;

/**
 * Opens the store below `prefix`. An etcd without a cluster of ours gets one, with a hash key of its own, unless the file holds one with objects: then the etcd is taken to be
 * wiped, the file stays in force, and nothing is written. When etcd cannot be reached the file is in force until it can. Throws what etcd said when there is no file
 * either, 'busy' while another process has the file open.
 */
export async function openEtcdStore(options: EtcdStoreOptions): Promise<Store> {
  const release = options.snapshot === null ? () => undefined : await lockSnapshot(options.snapshot);
  try {
    const store = await openUnlocked(options);
    let closing: Promise<void> | null = null;
    return {
      ...store,
      close() {
        closing ??= store.close().finally(release);
        return closing;
      },
    };
  } catch (error) {
    release();
    throw error;
  }
}

async function openUnlocked(options: EtcdStoreOptions): Promise<Store> {
  const { client, prefix, log } = options;
  const keys = keysBelow(prefix);
  const file = options.snapshot === null ? null : openSnapshotFile(options.snapshot, log);
  let damaged: FairleadError | null = null;
  const saved =
    options.snapshot === null
      ? null
      : await loadSnapshot(options.snapshot).catch((error: FairleadError) => {
          damaged = error; // etcd has what matters
          log.warn({ snapshot: options.snapshot }, error.message);
          return null;
        });
  const listeners = new Set<(snapshot: Snapshot) => void>();
  const waiting = new Set<() => void>();
  const relists = new Map<RelistReason, number>(RELIST_REASONS.map((reason) => [reason, 0]));
  let state: State = {
    snapshot: saved ?? { revision: 0, hashKey: newHashKey(), services: new Map(), pools: new Map() },
    skipped: new Map(),
    guard: 0,
    epoch: 0,
    deleted: new Map(),
  };
  const unheard = new FairleadError('unavailable', 'etcd has not answered yet');
  let away: FairleadError | null = unheard;
  let awaySince = performance.now();
  /** Why what etcd has is not taken, though it answers. */
  let held: string | null = null;
  let hashKeyInUse = false;
  let closing: Promise<void> | null = null;
  let queue: Promise<unknown> = Promise.resolve();
  let turn: Promise<unknown> = Promise.resolve();

  const tell = (type: string, severity: NewEvent['severity'], message: string, data: NewEvent['data'] = {}): void =>
    options.events?.emit({ type, severity, object: null, message, data });

  /** Changes of `state` happen one after the other: taking documents lets the event loop turn. */
  function alone<T>(step: () => Promise<T>): Promise<T> {
    const result = turn.then(step);
    turn = result.catch(() => undefined);
    return result;
  }

  function set(next: State): void {
    const before = state;
    state = next;
    for (const [key, { revision, detail }] of next.skipped) {
      if (before.skipped.get(key)?.revision === revision && before.skipped.get(key)?.detail === detail) continue;
      log.warn({ key, revision, detail }, 'document skipped; the last good one stays in force');
      const message = `document "${keys.short(key)}" is not in force: ${detail}`;
      tell('document.skipped', 'warning', message, { key: keys.short(key), revision });
    }
    for (const wake of waiting) wake();
    if (next.snapshot === before.snapshot) return;
    file?.save(next.snapshot);
    tellAll(listeners, next.snapshot);
  }

  function hold(why: string | null): void {
    if (why !== null && why !== held) {
      log.warn({ revision: state.snapshot.revision }, why);
      tell('store.refused', 'error', why);
    }
    held = why;
    for (const wake of waiting) wake();
  }

  /** The state with these updates, at `revision` or what it is at if that is later. */
  async function taken(from: State, updates: ReadonlyMap<string, Update>, revision: number): Promise<State> {
    const { snapshot, skipped } = await take(from, keys, updates);
    const newest = Math.max(from.snapshot.revision, revision);
    return { ...from, skipped, snapshot: newest === snapshot.revision ? snapshot : { ...snapshot, revision: newest } };
  }

  const isInForce = ({ services, pools }: Snapshot): boolean => services.size + pools.size > 0;

  /** The cluster's secret; null, and `held`, when what is in force must not become what etcd has. Makes the cluster when there is nothing to lose. */
  async function clusterKey(): Promise<string | null> {
    const { snapshot } = state;
    let cluster = await readCluster(client, keys);
    if (cluster === null && !isInForce(snapshot)) {
      await options.mayBegin?.();
      cluster = await writeCluster(client, keys, snapshot.hashKey);
    }
    const end = `revision ${snapshot.revision} stays in force, and nothing is written`;
    if (cluster === null) {
      const file = options.snapshot ?? 'SNAPSHOT';
      hold(
        `etcd holds no cluster below "${prefix}", though there was one; ${end}: restore it, or fill it with "fairlead migrate --from file:${file} --to etcd"; to begin with nothing, stop the nodes and delete "${file}"`,
      );
    } else if (hashKeyInUse && cluster.hashKey !== snapshot.hashKey) {
      hold(
        `etcd holds another cluster below "${prefix}", with another hash key; ${end}: start this daemon anew to take it`,
      );
    } else return cluster.hashKey;
    return null;
  }

  async function relist(list: () => Promise<FollowedListing>, reason: RelistReason): Promise<Listing> {
    const hashKey = await clusterKey();
    const listing = await list();
    relists.set(reason, (relists.get(reason) ?? 0) + 1);
    if (reason !== 'start' && reason !== 'periodic')
      log.warn({ reason, revision: listing.revision }, 'everything in etcd was read anew');
    if (reason !== 'periodic')
      tell('store.relisted', 'info', `everything in etcd was read anew: ${reason}`, {
        reason,
        revision: listing.revision,
      });
    if (hashKey === null) return listing;
    const wentBack = listing.isOther || held !== null || state.snapshot.revision > listing.revision;
    const isNew = wentBack || state.epoch === 0;
    const from: State = isNew
      ? unlike({ ...state, snapshot: { ...state.snapshot, hashKey, revision: 0 }, epoch: state.epoch + 1 })
      : state;
    const pause = slices();
    const updates = new Map<string, Update>();
    const there = new Set<string>();
    let newest = 0;
    let guard = 0;
    for (const { key, value, revision } of listing.items) {
      await pause();
      there.add(key);
      newest = Math.max(newest, revision);
      if (key === keys.revision) guard = revision;
      else if (keys.parse(key) && (isNew || revision !== knownRevision(from, keys, key)))
        updates.set(key, { value, revision });
    }
    for (const key of keysOf(from, keys)) {
      await pause();
      if (!there.has(key) && from.skipped.get(key)?.value !== null)
        updates.set(key, { value: null, revision: listing.revision });
    }
    const next = await taken(from, updates, newest);
    const isRestored = wentBack && hashKey === state.snapshot.hashKey;
    const snapshot = isRestored ? carrier.carry(state.snapshot, next.snapshot) : next.snapshot;
    set({ ...next, snapshot, guard, deleted: new Map() });
    hold(null);
    void carrier.write();
    return listing;
  }

  async function changed(events: readonly KeyEvent[]): Promise<void> {
    if (held !== null) return follower.relist(); // what it waits for may have come
    const updates = new Map<string, Update>();
    let { guard } = state;
    for (const { key, value, revision } of events) {
      if (key === keys.revision && revision > guard) guard = value === null ? 0 : revision;
      if (keys.parse(key) === null) continue;
      const known = Math.max(knownRevision(state, keys, key), state.deleted.get(key) ?? 0);
      if (revision > known && (value !== null || known > 0 || updates.has(key))) updates.set(key, { value, revision });
    }
    const newest = events.at(-1)?.revision ?? 0;
    const deleted = new Map([...state.deleted].filter(([, revision]) => revision > newest));
    set({ ...(await taken(state, updates, newest)), guard, deleted });
  }

  const carrier = openCarrier(update, log);
  const reader: Reader = {
    relist: (list, reason) => alone(() => relist(list, reason)),
    changed: (events) => alone(() => changed(events)),
    connected(error) {
      if (error === null && away !== null) {
        log.info({ revision: state.snapshot.revision }, 'etcd answers');
        tell('store.connected', 'info', `etcd answers; revision ${state.snapshot.revision}`);
      }
      if (error !== null && away === null) {
        log.warn({ why: error.message }, 'etcd is away; the last state stays in force');
        tell('store.disconnected', 'warning', `${error.message}; revision ${state.snapshot.revision} stays in force`);
        awaySince = performance.now();
      }
      away = error;
      for (const wake of waiting) wake();
    },
  };
  const follower = follow(client, keys.documents, reader, options.times);

  /** Resolves true once `holds`, false after `ms`. */
  function until(holds: () => boolean, ms: number): Promise<boolean> {
    return new Promise((resolve) => {
      const look = (): void => {
        if (holds()) end(true);
      };
      const end = (result: boolean): void => {
        clearTimeout(timer);
        waiting.delete(look);
        resolve(result);
      };
      const timer = setTimeout(() => end(false), ms);
      waiting.add(look);
      look();
    });
  }

  async function run(decide: (snapshot: Snapshot) => readonly Change[]): Promise<Snapshot> {
    const end = performance.now() + UPDATE_MS;
    for (;;) {
      const base = state;
      if (held !== null) throw new FairleadError('unavailable', `update the store: ${held}`);
      const changes = decide(base.snapshot);
      if (changes.length === 0) return base.snapshot;
      if (changes.length > CHANGES_MAX)
        throw new FairleadError(
          'full',
          `update the store: ${changes.length} changes at once; etcd takes ${CHANGES_MAX}`,
        );
      if (base.epoch === 0 || (away !== null && performance.now() - awaySince > AWAY_MS))
        throw new FairleadError('unavailable', `update the store: ${away?.message}; nothing was changed`);
      const draft = applyChanges(base.snapshot, changes);
      const writeId = randomUUID();
      const touched = changes.map((change) => keyOf(keys, change));
      const outcome = await commitOnce(
        client,
        {
          writeId,
          guard: keys.revision,
          guardRevision: base.guard,
          conditions: touched.map((key) => ({ key, revision: storedRevision(base, keys, key) })),
          puts: changes.map((change, at) => ({ key: touched[at] ?? '', value: textOf(draft, change, writeId) })),
          read: touched,
        },
        options.endpoints * 2,
      );
      if (outcome.done) return alone(() => settled(base, draft, changes, outcome.revision));
      const { guard, found } = outcome;
      const isNews = () =>
        (guard === null || state.guard >= guard.revision) &&
        touched.every((key, at) => storedRevision(state, keys, key) === (found[at]?.revision ?? 0));
      const hasIt = await until(
        () => state.epoch !== base.epoch || held !== null || (state !== base && isNews()),
        CATCH_UP_MS,
      );
      if (!hasIt) follower.relist(); // the watch is away, or has missed something
      if (performance.now() > end)
        throw new FairleadError(
          'unavailable',
          `update the store: other writers were faster for ${UPDATE_MS / 1000} s; nothing was changed`,
        );
    }
  }

  function update(decide: (snapshot: Snapshot) => readonly Change[]): Promise<Snapshot> {
    if (closing !== null) return Promise.reject(new FairleadError('unavailable', 'update the store: it is closed'));
    const result = queue.then(() => run(decide));
    queue = result.catch(() => undefined); // the caller has the error; the next update starts anew
    return result;
  }

  /** What was written is in force here as soon as it is there, without waiting for the watch to tell. */
  async function settled(
    base: State,
    draft: Snapshot,
    changes: readonly Change[],
    revision: number,
  ): Promise<Snapshot> {
    const own = atRevision(draft, changes, revision);
    if (state.epoch !== base.epoch) return own;
    if (state.guard < revision) {
      const skipped = new Map(state.skipped);
      const deleted = new Map(state.deleted);
      for (const change of changes) {
        const key = keyOf(keys, change);
        skipped.delete(key);
        if (change.value === null) deleted.set(key, revision);
      }
      const snapshot = state.snapshot === base.snapshot ? own : withChanges(state.snapshot, own, changes);
      set({ ...(await taken({ ...state, snapshot, skipped, deleted }, new Map(), revision)), guard: revision });
    } // else the watch was faster
    return state.snapshot.revision === revision ? state.snapshot : own;
  }

  const isThere = () => away === null || held !== null;
  const isRefused = () => saved === null && (away?.code === 'permission' || away?.code === 'conflict');
  await until(() => isThere() || isRefused(), START_MS);
  if (saved === null) await until(() => isThere() || away !== unheard, FIRST_START_MS);
  if (!isThere()) {
    if (saved === null) {
      await follower.close();
      const { code = 'unavailable', message = '' }: Partial<FairleadError> = away ?? {};
      const instead = damaged === null ? `there is no last state in "${options.snapshot}"` : messageOf(damaged);
      throw new FairleadError(code, `open the store: ${message}; and ${instead}`);
    }
    log.warn(
      { revision: saved.revision, snapshot: options.snapshot, why: away?.message },
      'etcd is away; the last state on disk is in force',
    );
    const end = `the last state on disk, revision ${saved.revision}, is in force`;
    tell('store.disconnected', 'warning', `${(away ?? unheard).message}; ${end}`);
  }
  hashKeyInUse = true;

  return {
    kind: 'etcd',
    read: () => state.snapshot,
    update,
    watch(listener) {
      const own = (snapshot: Snapshot) => listener(snapshot); // the same function may watch twice
      listeners.add(own);
      return () => void listeners.delete(own);
    },
    state: () => ({
      connected: away === null && held === null,
      detail: held ?? (away && `${away.message}; revision ${state.snapshot.revision} stays in force`),
      skipped: [...state.skipped].map(([key, { revision, detail }]) => ({ key: keys.short(key), revision, detail })),
      relists,
    }),
    close() {
      closing ??= queue.then(async () => {
        listeners.clear();
        await follower.close();
        await file?.close();
      });
      return closing;
    },
  };
}
