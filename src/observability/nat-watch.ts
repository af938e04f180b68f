// SPDX-License-Identifier: Apache-2.0
// Tells operators when NAT has to refuse connections, and when it need not any more.
import { type NatTables, readNatService } from '../dataplane/nat.js';
import { NatOutcome, NatPool } from '../dataplane/nat-abi.gen.js';
import { natEntries } from '../dataplane/nat-flows.js';
import { readNatOutcomesOf } from '../dataplane/nat-outcomes.js';
import type { EventLog } from '../model/events.js';

export interface NatWatch {
  /** Looks now, at `nowMs` of a clock that only goes on. */
  look(nowMs: number): void;
}

/** It is over when nothing was refused for so long, so that what comes and goes is told once. */
export const QUIET_MS = 10_000;

const PERIOD_MS = 1000;

/** Something that is refused: how often so far, and since it was told. */
interface Shortage {
  seen: number;
  /** Refused since it was told; null: it is not told, or over. */
  refused: number | null;
  lastMs: number;
}

/** What happened to a shortage; `count` is what the kernel has refused of it by now. */
function step(
  shortage: Shortage,
  count: number,
  isFree: () => boolean,
  nowMs: number,
): { readonly told: 'begins' | 'ends'; readonly refused: number } | null {
  const more = count >= shortage.seen ? count - shortage.seen : count; // less: it counts anew
  shortage.seen = count;
  if (more > 0) {
    shortage.lastMs = nowMs;
    const begins = shortage.refused === null;
    shortage.refused = (shortage.refused ?? 0) + more;
    return begins ? { told: 'begins', refused: more } : null;
  }
  if (shortage.refused === null || nowMs - shortage.lastMs < QUIET_MS || !isFree()) return null;
  const { refused } = shortage;
  shortage.refused = null;
  return { told: 'ends', refused };
}

/** Whether the service's pools have a port; those of egress (0) are not known here. */
function hasPorts(tables: NatTables, service: number): boolean {
  const { pool, poolOther } = readNatService(tables, service);
  return [pool, poolOther].every((number) => {
    if (number === 0) return true;
    const { head, tail } = NatPool.decode(tables.pools.subarray(number * NatPool.size, (number + 1) * NatPool.size));
    return head !== tail;
  });
}

/** `services`: names of NAT services by number. What was refused before the first look is not told. */
export function openNatWatch(
  tables: () => NatTables | null,
  services: () => ReadonlyMap<number, string>,
  events: EventLog,
): NatWatch {
  let table: Shortage | null = null;
  const ports = new Map<number, Shortage & { readonly name: string | null }>();

  function portsOf(known: NatTables, number: number, name: string | null, count: number, nowMs: number): void {
    const before = ports.get(number);
    if (before?.name !== name) ports.delete(number);
    const shortage = ports.get(number) ?? { name, seen: count, refused: null, lastMs: nowMs };
    ports.set(number, shortage);
    const change = step(shortage, count, () => hasPorts(known, number), nowMs);
    if (change === null) return;
    const what = name === null ? 'egress' : `service "${name}"`;
    const begins = change.told === 'begins';
    events.emit({
      type: begins ? 'nat.ports_exhausted' : 'nat.ports_free',
      severity: begins ? 'error' : 'info',
      object: name === null ? null : `/services/${name}`,
      message: begins
        ? `${what}: its source addresses have no port left, new connections are refused`
        : `${what}: its source addresses have ports again; ${change.refused} connections were refused`,
      data: { refused: change.refused },
    });
  }

  function tableOf(known: NatTables, count: number, nowMs: number): void {
    table ??= { seen: count, refused: null, lastMs: nowMs };
    const change = step(table, count, () => natEntries(known) < known.room, nowMs);
    if (change === null) return;
    const begins = change.told === 'begins';
    events.emit({
      type: begins ? 'nat.table_full' : 'nat.table_free',
      severity: begins ? 'error' : 'info',
      object: null,
      message: begins
        ? `the table of NAT has no room (nat.connections: ${known.room}), new connections are refused`
        : `the table of NAT has room again; ${change.refused} connections were refused`,
      data: { refused: change.refused, entries: natEntries(known), capacity: known.room },
    });
  }

  return {
    look(nowMs) {
      const known = tables();
      if (known === null) return;
      let full = 0;
      const all = new Map<number, string | null>([[0, null], ...services()]);
      for (const [number, name] of all) {
        const counts = readNatOutcomesOf(known, number);
        full += counts[NatOutcome.FULL] ?? 0;
        portsOf(known, number, name, counts[NatOutcome.PORTS] ?? 0, nowMs);
      }
      for (const number of ports.keys()) if (!all.has(number)) ports.delete(number);
      tableOf(known, full, nowMs);
    },
  };
}

/** Looks every second until the returned function is called. */
export function startNatWatch(watch: NatWatch): () => void {
  const timer = setInterval(() => watch.look(performance.now()), PERIOD_MS);
  timer.unref();
  return () => clearInterval(timer);
}
