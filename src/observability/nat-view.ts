// SPDX-License-Identifier: Apache-2.0
// NAT as the API and the metrics see it.
import { serviceKeyId } from '../controlplane/kernel-state.js';
import type { Applied } from '../controlplane/reconciler.js';
import type { NatTables } from '../dataplane/nat.js';
import { NatOutcome } from '../dataplane/nat-abi.gen.js';
import { natEntries } from '../dataplane/nat-flows.js';
import { NAT_DROPS, readNatOutcomes } from '../dataplane/nat-outcomes.js';
import type { DropCount, NatStatus } from '../model/node-view.js';

export const natStatus = (tables: NatTables): NatStatus => ({
  capacity: tables.room,
  entries: natEntries(tables),
  programs: tables.programs,
});

/** Packets that NAT dropped. `names`: services by number; null at 0, which is no service. */
export async function natDrops(
  tables: NatTables,
  names: ReadonlyMap<number, string | null>,
): Promise<readonly DropCount[]> {
  const counts = await readNatOutcomes(tables);
  return [...names].flatMap(([number, service]) =>
    [...NAT_DROPS].flatMap(([outcome, reason]) => {
      const packets = counts[number * NatOutcome.COUNT + outcome] ?? 0;
      return packets > 0 ? [{ service, reason, packets }] : [];
    }),
  );
}

/** Names of the services with forwarding 'nat' by number. */
export function natServices({ snapshot, numbering }: Applied): ReadonlyMap<number, string> {
  const services = [...snapshot.services.values()]
    .map(({ value }) => value)
    .filter((each) => each.forwarding === 'nat');
  return new Map(
    services.flatMap((each) => {
      const number = numbering.services.get(serviceKeyId(each))?.number;
      return number === undefined ? [] : [[number, each.name] as const];
    }),
  );
}
