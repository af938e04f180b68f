// SPDX-License-Identifier: Apache-2.0
// What a write would come to, from the rings as they are and the flow table.
import { timeOfDay } from '../controlplane/clock.js';
import { isOver, isReachable, onLinkPools } from '../controlplane/desired.js';
import { serviceKeyId } from '../controlplane/kernel-state.js';
import type { Applied } from '../controlplane/reconciler.js';
import { logOf, membersOf } from '../controlplane/ring-log.js';
import type { FlowCensus } from '../dataplane/flows.js';
import type { Maps } from '../dataplane/maps.js';
import { ROW_WORDS, readRingRef, readRingRows } from '../dataplane/tables.js';
import { changesOf, type Effect, type FlowsMoved, type PoolEffect } from '../model/effect.js';
import type { Backend, Pool, Snapshot, StoredPool } from '../model/objects.js';
import { buildRingSliced } from '../ring/index.js';

/** Owners by row, as names; '' for nobody. */
type Owners = readonly string[];

/** What the store is taken to be before: what the reconciler has, which may not be in the kernel yet. */
interface Before {
  readonly snapshot: Snapshot;
  readonly applied: Applied;
  readonly maps: Maps;
  readonly census: FlowCensus;
}

function ownersNow({ applied, maps }: Before, pool: StoredPool | undefined): Owners {
  const numbers = pool && applied.numbering.pools.get(pool.value.name);
  if (!numbers) return [];
  const rows = readRingRows(maps, readRingRef(maps, numbers.number));
  const names = new Map(
    pool.value.backends.map(({ name, address }) => [numbers.members.get(address)?.number ?? 0, name] as const),
  );
  return Array.from({ length: rows.length / ROW_WORDS }, (_, row) => names.get(rows[row * ROW_WORDS] ?? 0) ?? '');
}

/** As the ring will be once no row waits any more. Who has not been looked for yet is taken to be reachable. */
async function ownersNext({ applied }: Before, next: Snapshot, stored: StoredPool): Promise<Owners> {
  const { name, backends } = stored.value;
  if (backends.length === 0) return [];
  const onLink = onLinkPools(next).has(name);
  const { hops, snapshot } = applied;
  const isThere = (address: string | undefined): boolean =>
    address === undefined || !hops.has(address) || isReachable(hops.get(address), onLink);
  const members = membersOf(stored.value, snapshot.pools.get(name)?.health).map(({ state, ...member }, at) => ({
    ...member,
    live: state === 'live' && isThere(backends[at]?.address),
  }));
  const ring = await buildRingSliced(members, logOf(stored).size);
  return Array.from(ring.owners, (owner) => ring.names[owner - 1] ?? '');
}

const takesNothing = (backend: Backend, now: number): boolean => backend.state === 'disabled' || isOver(backend, now);

/** Whether the flows of a backend cannot go on with it. */
function isLost(backend: Backend, next: Pool | undefined): boolean {
  const same = next?.backends.find(({ address }) => address === backend.address);
  const now = timeOfDay();
  return !takesNothing(backend, now) && (same === undefined || takesNothing(same, now));
}

/** How many rows each name has, and how many of those of before move. */
function compare(before: Owners, after: Owners): { total: number; moved: number; movedFrom: Map<string, number> } {
  const total = Math.max(before.length, after.length);
  const at = (owners: Owners, row: number): string =>
    owners[owners.length === total ? row : Math.floor(((row + 0.5) * owners.length) / total)] ?? '';
  const movedFrom = new Map<string, number>();
  let moved = 0;
  for (let row = 0; row < total; row++) {
    const from = at(before, row);
    if (from === at(after, row)) continue;
    moved++;
    movedFrom.set(from, (movedFrom.get(from) ?? 0) + 1 / (total / before.length));
  }
  return { total, moved, movedFrom };
}

function count(owners: Owners): Map<string, number> {
  const rows = new Map<string, number>();
  for (const owner of owners) rows.set(owner, (rows.get(owner) ?? 0) + 1);
  return rows;
}

async function poolEffect(known: Before, next: Snapshot, name: string): Promise<PoolEffect> {
  const was = known.snapshot.pools.get(name);
  const is = next.pools.get(name);
  const before = ownersNow(known, known.applied.snapshot.pools.get(name));
  const after = is ? await ownersNext(known, next, is) : [];
  const { total, moved, movedFrom } = compare(before, after);
  const rowsBefore = count(before);
  const rowsAfter = count(after);
  const numbers = known.applied.numbering.pools.get(name)?.members;
  const flows = { live: 0, moved: 0, onMovedRows: 0 };
  for (const backend of was?.value.backends ?? []) {
    const live = known.census.byBackend[numbers?.get(backend.address)?.number ?? 0] ?? 0;
    const rows = rowsBefore.get(backend.name) ?? 0;
    flows.live += live;
    if (isLost(backend, is?.value)) flows.moved += live;
    else if (rows > 0) flows.onMovedRows += (live * (movedFrom.get(backend.name) ?? 0)) / rows;
  }
  const names = new Set([...(was?.value.backends ?? []), ...(is?.value.backends ?? [])].map((backend) => backend.name));
  return {
    name,
    rows: { total, moved },
    flows: { ...flows, onMovedRows: Math.round(flows.onMovedRows) },
    backends: [...names].sort().map((backend) => ({
      name: backend,
      rowsBefore: rowsBefore.get(backend) ?? 0,
      rowsAfter: rowsAfter.get(backend) ?? 0,
    })),
  };
}

/**
 * Live flows of services that go, get another VIP or another pool. With another pool they stay with their backends while their records are
 * kept: all of them are on moved rows.
 */
function serviceFlows({ snapshot, applied, census }: Before, next: Snapshot, changes: Effect['changes']): FlowsMoved {
  const pools = new Set(changes.flatMap(({ kind, name }) => (kind === 'pool' ? [name] : [])));
  const flows = { live: 0, moved: 0, onMovedRows: 0 };
  for (const { kind, name } of changes) {
    const was = kind === 'service' ? snapshot.services.get(name)?.value : undefined;
    if (!was) continue;
    const is = next.services.get(name)?.value;
    const live = census.byService[applied.numbering.services.get(serviceKeyId(was))?.number ?? 0] ?? 0;
    if (!pools.has(was.pool)) flows.live += live; // else they are counted with the pool
    if (!is || serviceKeyId(is) !== serviceKeyId(was)) flows.moved += live;
    else if (is.pool !== was.pool) flows.onMovedRows += live;
  }
  return flows;
}

/** What would come of `next`. */
export async function effectOf(
  maps: Maps,
  applied: Applied,
  census: FlowCensus,
  snapshot: Snapshot,
  next: Snapshot,
): Promise<Effect> {
  const known: Before = { snapshot, applied, maps, census };
  const changes = changesOf(snapshot, next);
  const pools: PoolEffect[] = [];
  for (const { kind, name } of changes) if (kind === 'pool') pools.push(await poolEffect(known, next, name));
  const services = serviceFlows(known, next, changes);
  const sum = (pick: (pool: PoolEffect) => number): number => pools.reduce((total, pool) => total + pick(pool), 0);
  const live = services.live + sum(({ flows }) => flows.live);
  return {
    changes,
    rows: { total: sum(({ rows }) => rows.total), moved: sum(({ rows }) => rows.moved) },
    flows: {
      live,
      moved: Math.min(live, services.moved + sum(({ flows }) => flows.moved)),
      onMovedRows: Math.min(live, services.onMovedRows + sum(({ flows }) => flows.onMovedRows)),
    },
    pools,
  };
}
