// SPDX-License-Identifier: Apache-2.0
// What a dry run tells of a pool whose backends are down by their checks, or on their way back: as it then really comes.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { applyChanges } from '../../src/controlplane/store-core.js';
import { readRingRef, readRingRows, rowsOwned } from '../../src/dataplane/tables.js';
import type { Pool, PoolHealth } from '../../src/model/objects.js';
import { changeOf, openReconciled, type Reconciled } from '../support/reconciled.js';
import { backendsOf, poolOf, serviceOf } from '../support/snapshots.js';

const healthCheck = { type: 'tcp', interval: 5, timeout: 2, rise: 2, fall: 3, slowStart: 60 } as const;
const pool = { ...poolOf('web', backendsOf(4)), healthCheck } as unknown as Pool;
const names = pool.backends.map(({ name }) => name);
const [first = '', second = ''] = names;
const HEALTH: Readonly<Record<string, PoolHealth>> = {
  'all are well': { failOpen: false, down: [], slow: [] },
  'one is down': { failOpen: false, down: [{ name: first, since: 1 }], slow: [] },
  'one is on its way back': { failOpen: false, down: [], slow: [{ name: first, step: 1 }] },
  'too many are down: all stay in force': {
    failOpen: true,
    down: names.slice(0, 3).map((name) => ({ name, since: 1 })),
    slow: [],
  },
};

/** Rows in the kernel by the backend's name. */
function rowsNow({ maps, reconciler }: Reconciled): Record<string, number> {
  const numbers = reconciler.state().numbering.pools.get('web') ?? assert.fail('no pool');
  const owned = rowsOwned(readRingRows(maps, readRingRef(maps, numbers.number)));
  return Object.fromEntries(
    pool.backends.map(({ name, address }) => [name, owned.get(numbers.members.get(address)?.number ?? 0) ?? 0]),
  );
}

for (const [what, health] of Object.entries(HEALTH))
  test(`effect: rows before and after, when ${what}`, async (t) => {
    const node = await openReconciled(t);
    await node.put(pool, serviceOf('www', 'web'));
    const { revision } = await node.store.update(() => [{ kind: 'health', name: 'web', value: health }]);
    await node.reconciler.applied(revision, 10_000);
    const backends = pool.backends.map((each) => (each.name === second ? { ...each, weight: 10 } : each));
    const before = node.store.read();
    const change = changeOf({ ...pool, backends });
    const { pools } = await node.facts.effect(before, applyChanges(before, [change]));
    const rows = (side: 'rowsBefore' | 'rowsAfter'): Record<string, number> =>
      Object.fromEntries(pools[0]?.backends.map((each) => [each.name, each[side]]) ?? []);
    assert.deepEqual(rows('rowsBefore'), rowsNow(node));
    await node.put({ ...pool, backends });
    assert.deepEqual(rows('rowsAfter'), rowsNow(node));
    assert.notDeepEqual(rows('rowsAfter'), rows('rowsBefore'));
    assert.equal(rows('rowsAfter')[first] === 0, what === 'one is down');
  });
