// SPDX-License-Identifier: Apache-2.0
// What became of NAT's packets, beside `reasons`.
import { sumPerCpu } from './counters.js';
import type { NatTables } from './nat.js';
import { NatOutcome } from './nat-abi.gen.js';
import { native } from './native.js';

const DROPS = ['FULL', 'PORTS', 'BUDGET', 'UNKNOWN', 'NO_BACKEND', 'TOO_BIG', 'MALFORMED', 'UNTRANSLATABLE'] as const;

/** The outcomes that are drops, with the names that metrics and API have for them: nat_full, nat_ports, ... */
export const NAT_DROPS: ReadonlyMap<number, string> = new Map(
  DROPS.map((name) => [NatOutcome[name], `nat_${name.toLowerCase()}`]),
);

/** Counts at service number x NatOutcome.COUNT + outcome; number 0: egress. */
export const readNatOutcomes = ({ handle }: NatTables): Promise<Float64Array> =>
  sumPerCpu(handle.nat_outcomes, NatOutcome.COUNT, native.possibleCpus());

/** Counts of one service number by outcome. */
export function readNatOutcomesOf({ handle }: NatTables, service: number): readonly number[] {
  const value = handle.nat_outcomes.get(new Uint8Array(Uint32Array.of(service).buffer)) ?? new Uint8Array();
  const perCpu = new BigUint64Array(Uint8Array.from(value).buffer);
  const counts: number[] = new Array(NatOutcome.COUNT).fill(0);
  for (const [at, count] of perCpu.entries())
    counts[at % NatOutcome.COUNT] = (counts[at % NatOutcome.COUNT] ?? 0) + Number(count);
  return counts;
}

/** Zeroes the counts of a service number before it is given out. */
export function clearNatOutcomes({ handle }: NatTables, service: number): void {
  const map = handle.nat_outcomes;
  map.set(new Uint8Array(Uint32Array.of(service).buffer), new Uint8Array(map.slotSize), 0);
}
