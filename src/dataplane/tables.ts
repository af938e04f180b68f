// SPDX-License-Identifier: Apache-2.0
// Reading and writing the tables that steer packets. Every write here is atomic for a packet: the whole old entry or the whole new one,
// apart from a backend's, whose order of stores is given at writeBackend.
import { Backend, BackendFlag, type RingRef, Service, ServiceKey, VipFilterLimit } from './abi.gen.js';
import type { Maps } from './maps.js';

/** The u64 of struct ring_ref. */
const packRef = (ref: RingRef): bigint => (BigInt(ref.rows) << 32n) | BigInt(ref.start);

/** Where a pool's ring lies; rows 0 when it has none. */
export function readRingRef(maps: Maps, pool: number): RingRef {
  const word = maps.pools[pool] ?? 0n;
  return { start: Number(word & 0xffffffffn), rows: Number(word >> 32n) };
}

/** One store: from here on packets use this ring. */
export function writeRingRef(maps: Maps, pool: number, ref: RingRef): void {
  Atomics.store(maps.pools, pool, packRef(ref));
}

/** Writes a ring (backend numbers by row) where no packet looks yet. A 65537-row ring takes well under a millisecond. */
export function writeRingRows(maps: Maps, start: number, owners: Uint16Array): void {
  const rows = new Uint16Array(maps.ringRows.buffer, maps.ringRows.byteOffset + start * 8, owners.length * 4);
  rows.fill(0);
  for (let row = 0; row < owners.length; row++) rows[row * 4] = owners[row] ?? 0;
}

/** The current owner of each row, copied. */
export function readRingRows(maps: Maps, ref: RingRef): Uint16Array {
  const rows = new Uint16Array(maps.ringRows.buffer, maps.ringRows.byteOffset + ref.start * 8, ref.rows * 4);
  const owners = new Uint16Array(ref.rows);
  for (let row = 0; row < ref.rows; row++) owners[row] = rows[row * 4] ?? 0;
  return owners;
}

const WORDS = Backend.size / 8;
const FLAGS_WORD = Backend.field.flags.offset >> 3;

export function readBackend(maps: Maps, number: number): Backend {
  return Backend.decode(maps.backends, number * Backend.size);
}

const SLOT = Backend.field.slot.offset / 2;

/** The numbers in use or once used: those whose slot is set. */
export function usedBackends(maps: Maps): number[] {
  const slots = new Uint16Array(maps.backends.buffer, maps.backends.byteOffset);
  const stride = Backend.size / 2;
  const used: number[] = [];
  for (let number = 1; number * stride < slots.length; number++) {
    if (slots[number * stride + SLOT] !== 0) used.push(number);
  }
  return used;
}

/**
 * Writes a backend's entry word by word. The word with the flags and the next hop's MAC goes last, so a new entry is
 * valid only when it is whole; a changed MAC is one store.
 */
export function writeBackend(maps: Maps, number: number, entry: Backend): void {
  const words = new BigUint64Array(maps.backends.buffer, maps.backends.byteOffset + number * Backend.size, WORDS);
  const next = new BigUint64Array(Backend.encode(entry).buffer);
  for (let word = 0; word < WORDS; word++) {
    if (word !== FLAGS_WORD) Atomics.store(words, word, next[word] ?? 0n);
  }
  Atomics.store(words, FLAGS_WORD, next[FLAGS_WORD] ?? 0n);
}

/** Takes the backend out of the packet path with one store; the rest of its entry stays for packets that are reading it. */
export function invalidateBackend(maps: Maps, number: number): void {
  const entry = readBackend(maps, number);
  const words = new BigUint64Array(maps.backends.buffer, maps.backends.byteOffset + number * Backend.size, WORDS);
  const next = new BigUint64Array(Backend.encode({ ...entry, flags: entry.flags & ~BackendFlag.VALID }).buffer);
  Atomics.store(words, FLAGS_WORD, next[FLAGS_WORD] ?? 0n);
}

/** Frees the number. No packet may still be reading the entry. */
export function clearBackend(maps: Maps, number: number): void {
  maps.backends.fill(0, number * Backend.size, (number + 1) * Backend.size);
}

/** All entries of `services`, markers of VIPs included (protocol 0), by the bytes of their key in hex. */
export async function readServices(
  maps: Maps,
): Promise<Map<string, { readonly key: ServiceKey; readonly value: Service }>> {
  const { count, keys, values } = await maps.handle.services.readAll();
  const found = new Map<string, { key: ServiceKey; value: Service }>();
  for (let at = 0; at < count; at++) {
    const id = Buffer.from(keys.buffer, keys.byteOffset + at * ServiceKey.size, ServiceKey.size).toString('hex');
    found.set(id, {
      key: ServiceKey.decode(keys, at * ServiceKey.size),
      value: Service.decode(values, at * Service.size),
    });
  }
  return found;
}

/** The bit of vip_filter an address has; see service_possible in bpf/lib/service.h. */
function filterBit(address: Uint8Array): { readonly word: number; readonly bit: bigint } {
  const [a = 0, b = 0, c = 0, d = 0] = new Uint32Array(address.slice().buffer);
  const bit = Math.imul(a ^ b ^ c ^ d, VipFilterLimit.FACTOR) >>> VipFilterLimit.SHIFT;
  return { word: bit >> 6, bit: 1n << BigInt(bit & 63) };
}

/** Replaces or makes an entry; a hash element is replaced as a whole. The filter lets its packets through first. */
export function writeService(maps: Maps, key: ServiceKey, value: Service): void {
  const { word, bit } = filterBit(key.address);
  Atomics.or(maps.vipFilter, word, bit);
  maps.handle.services.set(ServiceKey.encode(key), Service.encode(value), 0);
}

/** Deletes an entry. Its bit in the filter stays until writeVipFilter: a packet more looks for a service in vain. */
export function deleteService(maps: Maps, key: ServiceKey): void {
  maps.handle.services.delete(ServiceKey.encode(key));
}

/** Makes the filter let through the addresses of these services and no others. True when it did not. */
export function writeVipFilter(maps: Maps, services: Iterable<ServiceKey>): boolean {
  const wanted = new BigUint64Array(maps.vipFilter.length);
  for (const { address } of services) {
    const { word, bit } = filterBit(address);
    wanted[word] = (wanted[word] ?? 0n) | bit;
  }
  let changed = false;
  for (const [word, bits] of wanted.entries()) {
    if (maps.vipFilter[word] === bits) continue;
    Atomics.store(maps.vipFilter, word, bits);
    changed = true;
  }
  return changed;
}
