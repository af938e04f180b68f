// SPDX-License-Identifier: Apache-2.0
// What a daemon of an older version left pinned: taken over without a moment in which there is no program.
import { existsSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { FairleadError } from '../model/errors.js';
import { Abi, MapShape, Reason } from './abi.gen.js';
import type { MapName } from './maps.js';
import { type NativeMap, native } from './native.js';
import { type PinnedLink, pinnedLinks } from './pins.js';

type Copy = (from: NativeMap, to: NativeMap) => void;

/** Maps whose layout changed after a version, and how its content gets into the new one. All others are taken as they are. */
const CHANGED: Readonly<Record<number, Partial<Record<MapName, Copy>>>> = {
  2: {
    pools: copyRingRefs,
    outcomes: copyOutcomes,
    service_outcomes: copyServiceOutcomes,
    service_options: copyServiceOptions,
  },
};

/** Reasons of version 2: those that came since are behind them. */
const REASONS_2 = 21;

const key = (index: number): Uint8Array => new Uint8Array(Uint32Array.of(index).buffer);

/** Counts by interface slot and reason: a slot has more of them now. */
function copyOutcomes(from: NativeMap, to: NativeMap): void {
  for (let at = 0; at < from.info.maxEntries; at++) {
    const now = Math.floor(at / REASONS_2) * Reason.COUNT + (at % REASONS_2);
    const value = from.get(key(at));
    if (value && now < to.info.maxEntries) to.set(key(now), value, 0);
  }
}

/** Counts of a service by reason, for each CPU: longer now. */
function copyServiceOutcomes(from: NativeMap, to: NativeMap): void {
  const [size, wider] = [REASONS_2 * 8, Reason.COUNT * 8];
  for (let service = 0; service < Math.min(from.info.maxEntries, to.info.maxEntries); service++) {
    const value = from.get(key(service));
    if (!value?.some((byte) => byte !== 0)) continue;
    const next = new Uint8Array((value.length / size) * wider);
    for (let cpu = 0; cpu < value.length / size; cpu++)
      next.set(value.subarray(cpu * size, (cpu + 1) * size), cpu * wider);
    to.set(key(service), next, 0);
  }
}

/** Version 2 knew no NAT: what followed since is 0. */
function copyServiceOptions(from: NativeMap, to: NativeMap): void {
  const [old, now] = [new Uint8Array(from.mmap()), new Uint8Array(to.mmap())];
  const [size, wider] = [from.info.valueSize, to.info.valueSize];
  for (let service = 0; service < Math.min(from.info.maxEntries, to.info.maxEntries); service++)
    now.set(old.subarray(service * size, (service + 1) * size), service * wider);
}

/** Version 2: place and rows as one u64. Since version 3 the generation follows. */
function copyRingRefs(from: NativeMap, to: NativeMap): void {
  const refs = new BigUint64Array(from.mmap());
  const wider = new BigUint64Array(to.mmap());
  for (let pool = 0; pool < Math.min(refs.length, wider.length / 2); pool++) wider[pool * 2] = refs[pool] ?? 0n;
}

export interface Older {
  readonly links: ReadonlyMap<string, PinnedLink>;
  /** Where a map that can be taken as it is would be. */
  mapPin(name: MapName): string | undefined;
  /** Fills those of the new maps whose layout changed. The old programs still read the old ones. */
  migrate(maps: Readonly<Record<MapName, NativeMap>>): void;
  /** Drops the old pins; what was taken over has others by now. */
  remove(): void;
}

const linksIn = (root: string): string => join(root, 'links');

/** Null when no older version has left links. Throws 'conflict' when a newer one is at work, or one from before version 2. */
export function findOlder(bpffs: string): Older | null {
  const root = join(bpffs, 'fairlead');
  const versions = (existsSync(root) ? readdirSync(root) : [])
    .map((name) => Number(/^v(\d+)$/.exec(name)?.[1] ?? Number.NaN))
    .filter((version) => version !== Abi.VERSION && existsSync(linksIn(join(root, `v${version}`))))
    .filter((version) => readdirSync(linksIn(join(root, `v${version}`))).length > 0)
    .sort((a, b) => b - a);
  const [version] = versions;
  if (version === undefined) return null;
  const changed = CHANGED[version];
  if (version > Abi.VERSION || !changed) {
    const age = version > Abi.VERSION ? 'a newer' : 'too old a';
    throw new FairleadError(
      'conflict',
      `start the packet path: ${age} version of Fairlead left its programs here (tables of version ${version}, this one knows 2 to ${Abi.VERSION}); start that one, or take everything off with: fairlead detach`,
    );
  }
  const old = join(root, `v${version}`);
  const pinOf = (name: MapName): string => join(old, 'maps', name);
  return {
    links: pinnedLinks(linksIn(old)),
    mapPin: (name) => (changed[name] ? undefined : pinOf(name)),
    migrate(maps) {
      for (const name of Object.keys(MapShape) as MapName[]) {
        const copy = changed[name];
        if (!copy || !existsSync(pinOf(name))) continue;
        const from = native.openMap(pinOf(name));
        copy(from, maps[name]);
        from.close();
      }
    },
    remove: () => rmSync(old, { recursive: true, force: true }),
  };
}
