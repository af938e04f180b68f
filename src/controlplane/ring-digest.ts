// SPDX-License-Identifier: Apache-2.0
// What rings the kernel holds, in a form that two nodes can compare.
import { createHash } from 'node:crypto';
import type { Maps } from '../dataplane/maps.js';
import { readBackend, readRingRef, viewBackend, viewRingRows } from '../dataplane/tables.js';
import { addressText } from './kernel-state.js';
import type { Reconciler } from './reconciler.js';
import { slices } from './slices.js';

/** The ring of one pool, as it was read back. */
export interface RingReading {
  /** 16 hex digits: SHA-256, cut, over who owns each row and who did before, by address and port. */
  readonly digest: string;
  /** Of the pool's members, as the kernel has it beside the rows. */
  readonly generation: number;
  /** What the rows were made from: with the same on two nodes, the digests must be the same. */
  readonly basis: string;
  /** Backends that cannot be reached from here, and so have no rows here; by name. */
  readonly without: readonly string[];
  /** Whether the kernel holds what this node has worked out. */
  readonly asWanted: boolean;
}

export interface RingReader {
  /** By pool. Null when the reconciler was writing: what was read may be half of two rings. */
  read(): Promise<ReadonlyMap<string, RingReading> | null>;
}

interface Known {
  readonly rows: Uint16Array;
  readonly owners: readonly string[]; // texts of `numbers`
  readonly numbers: readonly number[]; // of backends in `rows`, ascending
  readonly digest: string;
}

const WORDS_PER_SLICE = 32_768;

const sameRows = (a: Uint16Array, b: Uint16Array): boolean =>
  Buffer.from(a.buffer, a.byteOffset, a.byteLength).equals(Buffer.from(b.buffer, b.byteOffset, b.byteLength));

/** Reads in slices. What has not changed since the last time is compared only. */
export function openRingReader(maps: Maps, reconciler: Pick<Reconciler, 'state' | 'busy'>): RingReader {
  let known = new Map<string, Known>();

  const texts = new Map<number, { readonly entry: Buffer; readonly text: string }>();
  const ownerOf = (number: number): string => {
    const bytes = viewBackend(maps, number);
    const before = texts.get(number);
    if (before?.entry.equals(bytes)) return before.text;
    const entry = readBackend(maps, number);
    const text = `${addressText(entry)} ${entry.port}`;
    texts.set(number, { entry: Buffer.from(bytes), text });
    return text;
  };

  /** `members`: owners by number that are known already; `rows`: those of `old` when nothing changed in them. */
  async function knowing(rows: Uint16Array, members: ReadonlyMap<number, string>, old?: Known): Promise<Known> {
    const isSame = old?.rows === rows;
    const numbers = isSame ? old.numbers : await numbersIn(rows);
    const owners = numbers.map((number) => members.get(number) ?? ownerOf(number));
    if (isSame && owners.every((owner, at) => owner === old.owners[at])) return old;
    return { rows, numbers, owners, digest: await digestOf(rows, numbers, owners) };
  }

  return {
    async read() {
      const pause = slices();
      const found = new Map<string, RingReading>();
      const next = new Map<string, Known>();
      for (const name of reconciler.state().rings.keys()) {
        const state = reconciler.state();
        const { rings, numbering, snapshot } = state;
        const [wanted, numbers, stored] = [rings.get(name), numbering.pools.get(name), snapshot.pools.get(name)];
        if (!wanted || !numbers || !stored) continue;
        const members = new Map<number, string>();
        let isWanted = true;
        for (const { address, port } of stored.value.backends) {
          const number = numbers.members.get(address)?.number ?? 0;
          const owner = ownerOf(number);
          members.set(number, owner);
          isWanted &&= owner === `${address} ${port ?? 0}`;
          const turn = pause();
          if (turn) await turn;
        }
        if (reconciler.busy() || reconciler.state() !== state) return null;
        const ref = readRingRef(maps, numbers.number);
        const view = viewRingRows(maps, ref);
        const old = known.get(name);
        const rows = old && sameRows(view, old.rows) ? old.rows : view.slice();
        isWanted &&= ref.generation === wanted.kernel.generation && sameRows(rows, wanted.kernel.rows);
        await pause();
        const one = await knowing(rows, members, old);
        next.set(name, one);
        found.set(name, {
          digest: one.digest,
          generation: ref.generation,
          // With the time of the last change: nodes that act on their own findings while the store is away come to the same generation.
          basis: [
            ...[stored.revision, wanted.log.generation, wanted.log.changes.at(-1)?.at ?? 0],
            ...[wanted.view.nextChange ?? 0, ...wanted.without],
          ].join('/'),
          without: wanted.without,
          asWanted: isWanted,
        });
        await pause();
      }
      known = next;
      return found;
    },
  };
}

/** Every number in these rows, ascending. */
async function numbersIn(rows: Uint16Array): Promise<number[]> {
  const isThere = new Uint8Array(65_536);
  const pause = slices();
  for (let start = 0; start < rows.length; start += WORDS_PER_SLICE) {
    const end = Math.min(start + WORDS_PER_SLICE, rows.length);
    for (let at = start; at < end; at++) isThere[rows[at] as number] = 1;
    await pause();
  }
  const numbers: number[] = [];
  for (let number = 1; number < isThere.length; number++) if (isThere[number] === 1) numbers.push(number);
  return numbers;
}

/** The same for the same owners, whatever numbers a node has given them: rows name owners by their place in the sorted list. */
async function digestOf(rows: Uint16Array, numbers: readonly number[], owners: readonly string[]): Promise<string> {
  const sorted = [...new Set(owners)].sort();
  const place = new Map(sorted.map((owner, at) => [owner, at + 1]));
  const places = new Uint16Array(65_536);
  for (const [at, number] of numbers.entries()) places[number] = place.get(owners[at] ?? '') ?? 0;
  const hash = createHash('sha256').update(JSON.stringify(sorted));
  const pause = slices();
  for (let start = 0; start < rows.length; start += WORDS_PER_SLICE) {
    hash.update(rows.subarray(start, start + WORDS_PER_SLICE).map((number) => places[number] as number));
    await pause();
  }
  return hash.digest('hex').slice(0, 16);
}
