// SPDX-License-Identifier: Apache-2.0
// A random history of what nodes find, of edits, and of daemons that start anew; after it all nodes have the same rings.
import assert from 'node:assert/strict';
import { setTimeout as pause } from 'node:timers/promises';
import { ALL_WELL, nextHealth, sameHealth } from '../../src/controlplane/health/agree.js';
import { membersOf } from '../../src/controlplane/ring-log.js';
import { assertSameRings, type HealthNode, untilQuiet, webPool } from './health-nodes.js';
import { until } from './lab.js';

/** An edit of the pool by a user who has read it, and says so with If-Match. */
async function edit(node: HealthNode, weight: number): Promise<void> {
  const read = node.store.read().pools.get('web');
  assert.ok(read);
  const at = read.value.backends.findIndex(({ name }) => name === 'b1');
  const backends = read.value.backends.map((each, i) => (i === at ? { ...each, weight } : each));
  await node.store.update(({ pools }) => {
    assert.equal(pools.get('web')?.revision, read.revision, 'nobody else has edited it: no 412');
    return [{ kind: 'pool', name: 'web', value: { ...read.value, backends } }];
  });
  assert.notEqual(node.store.read().pools.get('web')?.revision, read.revision);
}

export async function storm(nodes: readonly HealthNode[], random: () => number, stepCount: number): Promise<void> {
  const pick = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)] as T;
  const [first] = nodes;
  assert.ok(first);
  await first.store.update(() => [{ kind: 'pool', name: 'web', value: webPool(6) }]);
  const addresses = webPool(6).backends.map(({ address }) => address);
  let edits = 0;
  for (let step = 0; step < stepCount; step++) {
    const what = random();
    const address = pick(addresses);
    if (what < 0.08 || step === 10) await edit(first, 1 + (edits++ % 256));
    else if (what < 0.14) await pick(nodes).restart();
    else if (what < 0.5) {
      const isBad = random() < 0.5; // all find the same
      for (const { bad } of nodes) isBad ? bad.add(address) : bad.delete(address);
    } else {
      const { bad } = pick(nodes);
      if (!bad.delete(address)) bad.add(address);
    }
    await pause(random() * 150);
  }
  const agrees = ({ bad, health }: HealthNode): boolean =>
    webPool(6).backends.every(
      ({ name, address }) => health.backend('web', name).checked?.track.up === !bad.has(address),
    );
  await until('each has judged what it finds, however damped', () => nodes.every(agrees), 90_000);
  await untilQuiet(nodes);
  await assertSameRings(nodes);
  for (const node of nodes) {
    const stored = node.store.read().pools.get('web');
    assert.ok(stored?.health);
    assert.equal(node.health.view.read(), node.store.read(), 'nobody acts alone');
    const votes = (name: string) => {
      const at = stored.value.backends.find((each) => each.name === name)?.address ?? '';
      const down = nodes.filter(({ bad }) => bad.has(at)).length;
      return { up: nodes.length - down, down };
    };
    const wanted = nextHealth(stored, votes, () => true, 0);
    const say = JSON.stringify([stored.health, wanted, nodes.map(({ bad }) => [...bad])]);
    assert.ok(sameHealth(wanted, stored.health ?? ALL_WELL), `what most have found is in force: ${say}`);
    assert.deepEqual(
      membersOf(stored.value, stored.health).map(({ part }) => part),
      stored.value.backends.map(() => undefined),
      'slow starts are over',
    );
  }
}
