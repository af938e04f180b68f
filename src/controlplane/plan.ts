// SPDX-License-Identifier: Apache-2.0
// The order in which the kernel gets from what it holds to what it is to hold. Pure.
import { type Backend, BackendFlag, type Service } from '../dataplane/abi.gen.js';
import type { KernelRing, KernelService, KernelState } from './kernel-state.js';

/** Counters of a service: slot 0 and its pool's slots. */
export interface CounterRange {
  readonly start: number;
  readonly size: number;
}

export type Step =
  | { readonly do: 'set-backend'; readonly number: number; readonly entry: Backend }
  | { readonly do: 'set-ring'; readonly pool: number; readonly ring: KernelRing }
  | { readonly do: 'clear-service'; readonly number: number; readonly counters: CounterRange }
  | { readonly do: 'set-service'; readonly service: KernelService }
  | { readonly do: 'delete-service'; readonly service: KernelService }
  | { readonly do: 'delete-ring'; readonly pool: number }
  | { readonly do: 'remove-backend'; readonly number: number }
  /** After this no packet uses what earlier steps took away. */
  | { readonly do: 'wait' }
  | { readonly do: 'clear-backend'; readonly number: number }
  /** Adds a counter to that of a range that takes its place. The old one stays as it is for readers, until it is given out again. */
  | { readonly do: 'copy-counter'; readonly from: number; readonly to: number }
  /** Adds a counter to another of the same service and zeroes it: of a member that left, whose counts stay in slot 0. */
  | { readonly do: 'move-counter'; readonly from: number; readonly to: number };

// Field by field, in plain loops: this runs over every backend in each round, and encoding both would take most of it.
function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  for (let at = 0; at < a.length; at++) if (a[at] !== b[at]) return false;
  return a.length === b.length;
}
export const sameEntry = (a: Backend, b: Backend): boolean =>
  a === b ||
  (a.flags === b.flags &&
    a.slot === b.slot &&
    a.pool === b.pool &&
    a.interface === b.interface &&
    a.mtu === b.mtu &&
    a.port === b.port &&
    a.tagCount === b.tagCount &&
    sameBytes(a.tag, b.tag) &&
    sameBytes(a.address, b.address) &&
    sameBytes(a.nextHopMac, b.nextHopMac) &&
    sameBytes(a.sourceMac, b.sourceMac));
export const sameService = (a: Service, b: Service): boolean =>
  a.number === b.number && a.pool === b.pool && a.countersStart === b.countersStart && a.flags === b.flags;
export const bytesOf = (rows: Uint16Array): Uint8Array => new Uint8Array(rows.buffer, rows.byteOffset, rows.byteLength);
export const sameRing = (a: KernelRing, b: KernelRing): boolean =>
  a === b || (a.generation === b.generation && Buffer.compare(bytesOf(a.rows), bytesOf(b.rows)) === 0);

/** Slot 0 and those of the members each pool has. */
function slotsByPool(kernel: KernelState): Map<number, number[]> {
  const slots = new Map<number, number[]>();
  for (const { pool, slot } of kernel.backends.values()) {
    const known = slots.get(pool);
    if (known) known.push(slot);
    else slots.set(pool, [0, slot]);
  }
  return slots;
}

/** A service's counts follow its range: slot by slot in the same pool, all to slot 0 when it was given another one. */
const carry = (old: Service, next: Service, slots: readonly number[]): Step[] =>
  slots.map((slot) => ({
    do: 'copy-counter',
    from: old.countersStart + slot,
    to: next.countersStart + (old.pool === next.pool ? slot : 0),
  }));

const isMarker = (service: KernelService): boolean => service.value.number === 0;

/**
 * The steps from `have` to `want`. What nobody is to use any more goes first and makes room. New things from the bottom up: backends before the rings that name them, a VIP's marker
 * before its services, a ring before the services that begin to lead to it; removal the other way round. Any other ring
 * comes when its services have counters for its new members, or are gone. `freshCounters` tells how many counters a
 * service (by number) has in `want`, 0 when they hold its counts already. Empty when nothing differs.
 */
export function plan(have: KernelState, want: KernelState, freshCounters: (service: number) => number): Step[] {
  if (have === want) return [];
  const valid: Step[] = [];
  const down: Step[] = [];
  const after: Step[] = [];

  for (const [number, entry] of want.backends) {
    const old = have.backends.get(number);
    if (old && sameEntry(old, entry)) continue;
    // One that may take nothing more first loses its rows.
    (entry.flags & BackendFlag.VALID ? valid : down).push({ do: 'set-backend', number, entry });
  }

  const added = [...want.services].filter(([id, service]) => {
    const old = have.services.get(id);
    return !old || !sameService(old.value, service.value);
  });
  const markers: Step[] = added.flatMap(([, service]) => (isMarker(service) ? [{ do: 'set-service', service }] : []));
  const slots = added.length > 0 ? slotsByPool(have) : new Map<number, number[]>();
  const staying: Step[] = [];
  const arriving: Step[] = [];
  const copies: Step[] = [];
  const awaited = new Set<number>(); // pools that services arrive at
  for (const [id, service] of added) {
    if (isMarker(service)) continue;
    const { number, pool, countersStart: start } = service.value;
    const old = have.services.get(id)?.value;
    if (old?.pool !== pool) awaited.add(pool);
    const steps = old?.pool === pool ? staying : arriving;
    const size = freshCounters(number);
    if (size > 0) steps.push({ do: 'clear-service', number, counters: { start, size } });
    steps.push({ do: 'set-service', service });
    if (old && size > 0) copies.push(...carry(old, service.value, slots.get(old.pool) ?? [0]));
  }

  const newRings: Step[] = [];
  const rings: Step[] = [];
  for (const [pool, ring] of want.rings) {
    const old = have.rings.get(pool);
    if (old && sameRing(old, ring)) continue;
    (!old && awaited.has(pool) ? newRings : rings).push({ do: 'set-ring', pool, ring });
  }

  const gone = [...have.services].filter(([id]) => !want.services.has(id)).map(([, service]) => service);
  const deleted: Step[] = [...gone.filter((s) => !isMarker(s)), ...gone.filter(isMarker)].map((service) => ({
    do: 'delete-service',
    service,
  }));
  const stillUsed = new Set(
    [...have.services].flatMap(([id, { value }]) => (want.services.has(id) ? [value.pool] : [])),
  );
  for (const pool of have.rings.keys())
    if (!want.rings.has(pool)) (stillUsed.has(pool) ? down : deleted).push({ do: 'delete-ring', pool });
  for (const [number, entry] of have.backends) {
    if (want.backends.has(number)) continue;
    down.push({ do: 'remove-backend', number });
    for (const { value } of want.services.values()) {
      if (value.number === 0 || value.pool !== entry.pool) continue;
      after.push({ do: 'move-counter', from: value.countersStart + entry.slot, to: value.countersStart });
    }
    after.push({ do: 'clear-backend', number }); // last: until then a new daemon finds all that is still to be done
  }

  const wait: Step = { do: 'wait' };
  // A number that packets may still use is given out again by the next round.
  const frees = deleted.length > 0 || down.some((step) => step.do !== 'set-backend');
  return [
    ...[...deleted, ...valid, ...markers, ...staying, ...newRings, ...arriving],
    ...(copies.length > 0 ? [wait, ...copies] : []),
    ...[...rings, ...down],
    ...(after.length > 0 || frees ? [wait, ...after] : []),
  ];
}
