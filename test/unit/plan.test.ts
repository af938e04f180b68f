// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { desired, type NextHops } from '../../src/controlplane/desired.js';
import { type KernelState, keyId, serviceKeyId } from '../../src/controlplane/kernel-state.js';
import {
  assignNumbers,
  copyNumbering,
  emptyNumbering,
  type Numbering,
  releaseNumbers,
} from '../../src/controlplane/numbering.js';
import { plan, type Step } from '../../src/controlplane/plan.js';
import { Backend, BackendFlag, Service } from '../../src/dataplane/abi.gen.js';
import type { Pool, Service as ServiceObject, Snapshot } from '../../src/model/objects.js';
import { backendOf, backendsOf, HOP, poolOf, randomWorld, serviceOf, snapshotOf } from '../support/snapshots.js';
import { chosenSeed, randomFrom } from './random.js';

const LIMITS = { services: 4096, pools: 4096, backends: 65536, counters: 65536 };
const EMPTY: KernelState = { services: new Map(), rings: new Map(), backends: new Map() };

const reachable = ({ pools }: Snapshot): NextHops =>
  new Map([...pools.values()].flatMap(({ value }) => value.backends.map((b) => [b.address, HOP])));

/** The kernel's state for a snapshot, numbers given out on the way. */
async function state(
  numbering: Numbering,
  pools: readonly Pool[],
  services: readonly ServiceObject[],
  hops?: NextHops,
) {
  const snapshot = snapshotOf(pools, services);
  assignNumbers(numbering, snapshot, LIMITS);
  return desired(snapshot, numbering, hops ?? reachable(snapshot), new Map());
}

const names = (steps: readonly Step[]): string[] => steps.map((step) => step.do);
const fresh =
  (size = 8) =>
  () =>
    size;

test('plan: a first service comes from the bottom up, its marker before it', async () => {
  const want = await state(emptyNumbering(), [poolOf('web', backendsOf(2))], [serviceOf('www', 'web')]);
  const steps = plan(EMPTY, want, fresh());
  assert.deepEqual(names(steps), [
    'set-backend',
    'set-backend',
    'set-service',
    'set-ring',
    'clear-service',
    'set-service',
  ]);
  const [marker, service] = steps.flatMap((step) => (step.do === 'set-service' ? [step.service.value.number] : []));
  assert.deepEqual([marker, service], [0, 1]);
});

test('plan: what is gone is taken away from the top down, and cleared after a wait', async () => {
  const numbering = emptyNumbering();
  const have = await state(numbering, [poolOf('web', backendsOf(1))], [serviceOf('www', 'web')]);
  const steps = plan(have, EMPTY, fresh());
  assert.deepEqual(names(steps), [
    'delete-service',
    'delete-service',
    'delete-ring',
    'remove-backend',
    'wait',
    'clear-backend',
  ]);
  assert.equal(steps[0]?.do === 'delete-service' && steps[0].service.value.number, 1, 'the marker goes last');
});

test('plan: what nobody uses any more goes before anything new, what a service still uses after it has left', async () => {
  const numbering = emptyNumbering();
  const [unused, left, next] = [poolOf('unused', backendsOf(1)), poolOf('left', backendsOf(1)), poolOf('next', [])];
  const have = await state(numbering, [unused, left, next], [serviceOf('www', 'left'), serviceOf('old', 'unused', 81)]);
  releaseNumbers(numbering, snapshotOf([next], [serviceOf('www', 'next')]));
  const want = await state(numbering, [{ ...next, backends: backendsOf(1) }], [serviceOf('www', 'next')]);
  const steps = plan(have, want, fresh());
  assert.deepEqual(names(steps), [
    'delete-service',
    'delete-ring',
    'set-backend',
    'set-ring',
    'clear-service',
    'set-service',
    'wait',
    'copy-counter',
    'copy-counter',
    'delete-ring',
    'remove-backend',
    'remove-backend',
    'wait',
    'clear-backend',
    'clear-backend',
  ]);
});

test('plan: nothing to do when nothing differs', async () => {
  const have = await state(emptyNumbering(), [poolOf('web', backendsOf(3))], [serviceOf('www', 'web')]);
  const want = await state(emptyNumbering(), [poolOf('web', backendsOf(3))], [serviceOf('www', 'web')]);
  assert.deepEqual(plan(have, want, fresh()), []);
});

test('plan: each field of a backend and of a service counts', async () => {
  const have = await state(emptyNumbering(), [poolOf('web', backendsOf(1))], [serviceOf('www', 'web')]);
  for (const name of Object.keys(Backend.field)) {
    const backends = new Map(
      [...have.backends].map(([number, entry]) => {
        const value = entry[name as keyof Backend];
        return [number, { ...entry, [name]: typeof value === 'number' ? value ^ 2 : value.map((byte) => byte + 1) }];
      }),
    );
    assert.deepEqual(names(plan(have, { ...have, backends }, fresh())), ['set-backend'], name);
  }
  for (const name of Object.keys(Service.field) as (keyof Service)[]) {
    const services = new Map(
      [...have.services].map(([id, { key, value }]) => [
        id,
        { key, value: value.number === 0 ? value : { ...value, [name]: value[name] + 1 } },
      ]),
    );
    assert.ok(names(plan(have, { ...have, services }, fresh(0))).includes('set-service'), name);
  }
});

for (const [what, change, lost] of [
  ['disabled', { state: 'disabled' }, false],
  ['unreachable', {}, true],
] as const) {
  test(`plan: a backend that is ${what} loses its rows first, then its validity`, async () => {
    const numbering = emptyNumbering();
    const [first = backendOf(''), second = backendOf('')] = backendsOf(2);
    const have = await state(numbering, [poolOf('web', [first, second])], []);
    const hops = new Map([
      [first.address, lost ? null : HOP],
      [second.address, HOP],
    ]);
    const want = await state(numbering, [poolOf('web', [{ ...first, ...change }, second])], [], hops);
    const steps = plan(have, want, fresh());
    assert.deepEqual(names(steps), ['set-ring', 'set-backend']);
    assert.equal(steps[1]?.do === 'set-backend' && steps[1].entry.flags & BackendFlag.VALID, 0);
  });
}

test('plan: drained and weight 0 change the ring only', async () => {
  const numbering = emptyNumbering();
  const [first = backendOf(''), second = backendOf('')] = backendsOf(2);
  const have = await state(numbering, [poolOf('web', [first, second])], []);
  for (const change of [{ state: 'drain' }, { weight: 0 }] as const) {
    const want = await state(numbering, [poolOf('web', [{ ...first, ...change }, second])], []);
    assert.deepEqual(names(plan(have, want, fresh())), ['set-ring']);
  }
});

test('plan: a range that grows is in use, and holds the old counts, before a member needs it', async () => {
  const numbering = emptyNumbering();
  const services = [serviceOf('www', 'web')];
  const have = await state(numbering, [poolOf('web', backendsOf(7))], services);
  const before = numbering.services.get(serviceKeyId(serviceOf('www', 'web')))?.countersStart ?? -1;
  const want = await state(numbering, [poolOf('web', backendsOf(8))], services);
  const after = numbering.services.get(serviceKeyId(serviceOf('www', 'web')))?.countersStart ?? -1;
  const steps = plan(have, want, fresh(16));
  const copies = Array.from({ length: 8 }, (_, slot) => ({
    do: 'copy-counter',
    from: before + slot,
    to: after + slot,
  }));
  assert.deepEqual(names(steps).slice(0, 4), ['set-backend', 'clear-service', 'set-service', 'wait']);
  assert.deepEqual(steps.slice(4, 12), copies);
  assert.deepEqual(names(steps).slice(12), ['set-ring']);
});

test('plan: a first ring comes after the services that were there and before those that arrive', async () => {
  const numbering = emptyNumbering();
  const www = serviceOf('www', 'web');
  const have = await state(numbering, [poolOf('web', [])], [www]);
  const want = await state(numbering, [poolOf('web', backendsOf(8))], [www, serviceOf('alt', 'web', 81)]);
  const steps = plan(have, want, fresh(16)).slice(8);
  assert.deepEqual(names(steps).slice(0, 6), [
    'clear-service',
    'set-service',
    'set-ring',
    'clear-service',
    'set-service',
    'wait',
  ]);
  assert.equal(steps[1]?.do === 'set-service' && steps[1].service.value.number, 1);
});

test('plan: with another pool all counts of a service go to slot 0', async () => {
  const numbering = emptyNumbering();
  const pools = [poolOf('web', backendsOf(2)), poolOf('api', backendsOf(2, 1))];
  const have = await state(numbering, pools, [serviceOf('www', 'web')]);
  const want = await state(numbering, pools, [serviceOf('www', 'api')]);
  assert.deepEqual(plan(have, want, fresh()).slice(2), [
    { do: 'wait' },
    { do: 'copy-counter', from: 0, to: 8 },
    { do: 'copy-counter', from: 1, to: 8 },
    { do: 'copy-counter', from: 2, to: 8 },
  ]);
});

test('plan: the counts of a member that leaves go to slot 0 before its number is free', async () => {
  const numbering = emptyNumbering();
  const services = [serviceOf('www', 'web'), serviceOf('alt', 'web', 81)];
  const have = await state(numbering, [poolOf('web', backendsOf(2))], services);
  const want = await state(numbering, [poolOf('web', backendsOf(1))], services);
  assert.deepEqual(plan(have, want, fresh()).slice(1), [
    { do: 'remove-backend', number: 2 },
    { do: 'wait' },
    { do: 'move-counter', from: 2, to: 0 },
    { do: 'move-counter', from: 10, to: 8 },
    { do: 'clear-backend', number: 2 },
  ]);
});

test('plan: an entry that was lost comes back without touching its counts', async () => {
  const have = await state(emptyNumbering(), [poolOf('web', backendsOf(1))], [serviceOf('www', 'web')]);
  const lost = new Map([...have.services].filter(([, { value }]) => value.number === 0));
  assert.deepEqual(names(plan({ ...have, services: lost }, have, fresh(0))), ['set-service']);
});

/** A kernel in memory, with counters, that carries out one step at a time. */
function memoryKernel() {
  const services = new Map(EMPTY.services);
  const rings = new Map(EMPTY.rings);
  const backends = new Map(EMPTY.backends);
  const counters = new Map<number, number>();
  const unsettled = new Set<string>(); // what packets may still use
  const settled = (what: string): void => assert.ok(!unsettled.has(what), `${what} is touched without a wait`);
  const count = (index: number): number => counters.get(index) ?? 0;
  function run(step: Step): void {
    switch (step.do) {
      case 'set-backend':
        settled(`backend ${step.number}`);
        return void backends.set(step.number, step.entry);
      case 'set-ring':
        return void rings.set(step.pool, step.ring);
      case 'clear-service':
        for (let at = 0; at < step.counters.size; at++) counters.delete(step.counters.start + at);
        return;
      case 'set-service': {
        const { key, value } = step.service;
        const id = keyId(key);
        const old = services.get(id)?.value;
        if (old && old.countersStart !== value.countersStart) unsettled.add(`range ${old.countersStart}`);
        return void services.set(id, step.service);
      }
      case 'delete-service': {
        const [id] = [...services].find(([, { key }]) => key === step.service.key) ?? [''];
        assert.ok(services.delete(id));
        return;
      }
      case 'delete-ring':
        assert.ok(rings.delete(step.pool));
        return;
      case 'remove-backend': {
        const entry = backends.get(step.number);
        assert.ok(entry);
        unsettled.add(`backend ${step.number}`);
        return void backends.set(step.number, { ...entry, flags: entry.flags & ~BackendFlag.VALID });
      }
      case 'wait':
        unsettled.clear();
        return;
      case 'clear-backend':
        settled(`backend ${step.number}`);
        assert.ok(backends.delete(step.number));
        return;
      case 'copy-counter':
      case 'move-counter':
        assert.equal(unsettled.size, 0, 'counters move after a wait');
        counters.set(step.to, count(step.to) + count(step.from));
        if (step.do === 'move-counter') counters.delete(step.from);
        return;
    }
  }
  return { state: { services, rings, backends } satisfies KernelState, counters, count, run };
}

type Kernel = ReturnType<typeof memoryKernel>;

/** What must hold at every moment on the way from `have` to `want`. */
function check({ state: now }: Kernel, have: KernelState, want: KernelState, sizes: ReadonlyMap<string, number>): void {
  for (const [id, { key, value }] of now.services) {
    if (value.number === 0) continue;
    const marker = [...now.services.values()].some(
      (s) => s.value.number === 0 && Buffer.compare(s.key.address, key.address) === 0,
    );
    assert.ok(marker, `service ${value.number} has its marker`);
    const hadNone = have.services.has(id) && !have.rings.has(have.services.get(id)?.value.pool ?? -1);
    const ring = now.rings.get(value.pool);
    assert.ok(ring || hadNone || !want.rings.has(value.pool), `service ${value.number} has a ring`);
    // Not to be had when services leave and arrive at once at a pool that gets its first ring.
    if (!have.rings.has(value.pool) && want.services.get(id)?.value.pool !== value.pool) continue;
    const size = sizes.get(`${id} ${value.countersStart}`) ?? 0;
    for (const number of new Set(ring?.rows)) {
      const entry = now.backends.get(number);
      if (entry) assert.ok(entry.slot < size, `slot ${entry.slot} of backend ${number} is in a range of ${size}`);
    }
  }
  for (const [pool, ring] of now.rings) {
    const before = new Set(have.rings.get(pool)?.rows);
    for (const number of new Set(ring.rows)) {
      if (number === 0 || before.has(number)) continue;
      const flags = now.backends.get(number)?.flags ?? 0;
      assert.ok(flags & BackendFlag.VALID, `pool ${pool} has backend ${number}, which is not valid`);
    }
  }
}

/** Every backend with rows takes a packet of every service that leads to it. */
function traffic({ state: now, counters, count }: Kernel, totals: Map<string, number>): void {
  for (const [id, { value }] of now.services) {
    if (value.number === 0) continue;
    for (const number of new Set(now.rings.get(value.pool)?.rows)) {
      const entry = now.backends.get(number);
      if (!entry || !(entry.flags & BackendFlag.VALID)) continue;
      counters.set(value.countersStart + entry.slot, count(value.countersStart + entry.slot) + 1);
      totals.set(id, (totals.get(id) ?? 0) + 1);
    }
  }
}

const totalOf = ({ count }: Kernel, numbering: Numbering, id: string): number => {
  const { countersStart, counters } = numbering.services.get(id) ?? { countersStart: 0, counters: 0 };
  return Array.from({ length: counters }, (_, at) => count(countersStart + at)).reduce((a, b) => a + b, 0);
};

test('plan: at no moment of a random history does a packet meet half a service, and no count is lost', async () => {
  const seed = chosenSeed();
  console.log(`seed ${seed} (set SEED to repeat)`);
  const world = randomWorld(randomFrom(seed));
  const kernel = memoryKernel();
  const totals = new Map<string, number>();
  let published = emptyNumbering();
  for (let round = 0; round < 400; round++) {
    world.change();
    const snapshot = world.snapshot();
    const numbering = copyNumbering(published);
    assignNumbers(numbering, snapshot, LIMITS);
    const want = await desired(snapshot, numbering, world.hops(), new Map());
    const { services, rings, backends } = kernel.state;
    const have = { services: new Map(services), rings: new Map(rings), backends: new Map(backends) };
    const sizes = new Map<string, number>();
    const freshOf = new Map<number, number>();
    for (const given of [published, numbering])
      for (const [id, s] of given.services) sizes.set(`${id} ${s.countersStart}`, s.counters);
    for (const [id, s] of numbering.services) {
      if (published.services.get(id)?.countersStart !== s.countersStart) freshOf.set(s.number, s.counters);
    }
    const seen = new Map<string, number>();
    for (const step of plan(have, want, (number) => freshOf.get(number) ?? 0)) {
      kernel.run(step);
      check(kernel, have, want, sizes);
      traffic(kernel, totals);
      for (const id of published.services.keys()) {
        const total = totalOf(kernel, published, id);
        assert.ok(total >= (seen.get(id) ?? 0), `round ${round}: the total of ${id} never goes down after ${step.do}`);
        seen.set(id, total);
      }
    }
    assert.deepEqual(
      plan(kernel.state, want, () => 8),
      [],
      `round ${round} arrives`,
    );
    releaseNumbers(numbering, snapshot);
    published = numbering;
    for (const id of totals.keys()) if (!published.services.has(id)) totals.delete(id);
    for (const id of published.services.keys())
      assert.equal(totalOf(kernel, published, id), totals.get(id) ?? 0, `round ${round}: total of ${id}`);
  }
});
