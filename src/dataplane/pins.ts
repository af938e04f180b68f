// SPDX-License-Identifier: Apache-2.0
// What outlives the daemon: maps and links below <bpffs>/fairlead/v<ABI version>.
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { Abi, MapShape } from './abi.gen.js';
import type { DataplaneConfig, XdpMode } from './dataplane.js';
import { type MapName, mapEntries } from './maps.js';
import { type NativeLink, type NativeMap, type NativeProgram, native } from './native.js';
import type { Older } from './older.js';

/** The directory of this ABI version's pins. */
export const pinRoot = (bpffs: string): string => join(bpffs, 'fairlead', `v${Abi.VERSION}`);

export const mapPin = (bpffs: string, name: MapName): string => join(pinRoot(bpffs), 'maps', name);

/** Has a bpffs there, and the directories `maps` and `links` below `root`. */
export function prepareBpffs(bpffs: string, root: string = pinRoot(bpffs)): void {
  mkdirSync(bpffs, { recursive: true });
  native.mountBpffs(bpffs);
  for (const part of ['maps', 'links']) mkdirSync(join(root, part), { recursive: true });
}

/**
 * Pinned maps that still have the wanted shape, those of an older version included. One that has not is left out: it is made anew, and
 * the ring decides until it fills.
 */
export function adoptMaps(
  config: DataplaneConfig,
  older: Older | null,
  warnings: string[],
): Partial<Record<MapName, NativeMap>> {
  const entries = mapEntries(config, native.possibleCpus());
  const adopted: Partial<Record<MapName, NativeMap>> = {};
  for (const [name, shape] of Object.entries(MapShape) as [MapName, (typeof MapShape)[MapName]][]) {
    const pin = [mapPin(config.bpffs, name), older?.mapPin(name)].find((path) => path && existsSync(path));
    if (pin === undefined) continue;
    const map = native.openMap(pin);
    const same =
      map.info.type === shape.type &&
      map.info.keySize === shape.keySize &&
      map.info.valueSize === shape.valueSize &&
      map.info.maxEntries === entries[name] &&
      map.info.flags === shape.flags;
    if (same) {
      adopted[name] = map;
    } else {
      map.close();
      warnings.push(`map "${name}" had another size: made anew, its content is lost`);
    }
  }
  // The halves of the flow table belong together.
  if (!adopted.flows_hot !== !adopted.flows_cold) {
    adopted.flows_hot?.close();
    adopted.flows_cold?.close();
    delete adopted.flows_hot;
    delete adopted.flows_cold;
  }
  return adopted;
}

/** Pins a new map, program or link over an old pin without a moment in which there is none. */
export function pinOver(path: string, object: NativeMap | NativeProgram | NativeLink): void {
  const fresh = `${path}_new`;
  rmSync(fresh, { force: true });
  object.pin(fresh);
  renameSync(fresh, path);
}

/**
 * The name of a link's pin: SLOT-MODE-INTERFACE. bpffs takes no dots; ':' cannot be in an interface's name, so it stands
 * for them.
 */
export const linkPin = (slot: number, mode: XdpMode, name: string): string =>
  `${slot}-${mode}-${name.replaceAll('.', ':')}`;

/** What the name of a link's pin tells: the interface's slot in `outcomes`, and the mode, which the kernel does not say. */
export interface PinnedLink {
  readonly pin: string;
  readonly slot: number;
  readonly mode: XdpMode;
}

export function pinnedLinks(directory: string): Map<string, PinnedLink> {
  const found = new Map<string, PinnedLink>();
  for (const pin of readdirSync(directory)) {
    const [, slot, mode, name] = /^(\d+)-(native|generic)-(.+)$/.exec(pin) ?? [];
    if (name !== undefined)
      found.set(name.replaceAll(':', '.'), { pin: join(directory, pin), slot: Number(slot), mode: mode as XdpMode });
  }
  return found;
}
