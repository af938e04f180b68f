// SPDX-License-Identifier: Apache-2.0
// Tables of an earlier daemon.
import { existsSync } from 'node:fs';
import { MapShape } from './abi.gen.js';
import { type MapName, mapEntries } from './maps.js';
import { type NativeMap, native } from './native.js';
import type { Older } from './older.js';
import { mapPin } from './pins.js';
import type { ProgramConfig } from './program.js';

/**
 * Pinned maps that still have the wanted shape, those of an older version included. One that has not is left out: it is made anew, and
 * the ring decides until it fills.
 */
export function adoptMaps(
  config: ProgramConfig & { readonly bpffs: string },
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
