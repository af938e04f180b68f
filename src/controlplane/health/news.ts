// SPDX-License-Identifier: Apache-2.0
// Tells operators what became of the backends' health.
import type { EventLog } from '../../model/events.js';
import type { PoolHealth, Snapshot, StoredPool } from '../../model/objects.js';
import { ALL_WELL } from './agree.js';
import type { Checked } from './checker.js';
import type { Reports } from './reports.js';
import type { StoreView } from './view.js';

export interface HealthNews {
  flapping(checked: Checked): void;
  /** A sentence for each pool that fails open, and one when nodes go on to disagree. */
  warnings(): string[];
  /** Of backends, since the start, as they were in force here. */
  transitions(): { readonly up: number; readonly down: number };
  close(): void;
}

/** The first of the backends that nodes disagree on, and how many there are. */
function disagreement(reports: Reports, forMs: number): string[] {
  const [first, ...more] = reports.disputed(forMs);
  if (first === undefined) return [];
  const [pool = '', backend = ''] = first.split('/');
  const all = [...reports.of(pool, backend)].sort();
  const of = (wanted: string): string =>
    all.flatMap(([node, { state }]) => (state === wanted ? [node] : [])).join(', ');
  const rest = more.length > 0 ? `; and ${more.length} more backends` : '';
  return [
    `nodes disagree on backend "${backend}" of pool "${pool}": down for ${of('down')}, up for ${of('up')}${rest}`,
  ];
}

/** Watches what is in force; what is there at the beginning is no news. */
export function openHealthNews(events: EventLog, view: StoreView, reports: Reports, disputedMs: number): HealthNews {
  const known = new Map<string, PoolHealth>();
  const counts = { up: 0, down: 0 };

  function look({ pools }: Snapshot): void {
    for (const name of known.keys()) if (!pools.get(name)?.value.healthCheck) known.delete(name);
    for (const [name, stored] of pools) {
      const { health = ALL_WELL, value } = stored;
      if (!value.healthCheck) continue;
      const before = known.get(name);
      if (before === health) continue;
      known.set(name, health);
      tell(stored, before ?? ALL_WELL, health);
    }
  }

  function tell({ value: pool }: StoredPool, before: PoolHealth, health: PoolHealth): void {
    const was = new Set(before.down.map(({ name }) => name));
    const is = new Set(health.down.map(({ name }) => name));
    for (const { name } of pool.backends) {
      if (was.has(name) === is.has(name)) continue;
      const object = `/pools/${pool.name}/backends/${name}`;
      const nodes = Object.fromEntries(reports.of(pool.name, name));
      const what = `backend "${name}" of pool "${pool.name}"`;
      if (is.has(name)) {
        counts.down++;
        const why = Object.values(nodes).find(({ state }) => state === 'down')?.detail ?? '';
        const message = `${what} is down${why === '' ? '' : `: ${why}`}`;
        events.emit({ type: 'backend.down', severity: 'warning', object, message, data: { nodes } });
      } else {
        counts.up++;
        events.emit({ type: 'backend.up', severity: 'info', object, message: `${what} is up`, data: { nodes } });
      }
    }
    if (before.failOpen === health.failOpen) return;
    const object = `/pools/${pool.name}`;
    const data = { down: [...is], backends: pool.backends.length };
    if (health.failOpen)
      events.emit({ type: 'pool.fail_open', severity: 'error', object, message: sentence(pool.name, health), data });
    else
      events.emit({
        ...{ type: 'pool.fail_open_over', severity: 'info', object, data },
        message: `pool "${pool.name}" does not fail open any more: its backends that are down take no new connection`,
      });
  }

  const sentence = (pool: string, { down }: PoolHealth): string =>
    `pool "${pool}" fails open: ${down.length} of its backends are down by their checks, more than half, so all are kept in force`;

  for (const [name, { health = ALL_WELL, value }] of view.read().pools) if (value.healthCheck) known.set(name, health);
  const unwatch = view.watch(look);
  return {
    flapping({ subject: { pool, backend }, track: { downs } }) {
      events.emit({
        ...{ type: 'backend.flapping', severity: 'warning', object: `/pools/${pool}/backends/${backend}` },
        message: `backend "${backend}" of pool "${pool}" went down ${downs} times lately: each time it has to be well for longer before it is back`,
        data: { downs },
      });
    },
    warnings() {
      const open = [...known].flatMap(([pool, health]) => (health.failOpen ? [sentence(pool, health)] : []));
      return [...open, ...disagreement(reports, disputedMs)];
    },
    transitions: () => counts,
    close: unwatch,
  };
}
