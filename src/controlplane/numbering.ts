// SPDX-License-Identifier: Apache-2.0
// Which number the kernel knows an object by. Numbers outlive the daemon: they are read back from the kernel, never stored elsewhere.
import { firstFit } from '../dataplane/first-fit.js';
import { FairleadError } from '../model/errors.js';
import type { Pool, Snapshot } from '../model/objects.js';
import { addressText, type KernelState, serviceKeyId } from './kernel-state.js';

/** A member of a pool in the kernel: `number` indexes `backends`, `slot` (from 1) is its place in the counters of each service. */
export interface MemberNumbers {
  readonly number: number;
  readonly slot: number;
}

export interface PoolNumbers {
  readonly number: number;
  readonly members: Map<string, MemberNumbers>; // by address
}

export interface ServiceNumbers {
  readonly number: number;
  pool: number; // the pool its counters are laid out for
  countersStart: number;
  /** Entries from countersStart on: slot 0 and the pool's slots; a power of two. */
  counters: number;
}

export interface Numbering {
  readonly pools: Map<string, PoolNumbers>;
  readonly services: Map<string, ServiceNumbers>; // by the hex of struct service_key
  /** Where the search for a free number goes on, so that one just freed is used again as late as possible. */
  cursor: { pool: number; service: number; backend: number };
}

export interface Limits {
  readonly services: number;
  readonly pools: number;
  readonly backends: number;
  readonly counters: number;
}

const COUNTERS_MIN = 8;

export const emptyNumbering = (): Numbering => ({
  pools: new Map(),
  services: new Map(),
  cursor: { pool: 0, service: 0, backend: 0 },
});

/** The next free number after `cursor`, from 1 and below `limit`. */
function freeNumber(used: ReadonlySet<number>, cursor: number, limit: number, what: string): number {
  for (let step = 1; step < limit; step++) {
    const number = ((cursor + step - 1) % (limit - 1)) + 1;
    if (!used.has(number)) return number;
  }
  throw new FairleadError('full', `number a ${what}: all ${limit - 1} are taken`);
}

const highestSlot = (pool: PoolNumbers): number =>
  Math.max(0, ...[...pool.members.values()].map((member) => member.slot));

/** Entries of `counters` a service with this pool needs. */
function countersFor(pool: PoolNumbers): number {
  let size = COUNTERS_MIN;
  while (size <= highestSlot(pool)) size *= 2;
  return size;
}

/** `numbers` holds every backend number in use, and what is given out here is added to it. */
function numberMembers(
  numbering: Numbering,
  numbers: Set<number>,
  entry: PoolNumbers,
  pool: Pool,
  limits: Limits,
): void {
  const slots = new Set([...entry.members.values()].map((member) => member.slot));
  for (const { address } of pool.backends) {
    if (entry.members.has(address)) continue;
    const number = freeNumber(numbers, numbering.cursor.backend, limits.backends, 'backend');
    let slot = 1;
    while (slots.has(slot)) slot++;
    numbering.cursor.backend = number;
    numbers.add(number);
    slots.add(slot);
    entry.members.set(address, { number, slot });
  }
}

/** Gives every pool, member and service of the snapshot its numbers. Throws 'full' when a table has no room; see `admit`. */
export function assignNumbers(numbering: Numbering, snapshot: Snapshot, limits: Limits): void {
  const numbers = new Set([...numbering.pools.values()].flatMap((p) => [...p.members.values()].map((m) => m.number)));
  for (const [name, { value: pool }] of snapshot.pools) {
    let entry = numbering.pools.get(name);
    if (!entry) {
      const used = new Set([...numbering.pools.values()].map((p) => p.number));
      entry = { number: freeNumber(used, numbering.cursor.pool, limits.pools, 'pool'), members: new Map() };
      numbering.cursor.pool = entry.number;
      numbering.pools.set(name, entry);
    }
    numberMembers(numbering, numbers, entry, pool, limits);
  }
  const ranges = () => [...numbering.services.values()].map((s) => ({ start: s.countersStart, size: s.counters }));
  const place = (size: number): number => {
    const start = firstFit(ranges(), size, limits.counters);
    if (start < 0) throw new FairleadError('full', `place ${size} counters: all ${limits.counters} are taken`);
    return start;
  };
  for (const { value: service } of snapshot.services.values()) {
    const id = serviceKeyId(service);
    const pool = numbering.pools.get(service.pool);
    if (!pool) continue;
    const counters = countersFor(pool);
    const entry = numbering.services.get(id);
    if (!entry) {
      const used = new Set([...numbering.services.values()].map((s) => s.number));
      const number = freeNumber(used, numbering.cursor.service, limits.services, 'service');
      numbering.cursor.service = number;
      numbering.services.set(id, { number, pool: pool.number, countersStart: place(counters), counters });
    } else if (entry.pool !== pool.number || entry.counters < counters) {
      entry.countersStart = place(counters);
      entry.counters = counters;
      entry.pool = pool.number;
    }
  }
}

/** Forgets what the snapshot no longer has; call when the kernel has let go of it. */
export function releaseNumbers(numbering: Numbering, snapshot: Snapshot): void {
  for (const [name, entry] of numbering.pools) {
    const pool = snapshot.pools.get(name)?.value;
    if (!pool) numbering.pools.delete(name);
    const addresses = new Set(pool?.backends.map((backend) => backend.address));
    for (const address of entry.members.keys()) if (!addresses.has(address)) entry.members.delete(address);
  }
  const ids = new Set([...snapshot.services.values()].map(({ value }) => serviceKeyId(value)));
  for (const id of numbering.services.keys()) if (!ids.has(id)) numbering.services.delete(id);
}

/**
 * The numbering an earlier daemon left in the kernel. A service is known by its key; a pool by a service that uses it,
 * else by the addresses of its members; a member by its pool and address.
 */
export function adoptNumbering(kernel: KernelState, snapshot: Snapshot): Numbering {
  const numbering = emptyNumbering();
  const members = new Map<number, Map<string, MemberNumbers>>();
  for (const [number, entry] of kernel.backends) {
    const pool = members.get(entry.pool) ?? new Map<string, MemberNumbers>();
    pool.set(addressText(entry), { number, slot: entry.slot });
    members.set(entry.pool, pool);
    numbering.cursor.backend = Math.max(numbering.cursor.backend, number);
  }
  const taken = new Set<number>();
  const adoptPool = (name: string, number: number): void => {
    taken.add(number);
    numbering.pools.set(name, { number, members: members.get(number) ?? new Map() });
    numbering.cursor.pool = Math.max(numbering.cursor.pool, number);
  };
  for (const { value: service } of snapshot.services.values()) {
    const found = kernel.services.get(serviceKeyId(service));
    if (
      found &&
      !numbering.pools.has(service.pool) &&
      !taken.has(found.value.pool) &&
      snapshot.pools.has(service.pool)
    ) {
      adoptPool(service.pool, found.value.pool);
    }
  }
  for (const [name, { value: pool }] of snapshot.pools) {
    if (numbering.pools.has(name)) continue;
    const match = [...members].find(
      ([number, have]) => !taken.has(number) && pool.backends.some((backend) => have.has(backend.address)),
    );
    if (match) adoptPool(name, match[0]);
  }
  for (const { value: service } of snapshot.services.values()) {
    const id = serviceKeyId(service);
    const found = kernel.services.get(id);
    const pool = numbering.pools.get(service.pool);
    if (!found || !pool) continue;
    const { number, countersStart } = found.value;
    numbering.services.set(id, { number, pool: found.value.pool, countersStart, counters: countersFor(pool) });
    numbering.cursor.service = Math.max(numbering.cursor.service, number);
  }
  return numbering;
}
