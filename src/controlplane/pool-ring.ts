// SPDX-License-Identifier: Apache-2.0
// A pool's rows as this node is to have them: what the log says, without those that cannot be reached from here.
import { isDeepStrictEqual } from 'node:util';
import { ROW_WORDS } from '../dataplane/tables.js';
import type { RingLog, StoredPool } from '../model/objects.js';
import { buildRingSliced, type HistoryView, openHistory, type RingHistory } from '../ring/index.js';
import type { KernelRing } from './kernel-state.js';
import type { PoolNumbers } from './numbering.js';
import { generationsOf, holdMsOf, logOf, membersOf, oldestGeneration } from './ring-log.js';

/** A ring, with all that went into it. */
export interface PoolRing {
  readonly kernel: KernelRing;
  readonly view: HistoryView;
  readonly log: RingLog;
  readonly replayed: Replayed;
  readonly key: string; // numbers of the members, and who of them is reachable
  readonly without: readonly string[]; // members that are not reachable, by name
}

/** Rows as the whole cluster has them, and the log they have taken in so far. */
interface Replayed {
  readonly history: RingHistory;
  readonly holdMs: number;
  log: RingLog;
}

/**
 * The ring at `now`, Unix ms; `reachable` is by place in the pool's list. The same document gives the same rows on every node, but for
 * rows of backends that a node cannot reach: those go to others there, and home once it can.
 */
export async function poolRing(
  stored: StoredPool,
  { members }: PoolNumbers,
  reachable: readonly boolean[],
  now: number,
  old?: PoolRing,
): Promise<PoolRing> {
  const pool = stored.value;
  const numbers = pool.backends.map(({ address }) => members.get(address)?.number ?? 0);
  const key = `${numbers}/${reachable}`;
  const log = logOf(stored);
  const replayed = await replay(log, holdMsOf(pool), now, old?.replayed);
  const unchanged = old?.log === log && old.key === key && old.replayed === replayed;
  if (unchanged && now < (old.view.nextChange ?? Number.POSITIVE_INFINITY)) return old;

  const view = replayed.history.view();
  const numberOf = new Map(pool.backends.map(({ name }, at) => [name, numbers[at] ?? 0]));
  const byId = Uint16Array.from([0, ...view.names.map((name) => numberOf.get(name) ?? 0)]);
  const rows = packed(view.rows, byId);
  if (reachable.includes(false)) {
    const live = membersOf(pool, stored.health).map(({ name, weight, state, part = 1 }, at) => ({
      ...{ name, weight, part },
      live: state === 'live' && reachable[at] === true,
    }));
    const ring = await buildRingSliced(live, replayed.history.size);
    const out = new Set(numbers.filter((_, at) => !reachable[at]));
    for (let row = 0; row < ring.owners.length; row++) {
      const current = rows[row * ROW_WORDS] ?? 0;
      if (!out.has(current)) continue;
      const standIn = numberOf.get(ring.names[(ring.owners[row] ?? 0) - 1] ?? '') ?? 0;
      if (rows[row * ROW_WORDS + 1] === current) rows[row * ROW_WORDS + 1] = standIn;
      rows[row * ROW_WORDS] = standIn;
    }
  }
  const without = pool.backends.flatMap(({ name }, at) => (reachable[at] ? [] : [name]));
  return { kernel: { rows, generation: log.generation }, view, log, replayed, key, without };
}

/** Backend numbers for member ids, previous owners without gaps. */
function packed(ids: Uint16Array, byId: Uint16Array): Uint16Array {
  const rows = new Uint16Array(ids.length);
  for (let row = 0; row < ids.length; row += ROW_WORDS) {
    rows[row] = byId[ids[row] ?? 0] ?? 0;
    let to = row + 1;
    for (let at = row + 1; at < row + ROW_WORDS; at++) {
      const number = byId[ids[at] ?? 0] ?? 0;
      if (number !== 0) rows[to++] = number;
    }
  }
  return rows;
}

/** Goes on from `old` where that is a beginning of this log; else from the log's own beginning. */
async function replay(log: RingLog, holdMs: number, now: number, old?: Replayed): Promise<Replayed> {
  const goesOn =
    old !== undefined &&
    old.holdMs === holdMs &&
    old.log.size === log.size &&
    oldestGeneration(old.log) === oldestGeneration(log) &&
    old.log.at === log.at &&
    begins(old.log, log);
  const replayed = goesOn ? old : { history: await begin(log, holdMs), holdMs, log };
  let known = goesOn ? old.log.changes.length + 1 : 0;
  for (const generation of generationsOf(log)) if (known-- <= 0) await replayed.history.add(generation);
  replayed.log = log;
  replayed.history.advance(now);
  return replayed;
}

/** Whether `log` is `old` with what came later: what a node has told itself while the store was away is not. */
const begins = (old: RingLog, log: RingLog): boolean =>
  old === log || isDeepStrictEqual(old.changes, log.changes.slice(0, old.changes.length));

async function begin(log: RingLog, holdMs: number): Promise<RingHistory> {
  if (!log.before) return openHistory(log.size, holdMs);
  const before = await begin(log.before, holdMs);
  for (const generation of generationsOf(log.before)) await before.add(generation);
  return openHistory(log.size, holdMs, before);
}
