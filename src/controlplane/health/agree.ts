// SPDX-License-Identifier: Apache-2.0
// What a pool's backends are, from what each node has found. Pure: nodes that know the same decide the same.
import { type Pool, type PoolHealth, SLOW_STEPS, type StoredPool } from '../../model/objects.js';

/** How many nodes find a backend up, and down. */
export interface Votes {
  readonly up: number;
  readonly down: number;
}

export const ALL_WELL: PoolHealth = { failOpen: false, down: [], slow: [] };

/** Whether the backends of this pool that take new flows count when there is talk of half of them. */
const counts = ({ state, weight }: Pool['backends'][number]): boolean => state === 'active' && weight > 0;

/**
 * The health that follows `stored.health` at `now` (Unix ms). A backend is down when more nodes find it down than up; nobody having looked, it
 * stays what it is. `isStepOver` tells whether a backend on its way back has had its step for long enough.
 * The same object when nothing changes.
 */
export function nextHealth(
  { value: pool, health = ALL_WELL }: StoredPool,
  votes: (backend: string) => Votes | undefined,
  isStepOver: (backend: string) => boolean,
  now: number,
): PoolHealth {
  const { healthCheck: check, backends } = pool;
  if (!check) return health;
  const before = new Map(health.down.map(({ name, since }) => [name, since]));
  const down: { name: string; since: number }[] = [];
  const wasOut = new Set<string>();
  for (const { name, state } of backends) {
    const since = before.get(name);
    const { up, down: against } = votes(name) ?? { up: 0, down: 0 };
    const isDown = up === 0 && against === 0 ? since !== undefined : against > up;
    if (state === 'disabled') continue;
    if (isDown) down.push({ name, since: since ?? now });
    else if (since !== undefined && !health.failOpen) wasOut.add(name);
  }
  const inUse = backends.filter(counts);
  const isOut = new Set(down.map(({ name }) => name));
  const lost = inUse.filter(({ name }) => isOut.has(name)).length;
  const failOpen = pool.whenAllDown !== 'closed' && lost * 2 > inUse.length;
  const steps = new Map(health.slow.map(({ name, step }) => [name, step]));
  const slow = failOpen
    ? []
    : inUse.flatMap(({ name }) => {
        if (isOut.has(name)) return [];
        const step = wasOut.has(name) ? (check.slowStart > 0 ? 1 : SLOW_STEPS) : steps.get(name);
        const next = step !== undefined && !wasOut.has(name) && isStepOver(name) ? step + 1 : step;
        return next === undefined || next >= SLOW_STEPS ? [] : [{ name, step: next }];
      });
  const next: PoolHealth = { failOpen, down, slow };
  return sameHealth(next, health) ? health : next;
}

/** By what they do; since when is told, but changes nothing. */
export function sameHealth(a: PoolHealth, b: PoolHealth): boolean {
  const key = ({ failOpen, down, slow }: PoolHealth): string =>
    JSON.stringify([failOpen, down.map(({ name }) => name), slow.map(({ name, step }) => [name, step])]);
  return a === b || key(a) === key(b);
}
