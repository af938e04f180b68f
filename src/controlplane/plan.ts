// SPDX-License-Identifier: Apache-2.0
// The order in which the kernel gets from what it holds to what it is to hold. Pure.
import { Backend, BackendFlag, Service } from '../dataplane/abi.gen.js';
import type { KernelService, KernelState } from './kernel-state.js';

/** Counters of a service: slot 0 and its pool's slots. */
export interface CounterRange {
  readonly start: number;
  readonly size: number;
}

export type Step =
  | { readonly do: 'set-backend'; readonly number: number; readonly entry: Backend }
  | { readonly do: 'set-ring'; readonly pool: number; readonly owners: Uint16Array }
  | { readonly do: 'clear-service'; readonly number: number; readonly counters: CounterRange }
  | { readonly do: 'set-service'; readonly service: KernelService }
  | { readonly do: 'delete-service'; readonly service: KernelService }
  | { readonly do: 'delete-ring'; readonly pool: number }
  | { readonly do: 'remove-backend'; readonly number: number }
  /** After this no packet uses what earlier steps took away. */
  | { readonly do: 'wait' }
  | { readonly do: 'clear-backend'; readonly number: number }
  /** Adds one counter to another: of a range that moved, or of a member that left, whose counts stay in the service's slot 0. */
  | { readonly do: 'move-counter'; readonly from: number; readonly to: number };

const sameBytes = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0;
const sameEntry = (a: Backend, b: Backend): boolean => sameBytes(Backend.encode(a), Backend.encode(b));
const sameService = (a: KernelService, b: KernelService): boolean =>
  sameBytes(Service.encode(a.value), Service.encode(b.value));
const sameRing = (a: Uint16Array, b: Uint16Array): boolean =>
  a.length === b.length &&
  sameBytes(new Uint8Array(a.buffer, a.byteOffset, a.byteLength), new Uint8Array(b.buffer, b.byteOffset, b.byteLength));

/** Slot 0 and those of the members the pool has. */
const slotsOf = (kernel: KernelState, pool: number): number[] => [
  0,
  ...[...kernel.backends.values()].filter((entry) => entry.pool === pool).map((entry) => entry.slot),
];

/** A service's counts move with its range: slot by slot in the same pool, all to slot 0 when it was given another one. */
const carry = (old: Service, next: Service, slots: readonly number[]): Step[] =>
  slots.map((slot) => ({
    do: 'move-counter',
    from: old.countersStart + slot,
    to: next.countersStart + (old.pool === next.pool ? slot : 0),
  }));

const isMarker = (service: KernelService): boolean => service.value.number === 0;

/**
 * The steps from `have` to `want`. New things from the bottom up: backends before the rings that name them, rings before the
 * services that lead to them, a VIP's marker before its services; removal the other way round. `counterSize` tells how many
 * counters a service (by number) has in `want`. Empty when nothing differs.
 */
export function plan(have: KernelState, want: KernelState, counterSize: (service: number) => number): Step[] {
  const up: Step[] = [];
  const down: Step[] = [];
  const after: Step[] = [];

  for (const [number, entry] of want.backends) {
    const old = have.backends.get(number);
    if (old && sameEntry(old, entry)) continue;
    // One that may take nothing more first loses its rows.
    (entry.flags & BackendFlag.VALID ? up : down).push({ do: 'set-backend', number, entry });
  }
  for (const [pool, owners] of want.rings) {
    const old = have.rings.get(pool);
    if (!old || !sameRing(old, owners)) up.push({ do: 'set-ring', pool, owners });
  }
  const added = [...want.services].filter(([id, service]) => {
    const old = have.services.get(id);
    return !old || !sameService(old, service);
  });
  for (const [, service] of added.filter(([, s]) => isMarker(s))) up.push({ do: 'set-service', service });
  for (const [id, service] of added.filter(([, s]) => !isMarker(s))) {
    const { number, countersStart: start } = service.value;
    const old = have.services.get(id)?.value;
    if (old?.countersStart !== start) {
      up.push({ do: 'clear-service', number, counters: { start, size: counterSize(number) } });
      if (old) after.push(...carry(old, service.value, slotsOf(have, old.pool)));
    }
    up.push({ do: 'set-service', service });
  }

  const removed = [...have.services].filter(([id]) => !want.services.has(id)).map(([, service]) => service);
  const services: Step[] = [...removed.filter((s) => !isMarker(s)), ...removed.filter(isMarker)].map((service) => ({
    do: 'delete-service',
    service,
  }));
  for (const pool of have.rings.keys()) if (!want.rings.has(pool)) down.push({ do: 'delete-ring', pool });
  for (const [number, entry] of have.backends) {
    if (want.backends.has(number)) continue;
    down.push({ do: 'remove-backend', number });
    after.push({ do: 'clear-backend', number });
    for (const { value } of want.services.values()) {
      if (value.number === 0 || value.pool !== entry.pool) continue;
      after.push({ do: 'move-counter', from: value.countersStart + entry.slot, to: value.countersStart });
    }
  }
  const steps = [...up, ...services, ...down];
  if (steps.length === 0) return [];
  return after.length > 0 || down.length > 0 || services.length > 0 ? [...steps, { do: 'wait' }, ...after] : steps;
}
