// SPDX-License-Identifier: Apache-2.0
// The allow and deny lists of services: prefixes in two LPM tries, one for each family.
import { familyOf, formatAddress } from '../model/address.js';
import { writePrefix } from '../model/prefix.js';
import { Source4Key, Source6Key } from './abi.gen.js';
import type { Maps } from './maps.js';

/** The number of a list in the tries. */
export const listNumber = (service: number, deny: boolean): number => service * 2 + (deny ? 1 : 0);

const LIST_BITS = 32;
const VALUE_SIZE = 4;

const mapOf = (maps: Maps, v6: boolean) => (v6 ? maps.handle.sources6 : maps.handle.sources4);

/** The keys of these prefixes, one after the other. */
function keysOf(list: number, v6: boolean, prefixes: readonly string[]): Uint8Array {
  const { size, field } = v6 ? Source6Key : Source4Key;
  const keys = new Uint8Array(size * prefixes.length);
  const view = new DataView(keys.buffer);
  for (const [index, prefix] of prefixes.entries()) {
    const at = index * size;
    field.prefixSize.write(view, at, LIST_BITS + writePrefix(prefix, keys, at + field.address.offset));
    field.list.write(view, at, list);
  }
  return keys;
}

/** Keys at a time: what is encoded in one turn of the event loop and written in one call off it. */
const BATCH = 2000;

async function inBatches(
  list: number,
  prefixes: readonly string[],
  run: (v6: boolean, count: number, keys: Uint8Array) => Promise<void>,
): Promise<void> {
  const v6 = familyOf(prefixes[0] ?? '') === 6;
  for (let start = 0; start < prefixes.length; start += BATCH) {
    const part = prefixes.slice(start, start + BATCH);
    await run(v6, part.length, keysOf(list, v6, part));
  }
}

/** Puts canonical prefixes of one family on a list. */
export function addSources(maps: Maps, list: number, prefixes: readonly string[]): Promise<void> {
  return inBatches(list, prefixes, (v6, count, keys) =>
    mapOf(maps, v6).setBatch(count, keys, new Uint8Array(count * VALUE_SIZE)),
  );
}

/** Takes prefixes off a list that has them all. */
export function removeSources(maps: Maps, list: number, prefixes: readonly string[]): Promise<void> {
  return inBatches(list, prefixes, (v6, count, keys) => mapOf(maps, v6).deleteBatch(count, keys));
}

/** Every list in the kernel by its number, as canonical prefixes. `pause` lets the event loop turn. */
export async function readSources(
  maps: Maps,
  pause: () => Promise<void> | undefined,
): Promise<Map<number, Set<string>>> {
  const lists = new Map<number, Set<string>>();
  for (const v6 of [false, true]) {
    const { count, keys } = await mapOf(maps, v6).readAll();
    for (let at = 0; at < count; at++) {
      const key = v6 ? Source6Key.decode(keys, at * Source6Key.size) : Source4Key.decode(keys, at * Source4Key.size);
      const bytes =
        typeof key.address === 'number'
          ? Uint8Array.from([24, 16, 8, 0], (by) => Number(key.address) >>> by)
          : key.address;
      const list = lists.get(key.list) ?? new Set();
      lists.set(key.list, list.add(`${formatAddress(bytes)}/${key.prefixSize - LIST_BITS}`));
      const turn = pause();
      if (turn) await turn;
    }
  }
  return lists;
}
