// SPDX-License-Identifier: Apache-2.0
// What outlives the daemon: maps and links below <bpffs>/fairlead/v<ABI version>.
import { mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { Abi } from './abi.gen.js';
import type { XdpMode } from './interfaces.js';
import type { MapName } from './maps.js';
import { type NativeLink, type NativeMap, type NativeProgram, native } from './native.js';

/** The directory of this ABI version's pins. */
export const pinRoot = (bpffs: string): string => join(bpffs, 'fairlead', `v${Abi.VERSION}`);

export const mapPin = (bpffs: string, name: MapName): string => join(pinRoot(bpffs), 'maps', name);

/** Has a bpffs there, and the directories `maps` and `links` below `root`. */
export function prepareBpffs(bpffs: string, root: string = pinRoot(bpffs)): void {
  mkdirSync(bpffs, { recursive: true });
  native.mountBpffs(bpffs);
  for (const part of ['maps', 'links']) mkdirSync(join(root, part), { recursive: true });
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
