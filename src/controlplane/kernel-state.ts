// SPDX-License-Identifier: Apache-2.0
// What the kernel is to hold, or holds: plain values, so that the planner can compare the two.
import { type Backend, BackendFlag, Family, KeyKind, type Service, ServiceKey } from '../dataplane/abi.gen.js';
import type { Maps } from '../dataplane/maps.js';
import { servicesIn } from '../dataplane/services.js';
import { readBackend, readRingRef, readRingRows, usedBackends } from '../dataplane/tables.js';
import { familyOf, formatAddress, parseAddress } from '../model/address.js';
import type { Backend as BackendObject, Service as ServiceObject } from '../model/objects.js';
import { slices } from './slices.js';

export interface KernelService {
  readonly key: ServiceKey;
  readonly value: Service;
}

/** A pool's ring: backend numbers, 4 a row (writeRingRows), and the generation of the pool's members they come from. */
export interface KernelRing {
  readonly rows: Uint16Array;
  readonly generation: number;
}

/** Services by the hex of their key (VIP markers included), rings by pool, backends by number. */
export interface KernelState {
  readonly services: ReadonlyMap<string, KernelService>;
  readonly rings: ReadonlyMap<number, KernelRing>;
  readonly backends: ReadonlyMap<number, Backend>;
}

const PROTOCOL_NUMBER = { tcp: 6, udp: 17 } as const;

/** An address as the maps hold it: 16 bytes, IPv4 in the first 4. */
export function addressField(address: string): Uint8Array {
  const field = new Uint8Array(16);
  field.set(parseAddress(address).bytes);
  return field;
}

/** The address of such a field as canonical text. */
export function fieldText(field: Uint8Array, family: number): string {
  return formatAddress(family === Family.IPV4 ? field.subarray(0, 4) : field);
}

/** The address of a backend's entry as canonical text. */
export const addressText = (entry: Backend): string =>
  fieldText(entry.address, entry.flags & BackendFlag.IPV6 ? Family.IPV6 : Family.IPV4);

export function serviceKey(service: Pick<ServiceObject, 'address' | 'port' | 'protocol'>): ServiceKey {
  return {
    address: addressField(service.address),
    port: service.port,
    protocol: PROTOCOL_NUMBER[service.protocol],
    family: familyOf(service.address),
    kind: KeyKind.SERVICE,
  };
}

/** The entry that says "this address is a VIP", whatever the port. */
export const vipMarker = (key: ServiceKey): ServiceKey => ({ ...key, port: 0, protocol: 0 });

/** The entry for early fragments to this address and protocol: whose they are when one service has them all. */
export const fragmentsKey = (key: ServiceKey): ServiceKey => ({ ...key, port: 0, kind: KeyKind.FRAGMENTS });

export const keyId = (key: ServiceKey): string => Buffer.from(ServiceKey.encode(key).buffer).toString('hex');

/** For objects of a snapshot, which never change: the value made once for each. */
export function once<K extends object, V>(make: (object: K) => V): (object: K) => V {
  const known = new WeakMap<K, V>();
  return (object) => {
    const value = known.get(object) ?? make(object);
    known.set(object, value);
    return value;
  };
}

export const serviceKeyId = once((service: ServiceObject): string => keyId(serviceKey(service)));

export const backendField = once((backend: BackendObject): Uint8Array => addressField(backend.address));

/** A copy of what steers packets now, taken while the event loop turns. Backends whose number was never used are left out. */
export async function readKernel(maps: Maps): Promise<KernelState> {
  const pause = slices();
  const services = new Map<string, KernelService>();
  for (const [id, service] of servicesIn(maps, KeyKind.SERVICE)) {
    services.set(id, service);
    await pause();
  }
  const rings = new Map<number, KernelRing>();
  for (let pool = 0; pool < maps.handle.pools.info.maxEntries; pool++) {
    const ref = readRingRef(maps, pool);
    if (ref.rows === 0) continue;
    rings.set(pool, { rows: readRingRows(maps, ref), generation: ref.generation });
    await pause();
  }
  const backends = new Map<number, Backend>();
  for (const number of usedBackends(maps)) {
    backends.set(number, readBackend(maps, number));
    const turn = pause();
    if (turn) await turn;
  }
  return { services, rings, backends };
}
