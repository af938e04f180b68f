// SPDX-License-Identifier: Apache-2.0
// Real servers that die, hang and come back, with traffic.
import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { after, before, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { startInside, stopChild } from '../../src/lab/children.js';
import { type Driver, startDriver } from '../../src/lab/drive.js';
import { processesIn } from '../../src/lab/netns.js';
import { labServices } from '../../src/lab/objects.js';
import type { PhaseCount } from '../../src/lab/traffic.js';
import type { BackendStatus, NodeStatus } from '../../src/model/node-view.js';
import { readExposition } from '../support/exposition.js';
import { tracesOf, until } from '../support/lab.js';
import { never, openServedLab, type ServedLab } from '../support/served-lab.js';

const name = 'he-hc';
const interval = 0.5;
const fall = 3;
/** What is promised: no new connection after this. */
const PROMISED_MS = fall * interval * 1000 + 1000;
const pools = ['web4', 'web6'] as const;
let lab: ServedLab;
let driver: Driver;
let phases = 0;

before(async () => {
  lab = await openServedLab(name, 4);
  driver = await startDriver(lab.topology, labServices(lab.topology));
  lab.onClose(() => driver.stop());
  const healthCheck = {
    type: 'http',
    port: lab.topology.natBackendPort,
    ...{ interval, timeout: 0.25, fall, rise: 2, slowStart: 2 },
  };
  for (const pool of pools) await lab.api('PATCH', `/api/v1/pools/${pool}?wait=applied`, { healthCheck });
  await everywhere('be1', ({ health }) => health.state === 'up');
});
after(async () => {
  await lab.close();
  assert.deepEqual(tracesOf(name), []);
});

const backend = async (pool: string, member: string) =>
  ((await lab.api('GET', `/api/v1/pools/${pool}/backends/${member}`)) as { status: BackendStatus }).status;

async function everywhere(member: string, holds: (status: BackendStatus) => boolean): Promise<void> {
  for (const pool of pools)
    await until(`${pool} ${member}: ${holds}`, async () => holds(await backend(pool, member)), 20_000);
}

const namespaceOf = (member: number): string => lab.topology.backends[member - 1]?.namespace ?? '';
const signalServer = (member: number, signal: NodeJS.Signals): void => {
  for (const pid of processesIn([namespaceOf(member)])) process.kill(pid, signal);
};

async function startServer(member: number): Promise<void> {
  const { httpPort, echoPort, natBackendPort, vip4, vip6, backends } = lab.topology;
  const { namespace, name: own, address4, address6 } = backends[member - 1] as (typeof backends)[number];
  const args = [own, `${httpPort}`, `${echoPort}`, vip4, vip6, 'nat', `${natBackendPort}`, address4, address6];
  const child: ChildProcess = await startInside(namespace, 'echo-server.js', args);
  lab.onClose(() => stopChild(child, 1_000));
}

/** `count` requests, from now on. */
async function requests(count: number): Promise<PhaseCount> {
  const phase = `${++phases}`;
  driver.command({ kind: 'run', phase, rate: 200, count });
  const { phases: all } = await driver.until(
    (report) => report.idle && (report.phases[phase]?.requests ?? 0) >= count,
    30_000,
    never,
  );
  return all[phase] as PhaseCount;
}

const answersOf = (count: PhaseCount, member: string): number =>
  Object.values(count.backends).reduce((sum, by) => sum + (by[member] ?? 0), 0);

test('health: all up takes traffic as before, and is shown', async () => {
  const count = await requests(200);
  assert.equal(count.failed, 0);
  const status = await backend('web4', 'be1');
  assert.deepEqual([status.health.lastCheck?.result, status.health.lastError], ['ok', null]);
  assert.deepEqual(Object.keys(status.health.nodes), [lab.topology.balancers[0].namespace]);
});

test('health: a server that is killed takes no new connection after fall intervals and a second', async () => {
  driver.command({ kind: 'run', phase: 'dying', rate: 200, count: null });
  signalServer(1, 'SIGKILL');
  const killed = performance.now();
  await pause(PROMISED_MS); // this is the promise
  console.log(`# promised ${PROMISED_MS} ms, looked from ${Math.round(performance.now() - killed)} ms on`);
  const count = await requests(300);
  assert.equal(count.failed, 0);
  assert.equal(answersOf(count, 'be1'), 0);
  for (const pool of pools) {
    const { health, shareReal, shareWanted } = await backend(pool, 'be1');
    assert.deepEqual([health.state, shareReal, shareWanted], ['down', 0, 0]);
    assert.match(health.lastError ?? '', /ECONNREFUSED/);
  }
  const families = readExposition(String((await lab.ask('GET', '/metrics')).body));
  const samples = (family: string) => families.get(`fairlead_${family}`)?.samples ?? [];
  const down = samples('backend_state').filter(({ labels, value }) => labels.state === 'down' && value === 1);
  assert.deepEqual(
    down.map(({ labels }) => `${labels.pool} ${labels.backend}`),
    ['web4 be1', 'web6 be1'],
  );
  const to = samples('health_transitions_total').find(({ labels }) => labels.to === 'down');
  assert.equal(to?.value, 2);
  const checks = Object.fromEntries(samples('health_checks_total').map(({ labels, value }) => [labels.result, value]));
  assert.ok((checks.ok ?? 0) > 20 && (checks.error ?? 0) >= 6, JSON.stringify(checks));
  const duration = samples('health_check_duration_seconds');
  const all = duration.find((each) => each.labels.le === '+Inf')?.value ?? 0;
  assert.ok(all >= (checks.ok ?? 0) + (checks.error ?? 0), JSON.stringify(duration));
});

test('health: a daemon that starts anew counts nobody down or up anew', async () => {
  await lab.serve().kill('SIGKILL');
  await lab.start();
  for (const pool of pools) {
    const { health, shareReal } = await backend(pool, 'be1');
    assert.deepEqual([health.state, shareReal], ['down', 0]);
  }
  assert.equal((await requests(100)).failed, 0);
});

test('health: it comes back slowly, and no request fails', async () => {
  await everywhere('be1', ({ health }) => health.nodes[lab.topology.balancers[0].namespace]?.state === 'down');
  driver.command({ kind: 'run', phase: 'back', rate: 200, count: null });
  await startServer(1);
  const shares = new Set<string>();
  await until('it has its share again', async () => {
    const { health, shareWanted } = await backend('web4', 'be1');
    if (health.state === 'up') shares.add(shareWanted.toFixed(3));
    return health.state === 'up' && health.slowStart === undefined;
  });
  const steps = [0.25, 0.5, 0.75, 1].map((part) => (part / 4).toFixed(3));
  assert.deepEqual([...shares], steps);
  await everywhere('be1', ({ health, shareReal }) => health.slowStart === undefined && shareReal > 0.2);
  const count = await requests(200);
  assert.equal(count.failed, 0);
  assert.ok(answersOf(count, 'be1') > 20);
  assert.equal(driver.report().phases.back?.failed, 0);
});

test('health: a server that hangs takes no new connection either; more than half of them fail open', async () => {
  signalServer(2, 'SIGSTOP');
  await pause(PROMISED_MS); // this is the promise
  const count = await requests(200);
  assert.deepEqual([count.failed, answersOf(count, 'be2')], [0, 0]);
  assert.match((await backend('web4', 'be2')).health.lastError ?? '', /no answer within 250 ms/);
  for (const member of [3, 4]) signalServer(member, 'SIGSTOP');
  const warnings = async () => ((await lab.api('GET', '/api/v1/status')) as NodeStatus).warnings;
  await until('both fail open', async () => (await warnings()).length >= 2);
  assert.deepEqual(await warnings(), [
    'pool "web4" fails open: 3 of its backends are down by their checks, more than half, so all are kept in force',
    'pool "web6" fails open: 3 of its backends are down by their checks, more than half, so all are kept in force',
  ]);
  await everywhere('be4', ({ health, shareReal }) => health.state === 'down' && shareReal > 0.2);
  const pool = (await lab.api('GET', '/api/v1/pools/web4')) as { status: { failOpen: boolean } };
  assert.equal(pool.status.failOpen, true);
  for (const member of [2, 3, 4]) signalServer(member, 'SIGCONT');
  await until('it is over', async () => (await warnings()).length === 0, 20_000);
  for (const member of ['be2', 'be3', 'be4']) await everywhere(member, ({ health }) => health.state === 'up');
  assert.equal((await requests(200)).failed, 0);
});
