// SPDX-License-Identifier: Apache-2.0
// Tells what the node does and sees: changes of the store, rounds of the reconciler, next hops, the end of drains.
import { isReachable, type NextHops, onLinkPools } from '../controlplane/desired.js';
import type { Reconciler } from '../controlplane/reconciler.js';
import { slices } from '../controlplane/slices.js';
import type { Store } from '../controlplane/store.js';
import type { EventLog } from '../model/events.js';
import type { Snapshot } from '../model/objects.js';
import type { NodeFacts } from './facts.js';
import { storeEvents } from './store-events.js';

/** How often drains are looked at while there are any. */
const DRAINS_MS = 2000;

const pathOf = (pool: string, backend: string): string => `/pools/${pool}/backends/${backend}`;

/** Begins to tell; the function it answers ends it. */
export function tellNode(events: EventLog, store: Store, reconciler: Reconciler, facts: NodeFacts): () => void {
  let known = store.read();
  let revision = -1;
  let error: string | null = null;
  let reached: Reached | null = null;
  let drained = new Set<string>();
  let closed = false;

  const unwatch = store.watch((snapshot) => {
    for (const event of storeEvents(known, snapshot)) events.emit(event);
    known = snapshot;
  });

  reconciler.onRound(() => {
    if (closed) return;
    const state = reconciler.state();
    if (state.error !== null && state.error !== error)
      events.emit({ type: 'config.apply_failed', severity: 'error', object: null, message: state.error });
    if (state.error === null && (state.revision !== revision || error !== null)) {
      const ms = Math.round(state.lastChangeMs);
      events.emit({
        type: 'config.applied',
        severity: 'info',
        object: null,
        message: `the kernel holds revision ${state.revision}, after ${ms} ms`,
        data: { revision: state.revision, ms },
      });
    }
    error = state.error;
    revision = state.revision;
    tellHops(events, state, reached);
    reached = state;
  });

  async function lookAtDrains(): Promise<void> {
    const { snapshot } = reconciler.state();
    const over = new Set<string>();
    const pause = slices();
    for (const [name, { value }] of snapshot.pools) {
      await pause();
      if (!value.backends.some(({ state }) => state === 'drain')) continue;
      const status = await facts.pool(name);
      for (const [backend, { drain }] of status?.backends ?? []) {
        if (!drain?.done || closed) continue;
        const object = pathOf(name, backend);
        over.add(object);
        if (drained.has(object)) continue;
        const rest = drain.flowsLeft === 0 ? 'no flow is left' : `${drain.flowsLeft} flows were cut off`;
        const message = `backend "${backend}" of pool "${name}" has drained: ${rest}`;
        const severity = drain.flowsLeft === 0 ? 'info' : 'warning';
        events.emit({ type: 'backend.drained', severity, object, message, data: { flowsLeft: drain.flowsLeft } });
      }
    }
    drained = over;
  }
  let looking = false;
  const timer = setInterval(() => {
    if (looking) return;
    looking = true;
    void lookAtDrains()
      .catch(() => undefined) // the node is on its way out, or its status says why
      .finally(() => {
        looking = false;
      });
  }, DRAINS_MS).unref();

  return () => {
    closed = true;
    unwatch();
    clearInterval(timer);
  };
}

/** Backends and the next hops of their addresses. */
export interface Reached {
  readonly snapshot: Snapshot;
  readonly hops: NextHops;
}

/**
 * Tells backends whose next hop was found or lost since `before`; of addresses that were not looked for then, null included, only those without one.
 * Runs over every backend in each round: nothing is made for those of which there is nothing to tell.
 */
export function tellHops(events: EventLog, { snapshot, hops }: Reached, before: Reached | null): void {
  if (before?.snapshot === snapshot && before.hops === hops) return;
  const onLink = onLinkPools(snapshot);
  const wasOnLink = before ? onLinkPools(before.snapshot) : onLink;
  for (const [pool, { value }] of snapshot.pools) {
    const [isL2, wasL2] = [onLink.has(pool), wasOnLink.has(pool)];
    for (const { name, address } of value.backends) {
      const hop = hops.get(address);
      const old = before?.hops.get(address);
      if (hop === old && hop !== undefined && wasL2 === isL2) continue; // almost always
      const is = isReachable(hop, isL2);
      const was = old === undefined || isReachable(old, wasL2);
      if (is === was) continue;
      const title = `backend "${name}" of pool "${pool}"`;
      events.emit({
        type: is ? 'backend.reachable' : 'backend.unreachable',
        severity: is ? 'info' : 'warning',
        object: pathOf(pool, name),
        message: is
          ? `${title}: ${address} has a next hop`
          : `${title}: ${address} has no next hop; it takes no new flow`,
      });
    }
  }
}
