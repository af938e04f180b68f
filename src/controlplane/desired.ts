// SPDX-License-Identifier: Apache-2.0
// From what was asked for and what was observed to what the kernel is to hold.
import { type Backend as BackendEntry, BackendFlag, Family } from '../dataplane/abi.gen.js';
import { parseAddress } from '../model/address.js';
import type { Backend, Pool, Snapshot } from '../model/objects.js';
import { buildRingSliced, type RingMember, ringSize } from '../ring/index.js';
import { addressField, type KernelService, type KernelState, keyId, serviceKey, vipMarker } from './kernel-state.js';
import type { NextHop } from './next-hops.js';
import type { Numbering, PoolNumbers } from './numbering.js';

export type NextHops = ReadonlyMap<string, NextHop | null>;

/** Whether rows may be given to this backend: asked for, and reachable. */
export const isLive = (backend: Backend, hops: NextHops): boolean =>
  backend.state === 'active' && backend.weight > 0 && hops.get(backend.address) != null;

/** The share of the ring each backend should have, by name; the members that are not live have none. */
export function wantedShares(pool: Pool, hops: NextHops): Map<string, number> {
  const weights = pool.backends.map((backend) => (isLive(backend, hops) ? backend.weight : 0));
  const sum = weights.reduce((total, weight) => total + weight, 0);
  return new Map(pool.backends.map((backend, at) => [backend.name, sum === 0 ? 0 : (weights[at] ?? 0) / sum]));
}

/**
 * Rings already built, by all that goes into them: the reconciler asks for every ring each time. What `desired` did
 * not ask for this time is dropped.
 */
export type RingCache = Map<string, Uint16Array>;

async function ringOf(
  pool: Pool,
  numbers: PoolNumbers,
  hops: NextHops,
  old: RingCache,
  next: RingCache,
): Promise<Uint16Array> {
  const members: RingMember[] = pool.backends.map((b) => ({ name: b.name, weight: b.weight, live: isLive(b, hops) }));
  const size = ringSize(pool.backends.length, pool.ring.size);
  const numberOf = new Map(pool.backends.map((b) => [b.name, numbers.members.get(b.address)?.number ?? 0]));
  const signature = JSON.stringify([size, members, [...numberOf]]);
  let owners = old.get(signature);
  if (!owners) {
    const ring = await buildRingSliced(members, size);
    const byIndex = Uint16Array.from([0, ...ring.names.map((name) => numberOf.get(name) ?? 0)]);
    owners = ring.owners.map((index) => byIndex[index] ?? 0);
  }
  next.set(signature, owners);
  return owners;
}

function entryOf(backend: Backend, pool: PoolNumbers, hop: NextHop | null): BackendEntry {
  const usable = hop !== null && backend.state !== 'disabled';
  const v6 = parseAddress(backend.address).family === Family.IPV6;
  return {
    address: addressField(backend.address),
    nextHopMac: hop?.mac ?? new Uint8Array(6),
    flags: (usable ? BackendFlag.VALID : 0) | (v6 ? BackendFlag.IPV6 : 0),
    sourceMac: hop?.sourceMac ?? new Uint8Array(6),
    slot: pool.members.get(backend.address)?.slot ?? 0,
    interface: hop?.interface ?? 0,
    pool: pool.number,
  };
}

/** All that steers packets for this snapshot. `numbering` has a number for each object of it (assignNumbers). */
export async function desired(
  snapshot: Snapshot,
  numbering: Numbering,
  hops: NextHops,
  cache: RingCache,
): Promise<KernelState> {
  const services = new Map<string, KernelService>();
  const rings = new Map<number, Uint16Array>();
  const backends = new Map<number, BackendEntry>();
  const next: RingCache = new Map();
  for (const [name, { value: pool }] of snapshot.pools) {
    const numbers = numbering.pools.get(name);
    if (!numbers) continue;
    if (pool.backends.length > 0) rings.set(numbers.number, await ringOf(pool, numbers, hops, cache, next));
    for (const backend of pool.backends) {
      const number = numbers.members.get(backend.address)?.number;
      if (number) backends.set(number, entryOf(backend, numbers, hops.get(backend.address) ?? null));
    }
  }
  for (const { value: service } of snapshot.services.values()) {
    const key = serviceKey(service);
    const numbers = numbering.services.get(keyId(key));
    const pool = numbering.pools.get(service.pool);
    if (!numbers || !pool) continue;
    const marker = vipMarker(key);
    services.set(keyId(marker), { key: marker, value: { number: 0, pool: 0, countersStart: 0 } });
    services.set(keyId(key), {
      key,
      value: { number: numbers.number, pool: pool.number, countersStart: numbers.countersStart },
    });
  }
  cache.clear();
  for (const [signature, owners] of next) cache.set(signature, owners);
  return { services, rings, backends };
}
