// SPDX-License-Identifier: Apache-2.0
// Looks after the backends of all pools, and agrees with the other nodes on who is down (docs/health.md).
import { messageOf } from '../../model/errors.js';
import type { EventLog } from '../../model/events.js';
import { type PoolHealth, type Service, SLOW_STEPS, type Snapshot, type StoredPool } from '../../model/objects.js';
import { timeOfDay } from '../clock.js';
import type { Presence } from '../presence.js';
import { slices } from '../slices.js';
import type { Change, Store, StoreLog } from '../store.js';
import { ALL_WELL, nextHealth, sameHealth } from './agree.js';
import { type Checked, type Checker, openChecker } from './checker.js';
import { runCheck } from './checks.js';
import { openHealthNews } from './news.js';
import { openReports, type Report } from './reports.js';
import { placeOf, servicesByPool, subjectKey, subjectsOf } from './subjects.js';
import { FLAPS } from './track.js';
import { openView, type StoreView } from './view.js';

export interface HealthOptions {
  /** This node's name. */
  readonly node: string;
  readonly store: Store;
  readonly presence: Presence;
  readonly events: EventLog;
  readonly log: StoreLog;
  /** Default: runCheck. */
  readonly run?: typeof runCheck;
  readonly times?: HealthTimes;
}

export interface HealthTimes {
  /** How much longer than the one before it a node waits before it writes what has been agreed on, ms. */
  readonly rankMs: number;
  /** After so long without anyone having written it, a node acts on it alone, ms. */
  readonly aloneMs: number;
  /** Nodes that disagree on a backend for longer are told of, ms: a while is what they need to find out. */
  readonly disputedMs: number;
}

/** What one node knows of a backend's health. */
export interface BackendView {
  /** This node's own checks; null: none yet. */
  readonly checked: Checked | null;
  /** What the nodes say, this one included, by node. */
  readonly reports: ReadonlyMap<string, Report>;
}

export interface Health {
  /** The store with the health that is in force here: what the reconciler goes by. */
  readonly view: StoreView;
  backend(pool: string, backend: string): BackendView;
  /** Sentences: pools that fail open, nodes that disagree, checks that come late. */
  warnings(): string[];
  counts(): ReturnType<Checker['counts']> & { readonly transitions: { readonly up: number; readonly down: number } };
  close(): void;
}

const TIMES: HealthTimes = { rankMs: 500, aloneMs: 2500, disputedMs: 60_000 };
/** How often what waits is looked at, and between two tries to write, ms. */
const PERIOD_MS = 100;
const RETRY_MS = 1000;
/** How long one turn of the event loop may be used, ms. */
const SLICE_MS = 4;
/** Changes in one write; etcd takes 120. */
const BATCH = 100;

/** Runs until closed. Everything but the presence and the store goes on while those are away. */
export function openHealth(options: HealthOptions): Health {
  const { node, store, presence, events, log, run = runCheck, times = TIMES } = options;
  const view = openView(store);
  const dirty = new Set<string>();
  const checked = new Map<string, Map<string, Checked>>(); // pool, backend
  const seen = new Map<string, { readonly stored: StoredPool; readonly key: string }>(); // what `checked` was made from
  const waiting = new Map<string, number>(); // pool: since when its health is to be another, performance.now()
  const steps = new Map<string, { readonly step: number; readonly at: number }>(); // pool/backend on its way back
  const reports = openReports(node, presence, (pools) => mark(pools));
  const news = openHealthNews(events, view, reports, times.disputedMs);
  const checker = openChecker(run, (each) => {
    const { pool, backend } = each.subject;
    reports.say(pool, backend, each);
    if (!each.track.up && each.track.downs >= FLAPS && each.track.streak === 0) news.flapping(each);
    mark([pool]);
  });
  let wasHeard = false;
  let wasAway = false;
  let isStarting = true;
  let scheduled = false;
  let writing = false;
  let retryAt = 0;
  let told = '';
  let closed = false;
  let isFollowing = false;
  let isBehind = false; // of the store, or about to be

  function mark(pools: Iterable<string>): void {
    for (const pool of pools) dirty.add(pool);
    if (scheduled || closed) return;
    scheduled = true;
    setImmediate(() => {
      scheduled = false;
      decide();
    });
  }

  /** Checks those that are to be checked, and no others. */
  function follow(): void {
    isBehind = true;
    if (!isFollowing) void followAll();
  }

  async function followAll(): Promise<void> {
    isFollowing = true;
    for (; isBehind && !closed; await followOnce(store.read())) isBehind = false;
    isFollowing = false;
  }

  /** In slices, each pool in one. */
  async function followOnce(snapshot: Snapshot): Promise<void> {
    const pause = slices();
    const byPool = servicesByPool(snapshot);
    for (const [name, stored] of snapshot.pools) {
      const services = byPool.get(name) ?? [];
      const key = services
        .map(({ address, port, protocol, forwarding }) => [address, port, protocol, forwarding])
        .join();
      const before = seen.get(name);
      if (before?.stored === stored && before.key === key) continue;
      seen.set(name, { stored, key });
      if (before?.stored.value !== stored.value || before.key !== key) followPool(stored, services);
      if (stored.value.healthCheck) mark([name]);
      const turn = pause(); // behind it: the change of one pool is followed at once
      if (turn) await turn;
      if (closed) return;
    }
    for (const name of [...seen.keys()]) {
      if (snapshot.pools.has(name)) continue;
      seen.delete(name);
      for (const each of checked.get(name)?.values() ?? []) drop(each);
      forget(name);
    }
    isStarting = false;
  }

  function followPool(stored: StoredPool, services: readonly Service[]): void {
    const { name } = stored.value;
    const now = checked.get(name) ?? new Map<string, Checked>();
    const wanted = subjectsOf(stored.value, services);
    const known = new Map<string, string>(); // addresses whose results go on to count
    for (const [backend, each] of now) {
      if (each.track.known) known.set(backend, placeOf(each.subject));
      const subject = wanted.get(backend);
      if (subject && subjectKey(subject) === subjectKey(each.subject)) continue;
      drop(each);
      now.delete(backend);
    }
    const down = new Set(stored.health?.down.map((each) => each.name));
    for (const [backend, subject] of wanted) {
      if (now.has(backend)) continue;
      // At a start everything goes on from what was agreed; one that comes later is judged by its first check.
      const isNew = !isStarting && known.get(backend) !== placeOf(subject);
      now.set(backend, checker.add(subject, !down.has(backend), isNew));
    }
    if (now.size > 0) checked.set(name, now);
    else checked.delete(name);
    if (!stored.value.healthCheck) forget(name);
  }

  function drop(each: Checked): void {
    checker.remove(each);
    reports.say(each.subject.pool, each.subject.backend, null);
  }

  function forget(pool: string): void {
    waiting.delete(pool);
    dirty.delete(pool);
    checked.delete(pool);
    view.set(pool, null);
  }

  /** Whether what this node finds does not reach the others, or the store. */
  function isAway(): boolean {
    const left = presence.leftMs();
    wasHeard ||= left > 0;
    return !store.state().connected || (wasHeard && left === 0);
  }

  function decide(): void {
    const away = isAway();
    const due = new Map<string, PoolHealth>();
    const begun = performance.now();
    for (const name of [...dirty]) {
      if (performance.now() - begun > SLICE_MS) {
        mark([]);
        break;
      }
      dirty.delete(name);
      const stored = store.read().pools.get(name);
      if (!stored?.value.healthCheck) forget(name);
      else if (decidePool(name, stored, away, due)) dirty.add(name); // behind the others
    }
    if (due.size > 0 && !writing && performance.now() >= retryAt) void write(due);
  }

  /** True when it has to be looked at again though nothing is told of it. */
  function decidePool(name: string, stored: StoredPool, away: boolean, due: Map<string, PoolHealth>): boolean {
    const agreed = stored.health ?? ALL_WELL;
    const own = view.own(name);
    const inForce = () => view.read().pools.get(name) ?? stored;
    let next = following(inForce(), away);
    // As soon as the store says what this node says, or would say by now, that is in force, with its steps.
    if (own && !away && (sameOut(own, agreed) || sameOut(next, agreed))) {
      view.set(name, null);
      next = following(stored, false);
    }
    const base = inForce();
    const now = performance.now();
    if (away) {
      waiting.delete(name);
      if (!sameHealth(next, base.health ?? ALL_WELL)) view.set(name, next);
      return next.slow.length > 0;
    }
    if (sameHealth(next, agreed)) {
      waiting.delete(name);
      return next.slow.length > 0;
    }
    const since = waiting.get(name) ?? now;
    waiting.set(name, since);
    const rank = Math.max(0, reports.nodes(name).indexOf(node));
    if (now - since >= rank * times.rankMs && due.size < BATCH) due.set(name, next);
    if (now - since >= times.aloneMs && !sameHealth(next, base.health ?? ALL_WELL)) view.set(name, next);
    return true;
  }

  /** The health that follows that of `stored`, from what all nodes say, or this one alone. */
  function following(stored: StoredPool, alone: boolean): PoolHealth {
    const { name, healthCheck } = stored.value;
    const now = performance.now();
    const stepMs = ((healthCheck?.slowStart ?? 0) * 1000) / SLOW_STEPS;
    for (const { name: backend, step } of stored.health?.slow ?? []) {
      const key = `${name}/${backend}`;
      if (steps.get(key)?.step !== step) steps.set(key, { step, at: now });
    }
    return nextHealth(
      stored,
      (backend) => (alone ? reports.ownVotes(name, backend) : reports.votes(name, backend)),
      (backend) => now - (steps.get(`${name}/${backend}`)?.at ?? now) >= stepMs,
      timeOfDay(),
    );
  }

  /** Writes what was decided, if it still is what follows from the newest the store has. */
  async function write(due: ReadonlyMap<string, PoolHealth>): Promise<void> {
    writing = true;
    const own = new Map([...due.keys()].map((name) => [name, view.own(name)]));
    try {
      await store.update(({ pools }) =>
        [...due].flatMap(([name, wanted]): Change[] => {
          const stored = pools.get(name);
          if (!stored?.value.healthCheck) return [];
          const value = own.get(name) ? within(wanted, stored) : following(stored, false);
          return sameHealth(value, stored.health ?? ALL_WELL) ? [] : [{ kind: 'health', name, value }];
        }),
      );
      told = '';
    } catch (error) {
      retryAt = performance.now() + RETRY_MS;
      const line = `write the health of ${due.size} pools: ${messageOf(error)}; this node acts on it alone`;
      if (line !== told && !closed) log.info({ pools: [...due.keys()].slice(0, 10) }, line);
      told = line;
    } finally {
      writing = false;
      if (!closed) mark(due.keys());
    }
  }

  const timer = setInterval(() => {
    const away = isAway();
    if (away !== wasAway) mark(checked.keys());
    wasAway = away;
    if (dirty.size > 0 && !scheduled) decide();
  }, PERIOD_MS);
  const unwatch = store.watch(follow);
  follow();

  return {
    view,
    backend: (pool, backend) => ({
      checked: checked.get(pool)?.get(backend) ?? null,
      reports: reports.of(pool, backend),
    }),
    warnings: () => {
      const late = checker.waiting();
      return [...news.warnings(), ...(late > 0 ? [`${late} health checks wait for their turn`] : [])];
    },
    counts: () => ({ ...checker.counts(), transitions: news.transitions() }),
    close() {
      closed = true;
      clearInterval(timer);
      unwatch();
      checker.close();
      reports.close();
      news.close();
    },
  };
}

/** Whether the same backends take no new flow. */
const sameOut = (a: PoolHealth, b: PoolHealth): boolean => sameHealth({ ...a, slow: [] }, { ...b, slow: [] });

/** Without backends that the pool has not any more. */
function within(health: PoolHealth, { value }: StoredPool): PoolHealth {
  const names = new Set(value.backends.map(({ name }) => name));
  const kept = <T extends { readonly name: string }>(list: readonly T[]) => list.filter(({ name }) => names.has(name));
  return { ...health, down: kept(health.down), slow: kept(health.slow) };
}
