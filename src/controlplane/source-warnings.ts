// SPDX-License-Identifier: Apache-2.0
import { familyOf } from '../model/address.js';
import type { Snapshot } from '../model/objects.js';

/** The setting for the address that outer headers of a family come from. */
export const SOURCE_SETTING = { 4: 'tunnel.source', 6: 'tunnel.source6' } as const;

/** A sentence for each family of `missing` that a tunnel of these services needs: packets would come from no address. */
export function sourceWarnings(snapshot: Snapshot, missing: readonly (4 | 6)[]): string[] {
  return missing.flatMap((family) => {
    const needing = [...snapshot.services.values()].flatMap(({ value }) => {
      const { backends } = snapshot.pools.get(value.pool)?.value ?? { backends: [] };
      const needs = value.forwarding !== 'l2' && backends.some(({ address }) => familyOf(address) === family);
      return needs ? [`"${value.name}"`] : [];
    });
    if (needing.length === 0) return [];
    const more = needing.length > 3 ? ` and ${needing.length - 3} more` : '';
    const names = `${needing.length > 1 ? 'services' : 'service'} ${needing.slice(0, 3).join(', ')}${more}`;
    return [`no IPv${family} address to send to the backends of ${names} from: set ${SOURCE_SETTING[family]}`];
  });
}
