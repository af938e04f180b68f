// SPDX-License-Identifier: Apache-2.0
import { setTimeout as pause } from 'node:timers/promises';
import type { ServiceStatus } from '../model/node-view.js';
import { chiSquare } from './chi-square.js';
import type { Lab } from './daemon.js';
import type { Driver } from './drive.js';
import { appliedEverywhere, readAllPools, readAllServices } from './everywhere.js';
import { allServices, labPools } from './objects.js';
import { answersOf, type Observation, renderServices, renderTable, renderTotals, sum } from './table.js';
import type { DriverReport } from './traffic.js';

/** The lab at rest: the last observation, and whether each sum agrees. */
interface Settled {
  readonly end: Observation;
  readonly results: readonly { readonly ok: boolean; readonly text: string }[];
}

const drained = 'be2';
const rate = 400; // requests a second; a run takes seconds on one busy core

/**
 * The scenario of `lab run --once`: spread, drain one backend under traffic, undrain it, compare all sums with the
 * kernel's counters. Prints one line per check through `say`; true when every check held and no request failed.
 */
export async function runScenario(
  lab: Lab,
  driver: Driver,
  signal: AbortSignal,
  say: (line: string) => void,
): Promise<boolean> {
  const { api } = lab.daemon;
  const services = allServices(lab.topology);
  let held = true;
  const check = (ok: boolean, text: string) => {
    held &&= ok;
    say(`${ok ? 'PASS' : 'FAIL'}  ${text}`);
  };
  const requestsIn = (phase: string, count: number) =>
    driver.until((report) => (report.phases[phase]?.requests ?? 0) >= count, 30_000, signal);
  const answersAt = (report: DriverReport, phase: string, backend: string) =>
    labPools.map((pool) => answersOf(report.phases[phase], services, pool).get(backend) ?? 0);

  // Fifteen or more per backend and pool: that one gets none by chance is then out of the question.
  const many = Math.max(1_200, 30 * lab.topology.backends.length);
  driver.command({ kind: 'run', phase: 'spread', rate, count: many });
  const spread = await requestsIn('spread', many);
  const pools = await readAllPools(lab);
  for (const pool of labPools) {
    const backends = pools[pool] ?? [];
    const answers = answersOf(spread.phases.spread, services, pool);
    const got = backends.map(({ name }) => answers.get(name) ?? 0);
    const wanted = backends.map(({ status }) => status.shareWanted);
    const { statistic, limit, fits } = chiSquare(got, wanted);
    const comparison = `chi-square ${statistic.toFixed(1)}, at most ${limit.toFixed(1)}`;
    check(fits && sum(got) > 0, `spread: ${pool}: ${sum(got)} requests over ${got.length} backends (${comparison})`);
  }

  if (lab.topology.backends.length > 1) {
    driver.command({ kind: 'run', phase: 'draining', rate, count: null });
    await requestsIn('draining', 100);
    for (const pool of labPools) await api('POST', `/api/v1/pools/${pool}/backends/${drained}/drain?wait=applied`);
    await appliedEverywhere(lab);
    driver.command({ kind: 'run', phase: 'drained', rate, count: null });
    const without = await requestsIn('drained', 600);
    const stray = sum(answersAt(without, 'drained', drained));
    check(stray === 0, `drain: ${stray} of ${without.phases.drained?.requests} new requests went to ${drained}`);
    for (const pool of labPools) await api('POST', `/api/v1/pools/${pool}/backends/${drained}/undrain?wait=applied`);
    await appliedEverywhere(lab);
    driver.command({ kind: 'run', phase: 'undrained', rate, count: many });
    const again = answersAt(await requestsIn('undrained', many), 'undrained', drained);
    const shares = labPools.map((pool, index) => `${again[index]} of ${pool}`).join(', ');
    check(
      again.every((count) => count > 0),
      `undrain: ${drained} takes new requests again (${shares})`,
    );
  }

  const { end, results } = await settled(lab, driver, signal);
  const { report } = end;
  for (const line of [
    '',
    ...renderTable(end, services),
    '',
    ...renderServices(report, services),
    ...renderTotals(report),
    '',
  ])
    say(line);
  for (const { ok, text } of results) check(ok, text);
  const failed = sum(Object.values(report.phases).map((count) => count.failed));
  check(
    failed === 0,
    `${failed} of ${sum(Object.values(report.phases).map((count) => count.requests))} requests failed`,
  );
  const restarts = sum(lab.daemons.map((daemon) => daemon.restarts()));
  check(restarts === 0, `the daemon ended ${restarts} times`);
  return held;
}

/**
 * Stops the traffic and waits until the kernel's counters equal what the driver saw. Every request is one connection of
 * its service; a UDP request is one packet.
 */
async function settled(lab: Lab, driver: Driver, signal: AbortSignal): Promise<Settled> {
  const services = allServices(lab.topology);
  driver.command({ kind: 'stop' });
  const report = await driver.until(({ idle }) => idle, 10_000, signal);
  const sent = (service: string) =>
    sum(Object.values(report.phases).flatMap((count) => Object.values(count.backends[service] ?? {})));
  const deadline = Date.now() + 10_000;
  for (;;) {
    const counters = await readAllServices(lab, services);
    const pools = await readAllPools(lab);
    const results = services.map(({ service, protocol, pool }) => {
      const { connections = 0, packets = 0 } = counters[service] ?? ({} as Partial<ServiceStatus>);
      const ok = connections === sent(service) && (protocol === 'http' || packets === sent(service));
      return {
        ok,
        text: `kernel: ${service} (${pool}): ${connections} connections, ${packets} packets for ${sent(service)} requests`,
      };
    });
    for (const pool of labPools)
      for (const unit of ['packets', 'bytes'] as const) {
        const byService = sum(services.map((one) => (one.pool === pool ? (counters[one.service]?.[unit] ?? 0) : 0)));
        const byBackend = sum((pools[pool] ?? []).map(({ status }) => status[unit]));
        const text = `kernel: ${pool}: ${byService} ${unit} by service, ${byBackend} by backend`;
        results.push({ ok: byService === byBackend && byService > 0, text });
      }
    if (results.every(({ ok }) => ok) || Date.now() > deadline)
      return { end: { report, pools, phase: 'spread' }, results };
    await pause(200);
    signal.throwIfAborted();
  }
}
