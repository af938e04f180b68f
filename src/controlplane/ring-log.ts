// SPDX-License-Identifier: Apache-2.0
// The log of a pool's members: what the rows of its ring are computed from. Pure.
import type { FieldError } from '../model/errors.js';
import {
  HOLD_SECONDS,
  type Pool,
  type PoolHealth,
  type RingLog,
  type RingLogMember,
  SLOW_STEPS,
  type StoredPool,
} from '../model/objects.js';
import { type Generation, isPrime, maxRingSize, minRingSize, ringSize } from '../ring/index.js';

/** A ring is made larger once a member would have fewer rows than this. */
const ROWS_PER_MEMBER_MIN = 50;
/** Changes that no row can still tell of are dropped this many at a time, for then all rows are computed anew. */
const DROP_TOGETHER = 32;
/** Beyond this, the older half is told in steps twice as large. */
const CHANGES_MAX = 1024;

export const holdMsOf = (pool: Pool): number => (pool.holdSeconds ?? HOLD_SECONDS) * 1000;

const STATES = { active: 'live', drain: 'drain', disabled: 'down' } as const;

/**
 * The members as the ring is to have them: what was asked for, and a part of those on their way back. One that is down by its checks counts as one that drains: it takes no new
 * flow, and rows remember it, for a check may be wrong about connections that there are.
 */
export function membersOf(pool: Pool, health?: PoolHealth): RingLogMember[] {
  const down = new Set(health?.failOpen ? [] : health?.down.map(({ name }) => name));
  const steps = new Map(health?.slow.map(({ name, step }) => [name, step]));
  return pool.backends.map(({ name, weight, state }) => {
    const step = steps.get(name);
    return {
      name,
      weight,
      state: down.has(name) && state === 'active' ? 'drain' : STATES[state],
      ...(step !== undefined && { part: step / SLOW_STEPS }),
    };
  });
}

const sameMember = (a: RingLogMember, b: RingLogMember | undefined): boolean =>
  a.weight === b?.weight && a.state === b.state && a.part === b.part;

const unwritten = new WeakMap<StoredPool, RingLog>();

/** The log of a pool as it is stored, or the one it has without: always the same object for the same pool. */
export function logOf(stored: StoredPool): RingLog {
  const log = stored.log ?? unwritten.get(stored) ?? freshLog(stored.value, 0, stored.health);
  if (!stored.log) unwritten.set(stored, log);
  return log;
}

function freshLog(pool: Pool, at: number, health?: PoolHealth): RingLog {
  const size = ringSize(pool.backends.length, pool.ring.size);
  return { generation: 1, size, at, members: membersOf(pool, health), changes: [] };
}

/** The log of `pool` in this health, which takes the place of `old` at `now` (Unix ms). */
export function nextLog(old: StoredPool | undefined, pool: Pool, now: number, health?: PoolHealth): RingLog {
  if (!old) return freshLog(pool, now, health);
  const log = logOf(old);
  const last = lastMembers(log);
  const members = membersOf(pool, health);
  const size = sizeFor(pool, log.size);
  const names = new Set(members.map(({ name }) => name));
  const set = members.filter((member) => !sameMember(member, last.get(member.name)));
  const removed = [...last.keys()].filter((name) => !names.has(name));
  if (size === log.size && set.length === 0 && removed.length === 0) return log;
  const at = Math.max(now, log.changes.at(-1)?.at ?? log.at); // a clock may have been set back
  const generation = log.generation + 1;
  const holdMs = holdMsOf(pool);
  if (size !== log.size) return compact({ generation, size, at, members, changes: [], before: log }, holdMs, now);
  return compact({ ...log, generation, changes: [...log.changes, { at, set, removed }] }, holdMs, now);
}

function sizeFor(pool: Pool, old: number): number {
  if (pool.ring.size !== 0) return pool.ring.size;
  const room = pool.backends.length * ROWS_PER_MEMBER_MIN <= old || old === maxRingSize;
  return room ? old : ringSize(pool.backends.length, 0);
}

function lastMembers({ members, changes }: RingLog): Map<string, RingLogMember> {
  const last = new Map(members.map((member) => [member.name, member]));
  for (const change of changes) apply(last, change);
  return last;
}

function apply(
  members: Map<string, RingLogMember>,
  { set, removed }: Pick<RingLog['changes'][number], 'set' | 'removed'>,
) {
  for (const name of removed) members.delete(name);
  for (const member of set) members.set(member.name, member);
}

/**
 * Drops what no row can tell of any more. An owner that a row lost at a change is held for `holdMs`; a row that had to wait for that
 * moves at its end, and holds its owner for as long again.
 */
function compact(log: RingLog, holdMs: number, now: number): RingLog {
  const over = (at: number): boolean => at + 2 * holdMs <= now;
  const { before, ...rest } = log;
  const kept: RingLog = before && !over(log.at) ? { ...rest, before: compact(before, holdMs, now) } : rest;
  const old = kept.changes.filter(({ at }) => over(at)).length;
  if (!kept.before && (old >= DROP_TOGETHER || (old > 0 && old === kept.changes.length))) {
    const gone = kept.changes.slice(0, old);
    const members = [...lastMembers({ ...kept, changes: gone }).values()];
    return { ...kept, at: gone.at(-1)?.at ?? kept.at, members, changes: kept.changes.slice(old) };
  }
  return kept.changes.length > CHANGES_MAX ? { ...kept, changes: coarser(kept.changes) } : kept;
}

/** Two changes of the older half as one, at the time of the later. */
function coarser(changes: RingLog['changes']): RingLog['changes'] {
  const half = (changes.length >> 2) << 1;
  const joined = Array.from({ length: half / 2 }, (_, at) => {
    const [first, second] = changes.slice(at * 2, at * 2 + 2) as [
      RingLog['changes'][number],
      RingLog['changes'][number],
    ];
    const set = new Map(first.set.map((member) => [member.name, member]));
    apply(set, second);
    const removed = first.removed.filter((name) => !set.has(name));
    return { at: second.at, set: [...set.values()], removed: [...new Set([...removed, ...second.removed])] };
  });
  return [...joined, ...changes.slice(half)];
}

/** The generations the log tells of, `before` left out. */
export function* generationsOf({ at, members, changes }: RingLog): Generator<Generation> {
  const current = new Map(members.map((member) => [member.name, member]));
  yield { at, members };
  for (const change of changes) {
    apply(current, change);
    yield { at: change.at, members: [...current.values()] };
  }
}

/** The generation its oldest members are of. */
export const oldestGeneration = ({ generation, changes }: RingLog): number => generation - changes.length;

/** What is wrong with the log of this pool; pointers are into the log. */
export function logProblems(log: RingLog, pool: Pool, health?: PoolHealth): FieldError[] {
  const found = [...orderProblems(log, '')];
  const last = lastMembers(log);
  const members = membersOf(pool, health);
  const known = new Set(members.map(({ name }) => name));
  for (const member of members) {
    if (sameMember(member, last.get(member.name))) continue;
    found.push({ pointer: '', detail: `does not end with backend "${member.name}" as the pool has it` });
  }
  for (const name of last.keys())
    if (!known.has(name)) found.push({ pointer: '', detail: `ends with backend "${name}", which the pool has not` });
  if (pool.ring.size !== 0 && log.size !== pool.ring.size)
    found.push({ pointer: '/size', detail: `${log.size} rows, the pool has ${pool.ring.size}` });
  return found;
}

function* orderProblems(log: RingLog, where: string): Generator<FieldError> {
  const { size, changes, generation, before } = log;
  if (!isPrime(size) || size < minRingSize)
    yield {
      pointer: `${where}/size`,
      detail: `${size} is not a ring size: a prime from ${minRingSize} to ${maxRingSize}`,
    };
  if (oldestGeneration(log) < 1)
    yield {
      pointer: `${where}/generation`,
      detail: `${generation} is too small for a log of ${changes.length} changes`,
    };
  let last = log.at;
  for (const [i, { at }] of changes.entries()) {
    if (at < last) yield { pointer: `${where}/changes/${i}/at`, detail: `${at} is before the one before, ${last}` };
    last = at;
  }
  if (!before) return;
  const end = before.changes.at(-1)?.at ?? before.at;
  if (end > log.at) yield { pointer: `${where}/before`, detail: `ends at ${end}, after ${log.at}` };
  yield* orderProblems(before, `${where}/before`);
}
