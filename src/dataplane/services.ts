// SPDX-License-Identifier: Apache-2.0
// The table of services: open addressing in mapped memory, written so that a packet at any moment finds a whole entry or none.
import { FairleadError } from '../model/errors.js';
import { Family, Service, ServiceEntry, ServiceKey, ServiceLimit, VipFilterLimit } from './abi.gen.js';
import type { Maps } from './maps.js';

const WORDS = ServiceEntry.size / 8;
/** The u64 of an entry that ends its key: port, protocol, family; written last, so it makes the entry appear. */
const LAST_WORD = (ServiceEntry.offset.key + ServiceKey.field.port.offset) / 8;
const VALUE_WORD = ServiceEntry.offset.value / 8;
const FAMILY = ServiceEntry.offset.key + ServiceKey.field.family.offset;
const KIND = ServiceEntry.offset.key + ServiceKey.field.kind.offset;
const MASK = ServiceLimit.SLOTS - 1;
const U64 = (1n << 64n) - 1n;

/** The key as the packet path compares it: address in two words, then port, protocol and family. */
const keyWords = (key: ServiceKey): BigUint64Array => new BigUint64Array(ServiceKey.encode(key).buffer);

/** The slot at which a search for the key begins. The twin of service_slot in bpf/lib/service.h. */
export function serviceSlot(key: ServiceKey): number {
  const [first = 0n, second = 0n, rest = 0n] = keyWords(key);
  const hash = ((first ^ ((second * 0x9e3779b97f4a7c15n) & U64) ^ (rest << 17n)) * 0xff51afd7ed558ccdn) & U64;
  return Number(hash >> BigInt(64 - ServiceLimit.SLOTS_LOG2));
}

const familyAt = (maps: Maps, slot: number): number => maps.services[slot * ServiceEntry.size + FAMILY] ?? 0;

const wordsAt = (maps: Maps, slot: number): BigUint64Array =>
  new BigUint64Array(maps.services.buffer, maps.services.byteOffset + slot * ServiceEntry.size, WORDS);

/** The slot that holds the key, or -1; and the first one it could take, or -1 when all within reach are taken. */
function find(maps: Maps, key: ServiceKey): { readonly at: number; readonly free: number } {
  const wanted = Buffer.from(ServiceKey.encode(key));
  const start = serviceSlot(key);
  let free = -1;
  for (let probe = 0; probe < ServiceLimit.PROBES; probe++) {
    const slot = (start + probe) & MASK;
    const family = familyAt(maps, slot);
    if (free < 0 && (family === Family.NONE || family === Family.LEFT)) free = slot;
    if (family === Family.NONE) break;
    const at = slot * ServiceEntry.size + ServiceEntry.offset.key;
    if (wanted.equals(maps.services.subarray(at, at + ServiceKey.size))) return { at: slot, free };
  }
  return { at: -1, free };
}

/** All entries of a kind, by the bytes of their key in hex; those of services have the markers of VIPs among them (protocol 0). */
export function* servicesIn(
  maps: Maps,
  kind: number,
): Generator<[string, { readonly key: ServiceKey; readonly value: Service }]> {
  const bytes = Buffer.from(maps.services.buffer, maps.services.byteOffset, maps.services.byteLength);
  for (let slot = 0; slot < ServiceLimit.SLOTS; slot++) {
    const family = familyAt(maps, slot);
    const at = slot * ServiceEntry.size;
    if (family === Family.NONE || family === Family.LEFT || bytes[at + KIND] !== kind) continue;
    const start = at + ServiceEntry.offset.key;
    const value = Service.decode(maps.services, at + ServiceEntry.offset.value);
    const id = bytes.toString('hex', start, start + ServiceKey.size);
    yield [id, { key: ServiceKey.decode(maps.services, start), value }];
  }
}

/** The bit of vip_filter an address has; see service_possible in bpf/lib/service.h. */
function filterBit(address: Uint8Array): { readonly word: number; readonly bit: bigint } {
  const [a = 0, b = 0, c = 0, d = 0] = new Uint32Array(address.slice().buffer);
  const bit = Math.imul(a ^ b ^ c ^ d, VipFilterLimit.FACTOR) >>> VipFilterLimit.SHIFT;
  return { word: bit >> 6, bit: 1n << BigInt(bit & 63) };
}

/**
 * Replaces a service's entry with one store, or makes one: value, address, and last the word that makes it found. The filter
 * lets its packets through before. Throws 'full' when no entry within reach of the key's slot is free. An entry that was
 * deleted may be taken for another key only after a grace period: a packet may be comparing it.
 */
export function writeService(maps: Maps, key: ServiceKey, value: Service): void {
  const { word, bit } = filterBit(key.address);
  Atomics.or(maps.vipFilter, word, bit);
  const { at, free } = find(maps, key);
  const slot = at < 0 ? free : at;
  if (slot < 0) throw new FairleadError('full', 'write a service: its part of the table "services" is full');
  const entry = wordsAt(maps, slot);
  Atomics.store(entry, VALUE_WORD, new BigUint64Array(Service.encode(value).buffer)[0] ?? 0n);
  if (at >= 0) return;
  const words = keyWords(key);
  for (let at = 0; at < LAST_WORD; at++) Atomics.store(entry, at, words[at] ?? 0n);
  Atomics.store(entry, LAST_WORD, words[LAST_WORD] ?? 0n);
}

/** Deletes an entry with one store. Its bit in the filter stays until writeVipFilter: a packet more looks for a service in vain. */
export function deleteService(maps: Maps, key: ServiceKey): void {
  const { at } = find(maps, key);
  if (at < 0) return;
  // A search goes on past it, unless it would end right after: then this entry may end it too.
  const ends = familyAt(maps, (at + 1) & MASK) === Family.NONE;
  mark(maps, at, ends ? Family.NONE : Family.LEFT);
  for (let slot = (at - 1) & MASK; ends && familyAt(maps, slot) === Family.LEFT; slot = (slot - 1) & MASK) {
    mark(maps, slot, Family.NONE);
  }
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

function mark(maps: Maps, slot: number, family: number): void {
  const gone = keyWords({ address: new Uint8Array(16), port: 0, protocol: 0, family, kind: 0 });
  Atomics.store(wordsAt(maps, slot), LAST_WORD, gone[LAST_WORD] ?? 0n);
}
