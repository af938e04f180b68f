// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { desired } from '../../src/controlplane/desired.js';
import { serviceKeyId } from '../../src/controlplane/kernel-state.js';
import {
  adoptNumbering,
  assignNumbers,
  copyNumbering,
  emptyNumbering,
  type Numbering,
  releaseNumbers,
} from '../../src/controlplane/numbering.js';
import { FairleadError } from '../../src/model/errors.js';
import type { Service, Snapshot } from '../../src/model/objects.js';
import { backendOf, backendsOf, poolOf, randomWorld, serviceOf, snapshotOf } from '../support/snapshots.js';
import { chosenSeed, randomFrom } from './random.js';

const LIMITS = { services: 4096, pools: 4096, backends: 65536, counters: 65536 };

/** A whole round: numbers given out, the rest let go of. */
function settle(numbering: Numbering, snapshot: Snapshot, limits = LIMITS): Numbering {
  assignNumbers(numbering, snapshot, limits);
  releaseNumbers(numbering, snapshot);
  return numbering;
}

const membersOf = (numbering: Numbering, pool: string) => [...(numbering.pools.get(pool)?.members.values() ?? [])];
const rangeOf = (numbering: Numbering, service: Service) => {
  const found = numbering.services.get(serviceKeyId(service));
  return found && { start: found.countersStart, size: found.counters };
};

test('numbering: dense from 1, slots by pool, ranges side by side', () => {
  const web = serviceOf('www', 'web');
  const api = serviceOf('api', 'api', 81);
  const pools = [poolOf('web', backendsOf(2)), poolOf('api', backendsOf(8, 1))];
  const numbering = settle(emptyNumbering(), snapshotOf(pools, [web, api]));
  assert.deepEqual(
    [...numbering.pools.values()].map(({ number }) => number),
    [1, 2],
  );
  assert.deepEqual(membersOf(numbering, 'web'), [
    { number: 1, slot: 1 },
    { number: 2, slot: 2 },
  ]);
  assert.deepEqual(
    membersOf(numbering, 'api'),
    Array.from({ length: 8 }, (_, at) => ({ number: 3 + at, slot: 1 + at })),
  );
  assert.deepEqual(rangeOf(numbering, web), { start: 0, size: 8 });
  assert.deepEqual(rangeOf(numbering, api), { start: 8, size: 16 });
});

test('numbering: an address in two pools is two members', () => {
  const both = [backendOf('10.0.0.1')];
  const numbering = settle(emptyNumbering(), snapshotOf([poolOf('a', both), poolOf('b', both)], []));
  assert.deepEqual(
    [membersOf(numbering, 'a'), membersOf(numbering, 'b')],
    [[{ number: 1, slot: 1 }], [{ number: 2, slot: 1 }]],
  );
});

test('numbering: a freed number comes up again only after all others, a freed slot at once', () => {
  const numbering = emptyNumbering();
  const limits = { ...LIMITS, backends: 5 };
  const given: [number, number][] = [];
  for (let at = 0; at < 9; at++) {
    settle(numbering, snapshotOf([poolOf('web', [backendOf(`10.0.0.${at}`)])], []), limits);
    const [member] = membersOf(numbering, 'web');
    given.push([member?.number ?? 0, member?.slot ?? 0]);
  }
  // The member that leaves holds its slot until it has left.
  assert.deepEqual(given, [
    [1, 1],
    [2, 2],
    [3, 1],
    [4, 2],
    [1, 1],
    [2, 2],
    [3, 1],
    [4, 2],
    [1, 1],
  ]);
});

test('numbering: what has no number left is full, and says which field asked', () => {
  const pool = poolOf('web', backendsOf(3));
  const fits = { pools: 2, backends: 4, services: 3, counters: 16 };
  const services = [serviceOf('a', 'web'), serviceOf('b', 'web', 81)];
  assignNumbers(emptyNumbering(), snapshotOf([pool], services), fits);
  const check = (what: keyof typeof LIMITS, message: RegExp, pointer: string) => {
    const limits = { ...fits, [what]: fits[what] - 1 };
    assert.throws(
      () => assignNumbers(emptyNumbering(), snapshotOf([pool], services), limits),
      (error) => {
        assert.ok(error instanceof FairleadError);
        assert.equal(error.code, 'full');
        assert.match(error.message, message);
        assert.deepEqual(error.fields, [{ pointer, detail: error.message }]);
        return true;
      },
    );
  };
  check('pools', /^number a pool: all 0 are taken$/, '');
  check('backends', /^number a backend: all 2 are taken$/, '/backends');
  check('services', /^number a service: all 1 are taken$/, '');
  check('counters', /^place 8 counters for service "b": no such room in 15$/, '');
});

test('numbering: a range grows beside the old one, which nobody else gets in the same round', () => {
  const web = serviceOf('www', 'web');
  const late = serviceOf('late', 'web', 81);
  const numbering = settle(emptyNumbering(), snapshotOf([poolOf('web', backendsOf(7))], [web]));
  assert.deepEqual(rangeOf(numbering, web), { start: 0, size: 8 });
  const grown = snapshotOf([poolOf('web', backendsOf(8))], [web, late]);
  settle(numbering, grown);
  assert.deepEqual(rangeOf(numbering, web), { start: 8, size: 16 });
  assert.deepEqual(rangeOf(numbering, late), { start: 24, size: 16 });
  const later = serviceOf('later', 'small', 82);
  settle(numbering, snapshotOf([poolOf('web', backendsOf(8)), poolOf('small', [])], [web, late, later]));
  assert.deepEqual(rangeOf(numbering, later), { start: 0, size: 8 }, 'free from the next round on');
});

test('numbering: a service with another pool gets another range', () => {
  const pools = [poolOf('a', backendsOf(1)), poolOf('b', backendsOf(1, 1))];
  const numbering = settle(emptyNumbering(), snapshotOf(pools, [serviceOf('www', 'a')]));
  settle(numbering, snapshotOf(pools, [serviceOf('www', 'b')]));
  assert.deepEqual(rangeOf(numbering, serviceOf('www', 'b')), { start: 8, size: 8 });
});

test('numbering: a service whose pool does not exist gets none', () => {
  const numbering = settle(emptyNumbering(), snapshotOf([poolOf('web', [])], []));
  assignNumbers(numbering, snapshotOf([], [serviceOf('www', 'web')]), LIMITS);
  assert.equal(numbering.services.size, 0);
});

test('numbering: a copy goes its own way', () => {
  const before = settle(emptyNumbering(), snapshotOf([poolOf('web', backendsOf(7))], [serviceOf('www', 'web')]));
  const same = structuredClone(before);
  settle(copyNumbering(before), snapshotOf([poolOf('web', backendsOf(9)), poolOf('b', [])], [serviceOf('www', 'web')]));
  assert.deepEqual(before, same);
});

const kernelOf = (snapshot: Snapshot, numbering: Numbering) => desired(snapshot, numbering, new Map(), new Map());

test('numbering: after a restart what the store no longer has keeps its numbers until the kernel lets go', async () => {
  const web = poolOf('web', backendsOf(1));
  const gone = poolOf('gone', backendsOf(1, 1));
  const www = serviceOf('www', 'web');
  const old = serviceOf('old', 'gone', 81);
  const numbers = settle(emptyNumbering(), snapshotOf([gone, poolOf('x', backendsOf(1, 2)), web], [old, www]));
  const left = snapshotOf([gone, web], [old, www]);
  const kernel = await kernelOf(left, settle(numbers, left));
  const fresh = serviceOf('new', 'new', 82);
  const snapshot = snapshotOf([web, poolOf('new', backendsOf(1, 3))], [www, fresh]);
  const numbering = await adoptNumbering(kernel, snapshot);
  assignNumbers(numbering, snapshot, { ...LIMITS, pools: 4, backends: 4, services: 4 });
  assert.deepEqual([numbering.pools.get('web')?.number, numbering.pools.get('new')?.number], [3, 2]);
  assert.deepEqual(membersOf(numbering, 'new'), [{ number: 2, slot: 1 }]);
  assert.deepEqual(rangeOf(numbering, fresh), { start: 16, size: 8 });
  releaseNumbers(numbering, snapshot);
  assert.deepEqual([[...numbering.pools.keys()].sort(), numbering.services.size], [['new', 'web'], 2]);
});

test('numbering: after a restart two pools never become one', async () => {
  const old = snapshotOf([poolOf('a', backendsOf(2))], []);
  const kernel = await kernelOf(old, settle(emptyNumbering(), old));
  const snapshot = snapshotOf([poolOf('a', backendsOf(2)), poolOf('b', backendsOf(3))], []);
  const numbering = settle(await adoptNumbering(kernel, snapshot), snapshot);
  assert.deepEqual([numbering.pools.get('a')?.number, numbering.pools.get('b')?.number], [1, 2]);
});

test('numbering: after a restart a pool is known by its members, also when its service had moved', async () => {
  const pools = [poolOf('a', backendsOf(2)), poolOf('b', backendsOf(2, 1))];
  const old = snapshotOf(pools, [serviceOf('www', 'a')]);
  const before = settle(emptyNumbering(), old);
  const numbering = await adoptNumbering(await kernelOf(old, before), snapshotOf(pools, [serviceOf('www', 'b')]));
  assert.deepEqual(numbering.pools, before.pools);
  assert.deepEqual(rangeOf(numbering, serviceOf('www', 'a')), { start: 0, size: 8 });
});

test('numbering: after a restart a pool without a known member is known by its service', async () => {
  const old = snapshotOf([poolOf('web', backendsOf(2))], [serviceOf('www', 'web')]);
  const kernel = await kernelOf(old, settle(emptyNumbering(), old));
  const numbering = await adoptNumbering(
    kernel,
    snapshotOf([poolOf('web', backendsOf(1, 1))], [serviceOf('www', 'web')]),
  );
  assert.equal(numbering.pools.get('web')?.number, 1);
});

/** Pools whose members are the same and that no service tells apart may change places: nobody could see it. */
const withoutTwins = (snapshot: Snapshot): Snapshot => {
  const used = new Set([...snapshot.services.values()].map(({ value }) => value.pool));
  const pools = [...snapshot.pools.values()]
    .map(({ value }) => value)
    .filter(({ name, backends }) => used.has(name) || backends.length > 0)
    .map((pool, at) => ({
      ...pool,
      backends: [...pool.backends, backendOf(`10.1.${at}.1`), backendOf(`10.1.${at}.2`)],
    }));
  return snapshotOf(
    pools,
    [...snapshot.services.values()].map(({ value }) => value),
    snapshot.revision,
  );
};

test('numbering: over a random history numbers are unique and stable, and a restart finds them again', async () => {
  const seed = chosenSeed();
  console.log(`seed ${seed} (set SEED to repeat)`);
  const world = randomWorld(randomFrom(seed));
  const numbering = emptyNumbering();
  for (let round = 0; round < 300; round++) {
    world.change();
    const snapshot = round % 2 ? world.snapshot() : withoutTwins(world.snapshot());
    const before = structuredClone(numbering);
    settle(numbering, snapshot);

    const members = [...numbering.pools.values()].flatMap((pool) => [...pool.members.values()]);
    for (const numbers of [
      members.map(({ number }) => number),
      [...numbering.pools.values()].map(({ number }) => number),
      [...numbering.services.values()].map(({ number }) => number),
    ]) {
      assert.equal(new Set(numbers).size, numbers.length, `round ${round}: no number twice`);
      assert.ok(numbers.every((number) => number > 0));
    }
    for (const [name, { number, members: kept }] of before.pools) {
      const now = numbering.pools.get(name);
      if (!now) continue;
      assert.equal(now.number, number);
      for (const [address, member] of kept)
        assert.deepEqual(now.members.get(address) ?? member, member, `round ${round}: ${address} in ${name} is stable`);
    }
    let end = 0;
    for (const service of [...numbering.services.values()].sort((a, b) => a.countersStart - b.countersStart)) {
      assert.ok(service.countersStart >= end, `round ${round}: ranges do not overlap`);
      end = service.countersStart + service.counters;
    }
    for (const { value: service } of snapshot.services.values()) {
      const range = rangeOf(numbering, service);
      for (const { slot } of membersOf(numbering, service.pool)) assert.ok(range && slot < range.size);
    }

    if (round % 2) continue;
    const adopted = await adoptNumbering(await kernelOf(snapshot, numbering), snapshot);
    const sorted = (found: Numbering) => ({
      pools: [...found.pools].map(([name, pool]) => [name, pool.number, [...pool.members].sort()]).sort(),
      // The range's size is a matter of the slots now in use.
      services: [...found.services].map(([id, s]) => [id, s.number, s.pool, s.countersStart]).sort(),
    });
    assert.deepEqual(sorted(adopted), sorted(numbering), `round ${round}: found again`);
  }
});
