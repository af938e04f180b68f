// SPDX-License-Identifier: Apache-2.0
// What the kernel is to hold, or holds: plain values, so that the planner can compare the two.
import { type Backend, BackendFlag, Family, type Service, ServiceKey } from '../dataplane/abi.gen.js';
import type { Maps } from '../dataplane/maps.js';
import { readServices } from '../dataplane/services.js';
import { readBackend, readRingRef, readRingRows, usedBackends } from '../dataplane/tables.js';
import { formatAddress, parseAddress } from '../model/address.js';
import type { Service as ServiceObject } from '../model/objects.js';

export interface KernelService {
  readonly key: ServiceKey;
  readonly value: Service;
}

/** Services by the hex of their key (VIP markers included), rings as backend numbers by row, backends by number. */
export interface KernelState {
  readonly services: ReadonlyMap<string, KernelService>;
  readonly rings: ReadonlyMap<number, Uint16Array>;
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
    family: parseAddress(service.address).family,
  };
}

/** The entry that says "this address is a VIP", whatever the port. */
export const vipMarker = (key: ServiceKey): ServiceKey => ({ ...key, port: 0, protocol: 0 });

export const keyId = (key: ServiceKey): string => Buffer.from(ServiceKey.encode(key)).toString('hex');

export const serviceKeyId = (service: ServiceObject): string => keyId(serviceKey(service));

/** A copy of what steers packets now. Backends whose number was never used are left out. */
export function readKernel(maps: Maps): KernelState {
  const services = new Map(readServices(maps).map((entry) => [keyId(entry.key), entry] as const));
  const rings = new Map<number, Uint16Array>();
  for (let pool = 0; pool < maps.pools.length; pool++) {
    const ref = readRingRef(maps, pool);
    if (ref.rows > 0) rings.set(pool, readRingRows(maps, ref));
  }
  const backends = new Map(usedBackends(maps).map((number) => [number, readBackend(maps, number)] as const));
  return { services, rings, backends };
}
