// SPDX-License-Identifier: Apache-2.0
// The network changes under load: next hops follow within a second, and what can be carried is carried.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { type Driver, startDriver } from '../../src/lab/drive.js';
import { run } from '../../src/lab/netns.js';
import { labPools, labServices } from '../../src/lab/objects.js';
import { answersOf, sum } from '../../src/lab/table.js';
import { labInterface } from '../../src/lab/topology.js';
import type { BackendStatus } from '../../src/model/node-view.js';
import { tracesOf, until } from '../support/lab.js';
import { never, openServedLab, type ServedLab } from '../support/served-lab.js';

const name = 'ftehops';
/** From a change of the network to its effect. */
const PROMISED_MS = 1_000;
let lab: ServedLab;
let driver: Driver;

before(async () => {
  lab = await openServedLab(name, 3);
  const { backends } = lab.topology;
  const lb = lab.topology.balancers[0].namespace;
  // Neighbours that do not answer fail within seconds instead of a minute.
  const settings = ['ipv4', 'ipv6'].flatMap((family) => [
    `${family}/neigh/${labInterface}/base_reachable_time_ms=1000`,
    `${family}/neigh/${labInterface}/delay_first_probe_time=1`,
    `${family}/neigh/${labInterface}/retrans_time_ms=200`,
  ]);
  await configure(lb, settings);
  // As a host does that takes over an address: it says so.
  const notify = [`ipv4/conf/${labInterface}/arp_notify=1`, `ipv6/conf/${labInterface}/ndisc_notify=1`];
  await configure(backends[0]?.namespace ?? '', notify);
  driver = await startDriver(lab.topology, labServices(lab.topology));
  lab.onClose(() => driver.stop());
});
after(async () => {
  await lab.close();
  assert.deepEqual(tracesOf(name), []);
});

const configure = (namespace: string, settings: readonly string[]): Promise<string> =>
  run('nsenter', [
    `--net=/run/netns/${namespace}`,
    'sh',
    '-ec',
    settings.map((setting) => setting.replace(/^(.*)=(.*)$/, 'echo $2 > /proc/sys/net/$1')).join('\n'),
  ]);
const ip = (namespace: string, ...args: string[]): Promise<string> => run('ip', ['-n', namespace, ...args]);

/** What the API says of be1 in each pool. */
async function first(): Promise<BackendStatus[]> {
  const pools = await Promise.all(labPools.map((pool) => lab.api('GET', `/api/v1/pools/${pool}`)));
  return pools.map((pool) => {
    const { be1 } = (pool as { status: { backends: Record<string, BackendStatus> } }).status.backends;
    assert.ok(be1);
    return be1;
  });
}

/** Does `change` and waits until be1's next hop in both pools satisfies `holds`; prints how long that took. */
async function follows(
  what: string,
  change: () => Promise<unknown>,
  holds: (hop: BackendStatus['nextHop']) => boolean,
  deadlineMs = PROMISED_MS,
): Promise<void> {
  await change();
  const started = performance.now();
  await until(what, async () => (await first()).every(({ nextHop }) => holds(nextHop)), deadlineMs);
  console.log(`# ${what}: ${(performance.now() - started).toFixed(0)} ms`);
}

/** Begins a phase and lets `count` of its requests end. */
async function begin(phase: string, count: number): Promise<void> {
  driver.command({ kind: 'run', phase, rate: 200, count: null });
  await driver.until(({ phases }) => (phases[phase]?.requests ?? 0) >= count, 15_000, never);
}

/** Lets what is under way end: no request of the phase has failed. The answers of be1 in it, by pool. */
async function carried(phase: string): Promise<number[]> {
  driver.command({ kind: 'stop' });
  const report = await driver.until(({ idle }) => idle, 15_000, never);
  assert.equal(report.phases[phase]?.failed, 0, `${phase}: ${report.errors.join('; ')}`);
  return labPools.map((pool) => answersOf(report.phases[phase], labServices(lab.topology), pool).get('be1') ?? 0);
}

const macOf = async (namespace: string, device: string): Promise<string> =>
  JSON.parse(await ip(namespace, '-j', 'link', 'show', device))[0].address;

test('next hops: a backend that changes its MAC is reached at the new one', async () => {
  const namespace = lab.topology.backends[0]?.namespace ?? '';
  const mac = '02:00:00:00:be:01';
  await begin('before the new MAC', 60);
  await follows(
    'the new MAC is known',
    () => ip(namespace, 'link', 'set', labInterface, 'address', mac),
    (hop) => hop.mac === mac,
  );
  await begin('at the new MAC', 120);
  for (const answers of await carried('at the new MAC')) assert.ok(answers > 0);
});

test('next hops: a route by way of the router is taken, and left again, without a request failing', async () => {
  const { router, backends } = lab.topology;
  const lb = lab.topology.balancers[0].namespace;
  const { address4 = '', address6 = '' } = backends[0] ?? {};
  const [before] = await first();
  const routerMac = await macOf(router, 'br0');
  await begin('rerouted', 40);
  await follows(
    'the router is the next hop',
    async () => {
      await ip(lb, 'route', 'replace', `${address4}/32`, 'via', '10.9.0.1');
      await ip(lb, '-6', 'route', 'replace', `${address6}/128`, 'via', 'fd00:9::1');
    },
    (hop) => hop.mac === routerMac,
  );
  driver.command({ kind: 'run', phase: 'by the router', rate: 200, count: null });
  await driver.until(({ phases }) => (phases['by the router']?.requests ?? 0) >= 120, 15_000, never);
  await follows(
    'the backend is the next hop again',
    async () => {
      await ip(lb, 'route', 'del', `${address4}/32`);
      await ip(lb, '-6', 'route', 'del', `${address6}/128`);
    },
    (hop) => hop.mac === before?.nextHop.mac,
  );
  for (const answers of await carried('by the router')) assert.ok(answers > 0);
  await carried('rerouted');
});

test('next hops: a backend without a route is unresolved at once and its rows are given away', async () => {
  const { backends } = lab.topology;
  const lb = lab.topology.balancers[0].namespace;
  const { address4 = '', address6 = '' } = backends[0] ?? {};
  await follows(
    'no route, no next hop',
    async () => {
      await ip(lb, 'route', 'add', 'unreachable', `${address4}/32`);
      await ip(lb, '-6', 'route', 'add', 'unreachable', `${address6}/128`);
    },
    ({ state, mac }) => state === 'unresolved' && mac === null,
  );
  for (const { shareReal } of await first()) assert.equal(shareReal, 0);
  await begin('unreachable', 120);
  assert.deepEqual(await carried('unreachable'), [0, 0]);
  await follows(
    'the route is back',
    async () => {
      await ip(lb, 'route', 'del', 'unreachable', `${address4}/32`);
      await ip(lb, '-6', 'route', 'del', 'unreachable', `${address6}/128`);
    },
    ({ state }) => state === 'resolved',
  );
});

test('next hops: a backend that does not answer any more loses its rows, and has them again when it does', async () => {
  const { router } = lab.topology;
  await begin('failing', 40);
  await follows(
    'the silent neighbour has failed',
    () => ip(router, 'link', 'set', 'be1', 'down'),
    ({ state }) => state === 'unresolved',
    15_000, // the kernel's patience, not ours
  );
  await begin('without it', 120);
  assert.deepEqual(await carried('without it'), [0, 0]);
  assert.match(String((await lab.ask('GET', '/metrics')).body), /fairlead_next_hops\{state="unresolved"\} 2/);
  await follows(
    'it is found again',
    () => ip(router, 'link', 'set', 'be1', 'up'),
    ({ state }) => state === 'resolved',
    15_000, // probes are up to 8 s apart
  );
  await begin('with it again', 120);
  for (const answers of await carried('with it again')) assert.ok(answers > 0);
});

test('next hops: without a carrier on the way out none is resolved, and all are when it is back', async () => {
  const { router } = lab.topology;
  const lbPort = lab.topology.balancers[0].name;
  await follows(
    'no carrier, no next hop',
    () => ip(router, 'link', 'set', lbPort, 'down'),
    ({ state }) => state === 'unresolved',
  );
  await follows(
    'the carrier is back',
    () => ip(router, 'link', 'set', lbPort, 'up'),
    ({ state }) => state === 'resolved',
    5_000,
  );
  // The router finds the balancer again by itself; what is sent from then on arrives.
  await until('the router knows the balancer', async () =>
    ['10.9.0.10', 'fd00:9::10'].every(async (address) =>
      (await ip(router, 'neigh', 'show', address)).includes('lladdr'),
    ),
  );
  await begin('with a carrier', 120);
  const answers = await carried('with a carrier');
  assert.ok(sum(answers) > 0);
});
