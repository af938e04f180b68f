// SPDX-License-Identifier: Apache-2.0
// Which number the kernel knows an object by. Numbers outlive the daemon: they are read back from the kernel, never stored elsewhere.
import { byStart, takeFirstFit } from '../dataplane/first-fit.js';
import { FairleadError } from '../model/errors.js';
import type { Pool, Snapshot } from '../model/objects.js';
import { addressText, type KernelState, serviceKeyId } from './kernel-state.js';
import { slices } from './slices.js';

/** A member of a pool in the kernel: `number` indexes `backends`, `slot` (from 1) is its place in the counters of each service. */
export interface MemberNumbers {
  readonly number: number;
  readonly slot: number;
}

/** Never written to: a pool whose members change gets another. */
export interface PoolNumbers {
  readonly number: number;
  readonly members: ReadonlyMap<string, MemberNumbers>; // by address
}

export interface ServiceNumbers {
  readonly number: number;
  readonly pool: number; // the pool its counters are laid out for
  readonly countersStart: number;
  /** Entries from countersStart on: slot 0 and the pool's slots; a power of two. */
  readonly counters: number;
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

/** A copy to go on with, while readers have this one. */
export const copyNumbering = ({ pools, services, cursor }: Numbering): Numbering => ({
  pools: new Map(pools),
  services: new Map(services),
  cursor: { ...cursor },
});

/** The next free number after `cursor`, from 1 and below `limit`. */
function freeNumber(used: ReadonlySet<number>, cursor: number, limit: number, what: string, pointer: string): number {
  for (let step = 1; step < limit; step++) {
    const number = ((cursor + step - 1) % (limit - 1)) + 1;
    if (!used.has(number)) return number;
  }
  throw full(`number a ${what}: all ${limit - 1} are taken`, pointer);
}

/** With the field of a request that asked for too much. */
const full = (text: string, pointer: string): FairleadError =>
  new FairleadError('full', text, [{ pointer, detail: text }]);

/** Entries of `counters` a service with these members needs. */
function countersFor(members: PoolNumbers['members']): number {
  let highest = 0;
  for (const { slot } of members.values()) highest = Math.max(highest, slot);
  let size = COUNTERS_MIN;
  while (size <= highest) size *= 2;
  return size;
}

/** `entry` with every member of the pool in it. `numbers` holds every backend number in use, and what is given out here is added to it. */
function numberMembers(
  { cursor }: Numbering,
  numbers: () => Set<number>,
  entry: PoolNumbers,
  pool: Pool,
  limits: Limits,
): PoolNumbers {
  const added = pool.backends.filter(({ address }) => !entry.members.has(address));
  if (added.length === 0) return entry;
  const members = new Map(entry.members);
  const slots = new Set([...members.values()].map((member) => member.slot));
  const used = numbers();
  for (const { address } of added) {
    const number = freeNumber(used, cursor.backend, limits.backends, 'backend', '/backends');
    let slot = 1;
    while (slots.has(slot)) slot++;
    cursor.backend = number;
    used.add(number);
    slots.add(slot);
    members.set(address, { number, slot });
  }
  return { ...entry, members };
}

/**
 * Gives every pool, member and service of the snapshot its numbers. What the snapshot no longer has keeps its own until
 * releaseNumbers. Throws 'full' when a table has no room, and leaves the numbering half done.
 */
export function assignNumbers(numbering: Numbering, snapshot: Snapshot, limits: Limits): void {
  const { pools, services, cursor } = numbering;
  const poolNumbers = new Set([...pools.values()].map((p) => p.number));
  let known: Set<number> | null = null;
  const numbers = (): Set<number> => {
    known ??= new Set([...pools.values()].flatMap((p) => [...p.members.values()].map((m) => m.number)));
    return known;
  };
  for (const [name, { value: pool }] of snapshot.pools) {
    let entry = pools.get(name);
    if (!entry) {
      cursor.pool = freeNumber(poolNumbers, cursor.pool, limits.pools, 'pool', '');
      poolNumbers.add(cursor.pool);
      entry = { number: cursor.pool, members: new Map() };
    }
    pools.set(name, numberMembers(numbering, numbers, entry, pool, limits));
  }
  const serviceNumbers = new Set([...services.values()].map((s) => s.number));
  // A range that a service leaves here stays taken: packets are counted in it until the kernel has been told.
  const ranges = [...services.values()].map((s) => ({ start: s.countersStart, size: s.counters })).sort(byStart);
  const place = (size: number, service: string): number => {
    const range = takeFirstFit(ranges, size, limits.counters);
    if (!range) throw full(`place ${size} counters for service "${service}": no such room in ${limits.counters}`, '');
    return range.start;
  };
  for (const { value: service } of snapshot.services.values()) {
    const pool = snapshot.pools.has(service.pool) && pools.get(service.pool);
    if (!pool) continue;
    const id = serviceKeyId(service);
    const counters = countersFor(pool.members);
    const entry = services.get(id);
    if (!entry) {
      cursor.service = freeNumber(serviceNumbers, cursor.service, limits.services, 'service', '');
      serviceNumbers.add(cursor.service);
      services.set(id, {
        number: cursor.service,
        pool: pool.number,
        countersStart: place(counters, service.name),
        counters,
      });
    } else if (entry.pool !== pool.number || entry.counters < counters) {
      services.set(id, { ...entry, pool: pool.number, countersStart: place(counters, service.name), counters });
    }
  }
}

/** Forgets what the snapshot no longer has; call when the kernel has let go of it. */
export function releaseNumbers(numbering: Numbering, snapshot: Snapshot): void {
  for (const [name, entry] of numbering.pools) {
    const pool = snapshot.pools.get(name)?.value;
    if (!pool) numbering.pools.delete(name);
    else if (entry.members.size > pool.backends.length) {
      const addresses = new Set(pool.backends.map((backend) => backend.address));
      const members = new Map([...entry.members].filter(([address]) => addresses.has(address)));
      numbering.pools.set(name, { ...entry, members });
    }
  }
  const ids = new Set([...snapshot.services.values()].map(({ value }) => serviceKeyId(value)));
  for (const id of numbering.services.keys()) if (!ids.has(id)) numbering.services.delete(id);
}

/**
 * The numbering an earlier daemon left in the kernel. A service is known by its key; a pool by the addresses of its members
 * and by the services that use it; a member by its pool and address. What the snapshot no longer has is there too, under
 * names that no object can have: its numbers are taken until the kernel has let go of it (releaseNumbers).
 */
export async function adoptNumbering(kernel: KernelState, snapshot: Snapshot): Promise<Numbering> {
  const pause = slices();
  const pools = new Map<number, PoolNumbers & { readonly members: Map<string, MemberNumbers> }>();
  const poolOf = (number: number) => {
    const known = pools.get(number) ?? { number, members: new Map<string, MemberNumbers>() };
    pools.set(number, known);
    return known;
  };
  const byAddress = new Map<string, number[]>();
  for (const [number, entry] of kernel.backends) {
    const address = addressText(entry);
    poolOf(entry.pool).members.set(address, { number, slot: entry.slot });
    byAddress.set(address, [...(byAddress.get(address) ?? []), entry.pool]);
    const turn = pause();
    if (turn) await turn;
  }
  for (const number of kernel.rings.keys()) poolOf(number);
  const numbering = emptyNumbering();
  for (const [id, { value }] of kernel.services) {
    const { number, pool, countersStart } = value;
    if (number === 0) continue; // a VIP's marker
    numbering.services.set(id, { number, pool, countersStart, counters: countersFor(poolOf(pool).members) });
    await pause();
  }
  for (const [name, number] of await matchPools(numbering, byAddress, snapshot))
    numbering.pools.set(name, poolOf(number));
  const named = new Set([...numbering.pools.values()].map((pool) => pool.number));
  for (const pool of pools.values()) if (!named.has(pool.number)) numbering.pools.set(`#${pool.number}`, pool);
  numbering.cursor = {
    pool: Math.max(0, ...pools.keys()),
    service: [...numbering.services.values()].reduce((most, { number }) => Math.max(most, number), 0),
    backend: [...kernel.backends.keys()].reduce((most, number) => Math.max(most, number), 0),
  };
  return numbering;
}

/** Which pool each number belongs to: most addresses in common first; then the word of a service counts. */
async function matchPools(
  { services }: Numbering,
  byAddress: ReadonlyMap<string, readonly number[]>,
  snapshot: Snapshot,
): Promise<Map<string, number>> {
  const pause = slices();
  const candidates: { readonly name: string; readonly number: number; readonly votes: number }[] = [];
  const said = new Map<string, number[]>();
  for (const { value: service } of snapshot.services.values()) {
    const number = services.get(serviceKeyId(service))?.pool;
    if (number !== undefined) said.set(service.pool, [...(said.get(service.pool) ?? []), number]);
    await pause();
  }
  for (const [name, { value: pool }] of snapshot.pools) {
    const votes = new Map<number, number>();
    for (const { address } of pool.backends)
      for (const number of byAddress.get(address) ?? []) votes.set(number, (votes.get(number) ?? 0) + 1);
    for (const number of new Set(said.get(name))) votes.set(number, (votes.get(number) ?? 0) + 0.5);
    for (const [number, count] of votes) candidates.push({ name, number, votes: count });
    await pause();
  }
  candidates.sort((a, b) => b.votes - a.votes);
  const found = new Map<string, number>();
  const taken = new Set<number>();
  for (const { name, number } of candidates) {
    if (found.has(name) || taken.has(number)) continue;
    found.set(name, number);
    taken.add(number);
  }
  return found;
}
