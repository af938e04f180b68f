// SPDX-License-Identifier: Apache-2.0
// From what was asked for and what was observed to what the kernel is to hold.
import { type Backend as BackendEntry, BackendFlag, Family } from '../dataplane/abi.gen.js';
import { familyOf } from '../model/address.js';
import type { Backend, Pool, PoolHealth, Service, Snapshot, StoredPool } from '../model/objects.js';
import { timeOfDay } from './clock.js';
import {
  backendField,
  type KernelRing,
  type KernelService,
  type KernelState,
  keyId,
  once,
  serviceKey,
  serviceKeyId,
  vipMarker,
} from './kernel-state.js';
import type { NextHop } from './next-hops.js';
import type { Numbering, PoolNumbers } from './numbering.js';
import { type PoolRing, poolRing } from './pool-ring.js';
import { membersOf } from './ring-log.js';
import { serviceEntry } from './settings.js';
import { slices } from './slices.js';

export type NextHops = ReadonlyMap<string, NextHop | null>;

/** Whether the nodes have agreed that this backend is down, and act on it. */
export const isDown = (health: PoolHealth | undefined, name: string): boolean =>
  health !== undefined && !health.failOpen && health.down.some((each) => each.name === name);

/** The backends that new connections may go to, as this node has it: asked for, up, and reachable; with `onLink`, without a router between. */
export function liveBackends({ value, health }: StoredPool, hops: NextHops, onLink = false): readonly Backend[] {
  return value.backends.filter(
    ({ name, state, weight, address }) =>
      state === 'active' && weight > 0 && !isDown(health, name) && isReachable(hops.get(address), onLink),
  );
}

/** Whether packets can be sent there; with `onLink`, without a router between. */
export const isReachable = (hop: NextHop | null | undefined, onLink: boolean): boolean =>
  hop != null && (hop.onLink || !onLink);

/** Pools whose members must be on link: those of services that forward by MAC address. */
export const onLinkPools = (snapshot: Snapshot): Set<string> =>
  new Set([...snapshot.services.values()].flatMap(({ value }) => (value.forwarding === 'l2' ? [value.pool] : [])));

/** Whether its drain has come to its deadline: it takes nothing any more. */
export const isOver = ({ drain }: Backend, now: number): boolean =>
  drain?.deadline !== undefined && Date.parse(drain.deadline) <= now;

/** When the next drain of the pool comes to its deadline, Unix ms; infinite when none will. */
function deadlineOf({ backends }: Pool, now: number): number {
  let next = Number.POSITIVE_INFINITY;
  for (const { drain } of backends) {
    const at = drain?.deadline === undefined ? 0 : Date.parse(drain.deadline);
    if (at > now) next = Math.min(next, at);
  }
  return next;
}

/** The same for all pools. */
export function nextDeadline(snapshot: Snapshot, now: number): number {
  let next = Number.POSITIVE_INFINITY;
  for (const { value } of snapshot.pools.values()) next = Math.min(next, deadlineOf(value, now));
  return next;
}

/** The share of the ring each backend should have, by name; the members that are not live have none. */
export function wantedShares(stored: StoredPool, hops: NextHops, onLink = false): Map<string, number> {
  const live = new Set(liveBackends(stored, hops, onLink).map(({ name }) => name));
  const members = membersOf(stored.value, stored.health).filter(({ name }) => live.has(name));
  const sum = (of: readonly { readonly weight: number }[]): number => of.reduce((all, { weight }) => all + weight, 0);
  const whole = members.filter(({ part = 1 }) => part >= 1);
  const all = sum(members);
  const takers = whole.length > 0 ? whole : members; // of what is not the part of those on their way back
  const parts = new Map(members.map(({ name, weight, part = 1 }) => [name, (weight * part) / all]));
  const rest = 1 - [...parts.values()].reduce((total, share) => total + share, 0);
  for (const { name, weight } of takers) parts.set(name, (parts.get(name) ?? 0) + (rest * weight) / sum(takers));
  return new Map(stored.value.backends.map(({ name }) => [name, parts.get(name) ?? 0]));
}

/** What a pool came to last time, with all that went into it. */
interface PoolMade {
  readonly stored: StoredPool;
  readonly numbers: PoolNumbers;
  readonly hops: readonly (NextHop | null)[]; // by place in the pool's list
  readonly onLink: boolean;
  readonly until: number; // Unix ms: it comes to something else from then on
  readonly ring: PoolRing | null;
  readonly entries: ReadonlyMap<number, BackendEntry>;
}

/** By pool: what did not change is not made anew, and is the very same object. */
export type PoolCache = Map<string, PoolMade>;

/** VLAN tags as on the wire: type, then tag control information (priority 0). */
function tagField(hop: NextHop | null): Uint8Array {
  const field = Buffer.alloc(8);
  for (const [at, { protocol, id }] of (hop?.tags ?? []).entries()) {
    field.writeUInt16BE(protocol, at * 4);
    field.writeUInt16BE(id, at * 4 + 2);
  }
  return field;
}

function entryOf(backend: Backend, pool: PoolNumbers, hop: NextHop | null, down: boolean): BackendEntry {
  const usable = hop !== null && backend.state !== 'disabled' && !isOver(backend, timeOfDay());
  const v6 = familyOf(backend.address) === Family.IPV6;
  return {
    address: backendField(backend),
    nextHopMac: hop?.mac ?? new Uint8Array(6),
    flags:
      (usable ? BackendFlag.VALID : 0) |
      (v6 ? BackendFlag.IPV6 : 0) |
      (hop?.onLink ? BackendFlag.ON_LINK : 0) |
      (down ? BackendFlag.DOWN : 0),
    sourceMac: hop?.sourceMac ?? new Uint8Array(6),
    slot: pool.members.get(backend.address)?.slot ?? 0,
    interface: hop?.interface ?? 0,
    pool: pool.number,
    mtu: Math.min(hop?.mtu ?? 0, 0xffff),
    tagCount: hop?.tags.length ?? 0,
    tag: tagField(hop),
    port: backend.port ?? 0,
  };
}

const keyOf = once((service: Service) => serviceKey(service));

const markerOf = once((service: Service): { readonly id: string; readonly entry: KernelService } => {
  const key = vipMarker(serviceKey(service));
  return { id: keyId(key), entry: { key, value: { number: 0, pool: 0, countersStart: 0, flags: 0 } } };
});

async function makePool(
  stored: StoredPool,
  numbers: PoolNumbers,
  hops: readonly (NextHop | null)[],
  onLink: boolean,
  old: PoolMade | undefined,
): Promise<PoolMade> {
  const now = timeOfDay();
  if (
    old?.stored === stored &&
    old.numbers === numbers &&
    old.onLink === onLink &&
    now < old.until &&
    hops.every((hop, at) => hop === old.hops[at])
  )
    return old;
  const { backends } = stored.value;
  const reachable = hops.map((hop) => isReachable(hop, onLink));
  const ring = backends.length === 0 ? null : await poolRing(stored, numbers, reachable, now, old?.ring ?? undefined);
  const entries = new Map<number, BackendEntry>();
  const { failOpen = false, down = [] } = stored.health ?? {};
  const isOut = new Set(failOpen ? [] : down.map(({ name }) => name));
  for (const [at, backend] of backends.entries()) {
    const number = numbers.members.get(backend.address)?.number;
    if (number) entries.set(number, entryOf(backend, numbers, hops[at] ?? null, isOut.has(backend.name)));
  }
  const until = Math.min(deadlineOf(stored.value, now), ring?.view.nextChange ?? Number.POSITIVE_INFINITY);
  return { stored, numbers, hops, onLink, until, ring, entries };
}

/** When what the last `desired` came to will be something else though nothing changes, Unix ms; infinite when never. */
export function changesAt(cache: PoolCache): number {
  let next = Number.POSITIVE_INFINITY;
  for (const { until } of cache.values()) next = Math.min(next, until);
  return next;
}

/** All that steers packets for this snapshot. `numbering` has a number for each object of it (assignNumbers). */
export async function desired(
  snapshot: Snapshot,
  numbering: Numbering,
  hops: NextHops,
  cache: PoolCache,
): Promise<KernelState> {
  const services = new Map<string, KernelService>();
  const rings = new Map<number, KernelRing>();
  const backends = new Map<number, BackendEntry>();
  const next: PoolCache = new Map();
  const onLink = onLinkPools(snapshot);
  const pause = slices();
  for (const [name, stored] of snapshot.pools) {
    await pause();
    const numbers = numbering.pools.get(name);
    if (!numbers) continue;
    const ways = stored.value.backends.map(({ address }) => hops.get(address) ?? null);
    const made = await makePool(stored, numbers, ways, onLink.has(name), cache.get(name));
    next.set(name, made);
    if (made.ring) rings.set(numbers.number, made.ring.kernel);
    for (const [number, entry] of made.entries) backends.set(number, entry);
  }
  for (const { value: service } of snapshot.services.values()) {
    await pause();
    const id = serviceKeyId(service);
    const numbers = numbering.services.get(id);
    const pool = snapshot.pools.has(service.pool) && numbering.pools.get(service.pool);
    if (!numbers || !pool) continue;
    const marker = markerOf(service);
    services.set(marker.id, marker.entry);
    services.set(id, { key: keyOf(service), value: serviceEntry(service, numbers, pool) });
  }
  cache.clear();
  for (const [name, made] of next) cache.set(name, made);
  return { services, rings, backends };
}
