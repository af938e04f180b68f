// SPDX-License-Identifier: Apache-2.0
// Reading and writing the tables that steer packets. Every write here is atomic for a packet: the whole old entry or the whole new one,
// apart from a backend's, whose order of stores is given at writeBackend.
import { Backend, BackendFlag, type RingRef, RingRow } from './abi.gen.js';
import type { Maps } from './maps.js';

/** u16 in a row: its owner and up to three before. */
export const ROW_WORDS = RingRow.size / 2;

/** Where a pool's ring lies; rows 0 when it has none. */
export function readRingRef(maps: Maps, pool: number): RingRef {
  const [word = 0n, rest = 0n] = maps.pools.subarray(pool * 2, pool * 2 + 2);
  return {
    start: Number(word & 0xffffffffn),
    rows: Number(word >> 32n),
    generation: Number(rest & 0xffffffffn),
  };
}

/** One store: from here on packets use this ring. The generation, which none of them reads, comes before it. */
export function writeRingRef(maps: Maps, pool: number, { start, rows, generation }: RingRef): void {
  Atomics.store(maps.pools, pool * 2 + 1, BigInt(generation));
  Atomics.store(maps.pools, pool * 2, (BigInt(rows) << 32n) | BigInt(start));
}

const rowsAt = (maps: Maps, start: number, count: number): Uint16Array =>
  new Uint16Array(maps.ringRows.buffer, maps.ringRows.byteOffset + start * RingRow.size, count * ROW_WORDS);

/**
 * Writes a ring where no packet looks yet: ROW_WORDS backend numbers a row, the current owner first. A 65537-row ring takes well under a
 * millisecond.
 */
export function writeRingRows(maps: Maps, start: number, rows: Uint16Array): void {
  rowsAt(maps, start, rows.length / ROW_WORDS).set(rows);
}

/** A ring's rows as writeRingRows takes them: the kernel's own memory, for as long as the event loop does not turn. */
export const viewRingRows = (maps: Maps, { start, rows }: Pick<RingRef, 'start' | 'rows'>): Uint16Array =>
  rowsAt(maps, start, rows);

/** The same, copied. */
export const readRingRows = (maps: Maps, { start, rows }: Pick<RingRef, 'start' | 'rows'>): Uint16Array =>
  rowsAt(maps, start, rows).slice();

/** How many rows each backend number owns now. */
export function rowsOwned(rows: Uint16Array): Map<number, number> {
  const owned = new Map<number, number>();
  for (let at = 0; at < rows.length; at += ROW_WORDS) {
    const number = rows[at] ?? 0;
    owned.set(number, (owned.get(number) ?? 0) + 1);
  }
  return owned;
}

/** Rows of owners that have had none before. */
export function stableRows(owners: Uint16Array): Uint16Array {
  const rows = new Uint16Array(owners.length * ROW_WORDS);
  for (let row = 0; row < owners.length; row++) rows[row * ROW_WORDS] = owners[row] ?? 0;
  return rows;
}

const WORDS = Backend.size / 8;
const FLAGS_WORD = Backend.field.flags.offset >> 3;

export function readBackend(maps: Maps, number: number): Backend {
  return Backend.decode(maps.backends, number * Backend.size);
}

/** Its bytes: the kernel's own memory. */
export const viewBackend = (maps: Maps, number: number): Uint8Array =>
  maps.backends.subarray(number * Backend.size, (number + 1) * Backend.size);

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
