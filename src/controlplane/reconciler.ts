// SPDX-License-Identifier: Apache-2.0
import type { Maps } from '../dataplane/maps.js';
import { FairleadError, messageOf } from '../model/errors.js';
import type { Snapshot } from '../model/objects.js';
import { apply } from './apply.js';
import { desired, type NextHops, type RingCache } from './desired.js';
import { readKernel } from './kernel-state.js';
import type { NextHopResolver } from './next-hops.js';
import { adoptNumbering, assignNumbers, type Limits, type Numbering, releaseNumbers } from './numbering.js';
import { plan } from './plan.js';
import type { Store } from './store.js';

/** What the reconciler knows after its last round. */
export interface Applied {
  /** Store revision the kernel holds in full; -1 before the first, an empty store has 0. */
  readonly revision: number;
  readonly snapshot: Snapshot;
  readonly numbering: Numbering;
  readonly hops: NextHops;
  /** Why the newest round did not get through; null when it did. */
  readonly error: string | null;
  /** Rounds that changed something, and how long the last such took, ms. */
  readonly changes: number;
  readonly lastChangeMs: number;
}

export interface Reconciler {
  state(): Applied;
  /** Resolves when the kernel holds `revision` or a later one; rejects 'unavailable' after `timeoutMs`, or with the error of the round that tried. */
  applied(revision: number, timeoutMs: number): Promise<void>;
  /** Called after every round. */
  onRound(listener: () => void): void;
  close(): Promise<void>;
}

/** A missed event heals itself within this. */
const PERIOD_MS = 10_000;
/** While a backend's next hop is not known. */
const UNRESOLVED_MS = 200;

export const limitsOf = (maps: Maps): Limits => ({
  services: maps.handle.flow_budgets.info.maxEntries,
  pools: maps.handle.pools.info.maxEntries,
  backends: Math.min(maps.handle.backends.info.maxEntries, 65536),
  counters: maps.handle.counters.info.maxEntries,
});

/**
 * Keeps the kernel equal to the store and to what is observed: on each change, every 10 seconds, and sooner while next
 * hops are unresolved. The same code at start and later; a round that finds no difference writes nothing.
 */
export function startReconciler(maps: Maps, store: Store, resolver: NextHopResolver): Reconciler {
  const limits = limitsOf(maps);
  const rings: RingCache = new Map();
  const listeners: (() => void)[] = [];
  let state: Applied = {
    revision: -1,
    snapshot: store.read(),
    numbering: adoptNumbering(readKernel(maps), store.read()),
    hops: new Map(),
    error: null,
    changes: 0,
    lastChangeMs: 0,
  };
  let closed = false;
  let timer: NodeJS.Timeout | null = null;
  let running: Promise<void> | null = null;
  let again = false;

  async function round(): Promise<void> {
    const started = performance.now();
    const snapshot = store.read();
    const { numbering } = state;
    const addresses = new Set(
      [...snapshot.pools.values()].flatMap(({ value }) => value.backends.map((b) => b.address)),
    );
    const hops = await resolver.resolve([...addresses]);
    assignNumbers(numbering, snapshot, limits);
    const want = await desired(snapshot, numbering, hops, rings);
    const sizes = new Map([...numbering.services.values()].map((service) => [service.number, service.counters]));
    const steps = plan(readKernel(maps), want, (service) => sizes.get(service) ?? 0);
    await apply(maps, steps);
    releaseNumbers(numbering, snapshot);
    if (steps.length > 0 && plan(readKernel(maps), want, () => 0).length > 0) {
      throw new FairleadError(
        'native',
        `apply revision ${snapshot.revision}: the kernel does not hold what was written`,
      );
    }
    const changed = steps.length > 0;
    state = {
      revision: snapshot.revision,
      snapshot,
      numbering,
      hops,
      error: null,
      changes: state.changes + (changed ? 1 : 0),
      lastChangeMs: changed ? performance.now() - started : state.lastChangeMs,
    };
  }

  async function loop(): Promise<void> {
    do {
      again = false;
      try {
        await round();
      } catch (error) {
        state = { ...state, error: messageOf(error) };
      }
      for (const listener of listeners) listener();
    } while (again && !closed);
    running = null;
    if (closed) return;
    const unresolved = [...state.hops.values()].some((hop) => hop === null);
    timer = setTimeout(trigger, unresolved ? UNRESOLVED_MS : PERIOD_MS);
  }

  function trigger(): void {
    if (closed) return;
    if (timer) clearTimeout(timer);
    timer = null;
    if (running) again = true;
    else running = loop();
  }

  const unwatch = store.watch(trigger);
  trigger();

  return {
    state: () => state,
    onRound: (listener) => void listeners.push(listener),
    applied: (revision, timeoutMs) =>
      new Promise((resolve, reject) => {
        const settle = (error: Error | null): void => {
          clearTimeout(deadline);
          const at = listeners.indexOf(check);
          if (at >= 0) listeners.splice(at, 1);
          if (error) reject(error);
          else resolve();
        };
        const check = (): void => {
          if (state.revision >= revision) settle(null);
          else if (state.error) settle(new FairleadError('unavailable', `apply revision ${revision}: ${state.error}`));
        };
        const deadline = setTimeout(
          () => settle(new FairleadError('unavailable', `apply revision ${revision}: not done within ${timeoutMs} ms`)),
          timeoutMs,
        );
        listeners.push(check);
        if (state.revision >= revision) settle(null);
      }),
    async close() {
      closed = true;
      unwatch();
      if (timer) clearTimeout(timer);
      await running;
    },
  };
}
