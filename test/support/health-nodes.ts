// SPDX-License-Identifier: Apache-2.0
// Nodes that look after the backends of one pool, in this process: their stores and presences are real, what their checks find is told by the test.
import assert from 'node:assert/strict';
import { setTimeout as pause } from 'node:timers/promises';
import type { Outcome } from '../../src/controlplane/health/attempt.js';
import { type Health, type HealthTimes, openHealth } from '../../src/controlplane/health/health.js';
import type { PoolNumbers } from '../../src/controlplane/numbering.js';
import { type PoolRing, poolRing } from '../../src/controlplane/pool-ring.js';
import type { Presence } from '../../src/controlplane/presence.js';
import type { Store } from '../../src/controlplane/store.js';
import type { EventLog } from '../../src/model/events.js';
import type { HealthCheck, Pool, StoredPool } from '../../src/model/objects.js';
import { openEventLog } from '../../src/observability/event-log.js';

export const quickCheck: HealthCheck = {
  type: 'tcp',
  port: 9,
  interval: 0.1,
  timeout: 0.05,
  rise: 1,
  fall: 1,
  via: 'direct',
  slowStart: 0.2,
};

export const webPool = (count: number, more: Partial<Pool> = {}): Pool => ({
  name: 'web',
  ring: { size: 251 },
  healthCheck: quickCheck,
  backends: Array.from({ length: count }, (_, at) => ({
    name: `b${at}`,
    address: `10.0.0.${at + 1}`,
    weight: 100,
    state: 'active' as const,
  })),
  ...more,
});

export interface HealthNode {
  readonly name: string;
  readonly health: Health;
  readonly store: Store;
  readonly events: EventLog;
  /** Addresses this node finds not well. */
  readonly bad: Set<string>;
  /** The pool as it is in force here. */
  pool(): StoredPool;
  /** Its rows at this moment, gone on from those before as the reconciler does. */
  rows(now: number): Promise<Uint16Array>;
  /** As a new daemon would. */
  restart(): Promise<void>;
  close(): Promise<void>;
}

export interface Place {
  readonly store: Store;
  readonly presence: Presence;
  close(): Promise<void>;
}

const quick: HealthTimes = { rankMs: 60, aloneMs: 700, disputedMs: 300 };

/** `open` gives the node its store and presence; once for each start. */
export async function openNode(
  name: string,
  open: () => Promise<Place>,
  times: HealthTimes = quick,
): Promise<HealthNode> {
  const bad = new Set<string>();
  const run = async ({ address }: { address: string }): Promise<Outcome> =>
    bad.has(address) ? { result: 'error', detail: `${name} cannot reach it` } : { result: 'ok', detail: '' };
  const log = { info: () => undefined, warn: () => undefined };
  const start = async () => {
    const place = await open();
    const events = openEventLog();
    return { place, events, health: openHealth({ node: name, ...place, events, log, run, times }) };
  };
  let now = await start();
  let ring: PoolRing | undefined;
  const pool = (): StoredPool => {
    const stored = now.health.view.read().pools.get('web');
    assert.ok(stored);
    return stored;
  };
  const close = async (): Promise<void> => {
    now.health.close();
    await now.place.close();
  };
  return {
    name,
    get health() {
      return now.health;
    },
    get store() {
      return now.place.store;
    },
    get events() {
      return now.events;
    },
    bad,
    pool,
    async rows(at) {
      const stored = pool();
      const members = new Map(
        stored.value.backends.map(({ address }) => [address, { number: Number(address.split('.')[3]), slot: 1 }]),
      );
      const numbers = { number: 0, members } as unknown as PoolNumbers;
      ring = await poolRing(
        stored,
        numbers,
        stored.value.backends.map(() => true),
        at,
        ring,
      );
      return ring.kernel.rows;
    },
    async restart() {
      await close();
      ring = undefined;
      now = await start();
    },
    close,
  };
}

/** Asserts that all have the same rows, bit by bit. */
export async function assertSameRings(nodes: readonly HealthNode[]): Promise<void> {
  const now = Date.now();
  const [first, ...others] = await Promise.all(nodes.map((node) => node.rows(now)));
  assert.ok(first);
  for (const [at, rows] of others.entries())
    assert.ok(Buffer.from(first.buffer).equals(Buffer.from(rows.buffer)), `rows of ${nodes[at + 1]?.name}`);
}

export const downIn = ({ health }: StoredPool): string => health?.down.map(({ name }) => name).join(' ') ?? '';

/** Waits until no node changes anything any more. */
export async function untilQuiet(nodes: readonly HealthNode[], quietMs = 700, deadlineMs = 30_000): Promise<void> {
  const end = performance.now() + deadlineMs;
  const look = (): string =>
    JSON.stringify(nodes.map((node) => [node.store.read().revision, node.pool().health, node.pool().log?.generation]));
  let last = look();
  for (let since = performance.now(); performance.now() - since < quietMs; await pause(20)) {
    const now = look();
    if (now !== last) since = performance.now();
    last = now;
    if (performance.now() > end) assert.fail(`not quiet within ${deadlineMs} ms: ${now}`);
  }
}
