// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import type { Claimant, Presence } from '../../src/controlplane/presence.js';
import { until } from '../support/lab.js';

/** Runs the contract of Presence (src/controlplane/presence.ts); `open` gives as many nodes as asked for, which know of each other. */
export function presenceContract(
  kind: string,
  open: (t: TestContext, nodes: number) => Promise<readonly Presence[]>,
): void {
  const check = (behaviour: string, body: (one: Presence, other: Presence) => Promise<void>) =>
    test(`${kind} presence: ${behaviour}`, async (t) => {
      const [one, other] = await open(t, 2);
      assert.ok(one && other);
      try {
        await body(one, other);
      } finally {
        await Promise.all([one.close(), other.close()]);
      }
    });

  /** What a node sees below a prefix, the newest. */
  function seenBy(presence: Presence, prefix: string) {
    const seen = { now: null as Record<string, unknown> | null, calls: 0 };
    presence.watch(prefix, (documents) => {
      seen.calls++;
      seen.now = Object.fromEntries([...documents].sort());
    });
    const is = (wanted: object) =>
      until(JSON.stringify(wanted), () => JSON.stringify(seen.now) === JSON.stringify(wanted));
    return { is, calls: () => seen.calls };
  }

  /** Claimants, and the holders they were told of; to one, holders of this instance have ended. */
  function claims() {
    const told: unknown[] = [];
    const claimant = (ended: number): Claimant => ({
      taken: (holder) => void told.push(holder),
      hasEnded: (holder) => (holder as { readonly instance: number }).instance === ended,
    });
    return { told, claimant };
  }

  check('what is there is told at first, then each change', async (one, other) => {
    one.set('nodes/a', { up: 1 });
    const seen = seenBy(other, 'nodes/');
    await seen.is({ 'nodes/a': { up: 1 } });
    one.set('nodes/a', { up: 2 });
    await seen.is({ 'nodes/a': { up: 2 } });
    other.set('nodes/b', {});
    await seen.is({ 'nodes/a': { up: 2 }, 'nodes/b': {} });
    one.set('nodes/a', null);
    await seen.is({ 'nodes/b': {} });
  });

  check('nothing is told as nothing', async (one) => {
    await seenBy(one, 'nodes/').is({});
  });

  check('a prefix is all that is told', async (one, other) => {
    one.set('health/a/web/b1', { up: true });
    one.set('nodes/a', {});
    const seen = seenBy(other, 'health/a/');
    await seen.is({ 'health/a/web/b1': { up: true } });
    const calls = seen.calls();
    other.set('nodes/b', {});
    one.set('health/a/web/b2', { up: false });
    await seen.is({ 'health/a/web/b1': { up: true }, 'health/a/web/b2': { up: false } });
    assert.equal(seen.calls(), calls + 1);
  });

  check('two hundred documents are there, and the newest of each', async (one, other) => {
    for (let round = 0; round < 3; round++) for (let i = 100; i < 300; i++) one.set(`health/a/${i}`, { round });
    await seenBy(other, 'health/').is(
      Object.fromEntries(Array.from({ length: 200 }, (_, i) => [`health/a/${i + 100}`, { round: 2 }])),
    );
  });

  check('who closes is gone', async (one, other) => {
    one.set('nodes/a', {});
    other.set('nodes/b', {});
    const seen = seenBy(other, 'nodes/');
    await seen.is({ 'nodes/a': {}, 'nodes/b': {} });
    assert.ok(one.leftMs() > 0);
    await one.close();
    await seen.is({ 'nodes/b': {} });
  });

  check("a claimed key is its first claimant's, and another's once that has gone", async (one, other) => {
    const { told, claimant } = claims();
    const seen = seenBy(other, 'nodes/');
    one.claim('nodes/a', { instance: 1, up: 1 }, claimant(0));
    await seen.is({ 'nodes/a': { instance: 1, up: 1 } });
    other.claim('nodes/a', { instance: 2 }, claimant(0));
    await until('the second is told', () => told.length > 0);
    assert.deepEqual(told, [{ instance: 1, up: 1 }]);
    one.set('nodes/a', { instance: 1, up: 2 });
    other.set('nodes/a', { instance: 2, up: 3 });
    other.set('nodes/b', {}); // of its own, which it writes all the same
    await seen.is({ 'nodes/a': { instance: 1, up: 2 }, 'nodes/b': {} });
    await until('the second is told of the change', () => told.length > 1);
    assert.deepEqual(told, [
      { instance: 1, up: 1 },
      { instance: 1, up: 2 },
    ]);
    await one.close();
    await seen.is({ 'nodes/a': { instance: 2, up: 3 }, 'nodes/b': {} });
  });

  check('a key is had at once from a holder that has ended, and nobody is told', async (one, other) => {
    const { told, claimant } = claims();
    const seen = seenBy(other, 'nodes/');
    one.claim('nodes/a', { instance: 1, up: 1 }, claimant(0));
    await seen.is({ 'nodes/a': { instance: 1, up: 1 } });
    other.claim('nodes/a', { instance: 1, up: 2 }, claimant(1));
    await seen.is({ 'nodes/a': { instance: 1, up: 2 } });
    await one.close();
    other.set('nodes/a', { instance: 1, up: 3 });
    await seen.is({ 'nodes/a': { instance: 1, up: 3 } });
    assert.deepEqual(told, []);
  });
}
