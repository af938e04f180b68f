// SPDX-License-Identifier: Apache-2.0
import type { Range } from '../dataplane/first-fit.js';
import type { Maps } from '../dataplane/maps.js';
import type { NatTables } from '../dataplane/nat.js';
import { native } from '../dataplane/native.js';
import { writeVipFilter } from '../dataplane/services.js';
import { FairleadError, messageOf } from '../model/errors.js';
import type { Snapshot } from '../model/objects.js';
import { apply, placeRings } from './apply.js';
import { timeOfDay } from './clock.js';
import { changesAt, desired, type NextHops, nextDeadline, type PoolCache } from './desired.js';
import type { StoreView } from './health/view.js';
import { type KernelState, readKernel } from './kernel-state.js';
import { forgetNat, type NatSources, writeNat } from './nat.js';
import type { NextHopResolver } from './next-hops.js';
import {
  adoptNumbering,
  assignNumbers,
  copyNumbering,
  emptyNumbering,
  type Limits,
  type Numbering,
  releaseNumbers,
} from './numbering.js';
import { plan, type Step } from './plan.js';
import type { PoolRing } from './pool-ring.js';
import { featuresOf, openSettings } from './settings.js';
import { slices } from './slices.js';
import { holdsAll, holdsSteps } from './verify.js';

/** What the reconciler knows after its last round. */
export interface Applied {
  /** Store revision the kernel holds in full; -1 before the first, an empty store has 0. */
  readonly revision: number;
  readonly snapshot: Snapshot;
  /** Never written to: each round goes on with a copy. */
  readonly numbering: Numbering;
  readonly hops: NextHops;
  /** By pool. */
  readonly rings: ReadonlyMap<string, PoolRing>;
  /** Why the newest round did not get through; null when it did. */
  readonly error: string | null;
  /** Rounds that changed something, and how long the last such took, ms. */
  readonly changes: number;
  readonly lastChangeMs: number;
  /** How often a ring was found other than it had been written, and was written anew; the pools of the last time. */
  readonly repairs: { readonly count: number; readonly pools: readonly string[] };
}

export interface Reconciler {
  state(): Applied;
  /** Resolves when the kernel holds `revision` or a later one; rejects 'unavailable' after `timeoutMs`, or with the error of the round that tried. */
  applied(revision: number, timeoutMs: number): Promise<void>;
  /** Compares all that the kernel holds with what it is to hold, as every 10 seconds; resolves when what differed is put right. */
  verify(): Promise<void>;
  /** Called after every round. */
  onRound(listener: () => void): void;
  /** Whether a round is under way: the kernel may be between two states. */
  busy(): boolean;
  close(): Promise<void>;
}

/** The kernel's number of a pool's backend that packets can be sent to; null: there is none. */
export function backendNumber({ numbering, hops }: Applied, pool: string, address: string): number | null {
  if (hops.get(address) == null) return null;
  return numbering.pools.get(pool)?.members.get(address)?.number ?? null;
}

/** A missed event heals itself within this. */
const PERIOD_MS = 10_000;

export const limitsOf = (maps: Maps): Limits => ({
  services: maps.handle.flow_budgets.info.maxEntries,
  pools: maps.handle.pools.info.maxEntries,
  backends: Math.min(maps.handle.backends.info.maxEntries, 65536),
  counters: maps.handle.counters.info.maxEntries,
});

/**
 * `setFeatures` gives the packet path's programs what services want (Dataplane); `sources` are the node's for NAT.
 * Keeps the kernel equal to the store and to what is observed: on each change of either, and every 10 seconds. The same code at start and later; a round that finds no difference writes nothing.
 * A round compares with what the kernel is known to hold. That this is so is looked at every 10 seconds, beside the rounds and in small pieces (verify).
 */
export function startReconciler(
  maps: Maps,
  store: StoreView,
  resolver: NextHopResolver,
  setFeatures: (features: number) => Promise<NatTables | null>,
  sources: NatSources,
): Reconciler {
  const settings = openSettings(maps);
  const limits = limitsOf(maps);
  const pools: PoolCache = new Map();
  const listeners = new Set<() => void>();
  let state: Applied = {
    revision: -1,
    snapshot: store.read(),
    numbering: emptyNumbering(),
    hops: new Map(),
    rings: new Map(),
    error: null,
    changes: 0,
    lastChangeMs: 0,
    repairs: { count: 0, pools: [] },
  };
  /** What the kernel holds, read back from it; null while that is not known. */
  let held: KernelState | null = null;
  /** Every number the kernel may hold: those of `state`, and those of a round that broke off. Null: not read yet. */
  let numbering: Numbering | null = null;
  let tried = -1; // the revision `state.error` is about
  let closed = false;
  /** Places of rings that were replaced, which packets may still read. */
  let left: readonly Range[] = [];
  let drainEnd: NodeJS.Timeout | null = null;
  let verifying: Promise<void> | null = null;
  let running: Promise<void> | null = null;
  let wanted: {
    readonly snapshot: Snapshot;
    readonly numbering: Numbering;
    readonly hops: NextHops;
    readonly kernel: KernelState;
    readonly until: number; // Unix ms
  } | null = null;
  let addresses: { readonly snapshot: Snapshot | null; readonly all: ReadonlySet<string> } = {
    snapshot: null,
    all: new Set(),
  };
  let inRound = false;
  let again = false;

  /** By service number: how many counters, 0 when they are those it has been counted in so far. */
  function freshCounters({ services }: Numbering): Map<number, number> {
    return new Map(
      [...services].map(([id, { number, countersStart, counters }]) => [
        number,
        state.numbering.services.get(id)?.countersStart === countersStart ? 0 : counters,
      ]),
    );
  }

  /** Pools whose ring is written again though it has not changed since it was written last. */
  function repairedIn(steps: readonly Step[]): string[] {
    const written = new Set(steps.flatMap((step) => (step.do === 'set-ring' ? [step.ring] : [])));
    return state.error !== null || state.revision < 0
      ? []
      : [...state.rings].filter(([, { kernel }]) => written.has(kernel)).map(([name]) => name);
  }

  /** No packet reads these a grace period from now; the next change need not wait for that. */
  function letGo(leaving: readonly Range[]): void {
    if (leaving.length === 0) return;
    const gone = () => {
      if (left === leaving) left = [];
    };
    native.synchronize().then(gone, gone);
  }

  async function addressesOf(snapshot: Snapshot): Promise<ReadonlySet<string>> {
    if (addresses.snapshot === snapshot) return addresses.all;
    const pause = slices();
    const all = new Set<string>();
    for (const { value } of snapshot.pools.values()) {
      for (const { address } of value.backends) all.add(address);
      await pause();
    }
    addresses = { snapshot, all };
    return all;
  }

  /** What all objects are numbered as; the last round's own while it has all of them and no others. */
  async function numbered(known: Numbering, snapshot: Snapshot): Promise<Numbering> {
    const isWhole = state.revision >= 0 && state.error === null;
    if (isWhole && state.snapshot === snapshot && state.numbering === known) return known;
    const pause = slices();
    const given = copyNumbering(known);
    await pause();
    assignNumbers(given, snapshot, limits);
    return given;
  }

  /** What the kernel is to hold; the very same as last time when nothing it comes from has changed. */
  async function wantedOf(snapshot: Snapshot, given: Numbering, hops: NextHops): Promise<KernelState> {
    if (wanted?.snapshot === snapshot && wanted.numbering === given && wanted.hops === hops)
      if (timeOfDay() < wanted.until) return wanted.kernel;
    const kernel = await desired(snapshot, given, hops, pools);
    wanted = { snapshot, numbering: given, hops, kernel, until: changesAt(pools) };
    return kernel;
  }

  async function round(snapshot: Snapshot): Promise<void> {
    const started = performance.now();
    const pause = slices();
    const hops = await resolver.resolve(await addressesOf(snapshot));
    if (numbering === null) {
      numbering = await adoptNumbering(await readKernel(maps), snapshot);
      state = { ...state, numbering };
    }
    await pause();
    const given = await numbered(numbering, snapshot);
    await pause();
    const want = await wantedOf(snapshot, given, hops);
    const fresh = freshCounters(given);
    const have = held ?? (await readKernel(maps));
    await pause();
    const steps = plan(have, want, (service) => fresh.get(service) ?? 0);
    await pause();
    const repaired = repairedIn(steps);
    const { places, leaving } = await placeRings(maps, steps, left);
    left = leaving;
    numbering = given; // from here on the kernel may hold them
    held = null;
    const { changed: prepared, clean } = await settings.write(snapshot, given, hops);
    const nat = await setFeatures(featuresOf(snapshot));
    if (nat) {
      await forgetNat(nat, have.services, false);
      writeNat(nat, snapshot, given, sources, steps);
    }
    await apply(maps, steps, places);
    letGo(leaving);
    if (nat)
      await forgetNat(
        nat,
        want.services,
        steps.some((step) => step.do === 'clear-backend'),
      );
    const cleaned = await clean();
    const healed = writeVipFilter(
      maps,
      [...want.services.values()].map((service) => service.key),
    );
    if (given !== state.numbering) releaseNumbers(given, snapshot);
    // At once: services may be counted elsewhere now.
    const rings = new Map([...pools].flatMap(([name, { ring }]) => (ring ? [[name, ring] as const] : [])));
    state = { ...state, snapshot, numbering: given, hops, rings };
    const changed = steps.length > 0 || healed || prepared || cleaned;
    if (!(await holdsSteps(maps, want, steps))) {
      throw new FairleadError(
        'native',
        `apply revision ${snapshot.revision}: the kernel does not hold what was written`,
      );
    }
    held = want;
    state = {
      ...state,
      revision: snapshot.revision,
      error: null,
      changes: state.changes + (changed ? 1 : 0),
      lastChangeMs: changed ? performance.now() - started : state.lastChangeMs,
      repairs: repaired.length > 0 ? { count: state.repairs.count + 1, pools: repaired } : state.repairs,
    };
  }

  async function loop(): Promise<void> {
    do {
      again = false;
      const snapshot = store.read();
      inRound = true;
      try {
        await round(snapshot);
      } catch (error) {
        tried = snapshot.revision;
        state = { ...state, error: messageOf(error) };
      }
      inRound = false;
      for (const listener of listeners) listener();
    } while (again && !closed);
    running = null;
    if (closed) return;
    const now = timeOfDay();
    const wait = nextDeadline(store.read(), now) - now + 1;
    if (wait <= PERIOD_MS) drainEnd = setTimeout(trigger, wait);
  }

  function trigger(): void {
    if (closed) return;
    if (drainEnd) clearTimeout(drainEnd);
    drainEnd = null;
    if (running) again = true;
    else running = loop();
  }

  async function settled(): Promise<KernelState | null> {
    while (running) await running;
    return closed ? null : held;
  }

  /** Looks for what was changed behind our back, and has a round in any case: where something was, it begins with what is there. */
  async function verify(): Promise<void> {
    if (!(await holdsAll(maps, settled))) held = null;
    verifying = null;
    trigger();
    await running;
  }

  const period = (): Promise<void> => {
    verifying ??= verify();
    return verifying;
  };

  const unwatch = store.watch(trigger);
  resolver.onChange(trigger);
  trigger();
  const periodic = setInterval(() => void period(), PERIOD_MS);

  return {
    state: () => state,
    verify: period,
    onRound: (listener) => void listeners.add(listener),
    busy: () => inRound,
    applied: (revision, timeoutMs) =>
      new Promise((resolve, reject) => {
        const settle = (error: Error | null): void => {
          clearTimeout(deadline);
          listeners.delete(check);
          if (error) reject(error);
          else resolve();
        };
        const check = (): void => {
          // A store that was restored goes back: what was applied before then is not what is asked for.
          const isBefore = state.revision > store.read().revision;
          if (state.revision >= revision && !isBefore) settle(null);
          else if (state.error !== null && tried >= revision)
            settle(new FairleadError('unavailable', `apply revision ${revision}: ${state.error}`));
        };
        const deadline = setTimeout(
          () => settle(new FairleadError('unavailable', `apply revision ${revision}: not done within ${timeoutMs} ms`)),
          timeoutMs,
        );
        listeners.add(check);
        check();
      }),
    async close() {
      closed = true;
      unwatch();
      clearInterval(periodic);
      if (drainEnd) clearTimeout(drainEnd);
      await running;
      await verifying;
    },
  };
}
