// SPDX-License-Identifier: Apache-2.0
import type { Ring } from './ring.js';

/** What one ring has that another has not. Counts are rows; `shares` holds every name of either ring, in order. */
export interface RingDiff {
  readonly changed: number;
  readonly shares: readonly { readonly name: string; readonly before: number; readonly after: number }[];
}

/** Rows owned, by 1-based member index; element 0 counts the holes. */
export function rowsOwned(ring: Ring): Uint32Array {
  const rows = new Uint32Array(ring.names.length + 1);
  for (const owner of ring.owners) rows[owner] = (rows[owner] as number) + 1;
  return rows;
}

/** Compares two rings of one size by the owners' names, so the members may differ. Throws RangeError when the sizes do. */
export function diffRings(before: Ring, after: Ring): RingDiff {
  if (before.owners.length !== after.owners.length)
    throw new RangeError(`compare rings: got ${after.owners.length} rows, wanted ${before.owners.length}`);
  const newIndex = new Map(after.names.map((name, i) => [name, i + 1]));
  const translated = Uint32Array.of(0, ...before.names.map((name) => newIndex.get(name) ?? 0xffff_ffff));
  const changed = before.owners.reduce((n, owner, row) => n + (translated[owner] === after.owners[row] ? 0 : 1), 0);

  const rowsBefore = rowsOwned(before);
  const rowsAfter = rowsOwned(after);
  const shares = new Map(before.names.map((name, i) => [name, { name, before: rowsBefore[i + 1] ?? 0, after: 0 }]));
  for (const [i, name] of after.names.entries())
    shares.set(name, { name, before: shares.get(name)?.before ?? 0, after: rowsAfter[i + 1] ?? 0 });
  return { changed, shares: [...shares.values()].sort((a, b) => (a.name < b.name ? -1 : 1)) };
}
