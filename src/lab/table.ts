// SPDX-License-Identifier: Apache-2.0
import { type BackendView, type LabService, labPools } from './objects.js';
import type { DriverReport, PhaseCount } from './traffic.js';

/** What the lab knows at one moment: the driver's counts, and per pool what the API says of its backends. */
export interface Observation {
  readonly report: DriverReport;
  readonly pools: Readonly<Record<string, readonly BackendView[]>>;
  readonly phase: string; // whose answers make the share got
}

/** Answers per backend name of one pool in one phase, over the pool's services. */
export function answersOf(
  count: PhaseCount | undefined,
  services: readonly LabService[],
  pool: string,
): ReadonlyMap<string, number> {
  const answers = new Map<string, number>();
  for (const { service } of services.filter((candidate) => candidate.pool === pool))
    for (const [backend, number] of Object.entries(count?.backends[service] ?? {}))
      answers.set(backend, (answers.get(backend) ?? 0) + number);
  return answers;
}

/**
 * The table per backend, one string per line, at most 80 columns: requests answered over all phases, packets and bytes
 * by the kernel's count over both pools, and per pool the share wanted by the ring's weights and got in `phase`.
 */
export function renderTable(now: Observation, services: readonly LabService[]): readonly string[] {
  const names = [...new Set(labPools.flatMap((pool) => (now.pools[pool] ?? []).map(({ name }) => name)))];
  const phases = Object.values(now.report.phases);
  const shares = labPools.map((pool) => {
    const answers = answersOf(now.report.phases[now.phase], services, pool);
    const total = sum([...answers.values()]);
    const wanted = new Map((now.pools[pool] ?? []).map(({ name, status }) => [name, status.shareWanted]));
    return (name: string) => [
      percent(wanted.get(name) ?? 0),
      total === 0 ? '-' : percent((answers.get(name) ?? 0) / total),
    ];
  });
  const rows = names.sort(byNumber).map((name) => {
    const views = labPools.flatMap((pool) => (now.pools[pool] ?? []).filter((view) => view.name === name));
    const requests = labPools.flatMap((pool) => phases.map((count) => answersOf(count, services, pool).get(name) ?? 0));
    return [
      name,
      `${sum(requests)}`,
      `${sum(views.map(({ status }) => status.packets))}`,
      `${sum(views.map(({ status }) => status.bytes))}`,
      ...shares.flatMap((share) => share(name)),
    ];
  });
  const head = ['BACKEND', 'REQUESTS', 'PACKETS', 'BYTES', ...labPools.flatMap((pool) => [`${pool} WANTED`, 'GOT'])];
  const widths = head.map((title, column) => Math.max(title.length, ...rows.map((row) => (row[column] ?? '').length)));
  return [head, ...rows].map((row) =>
    row
      .map((cell, column) => (column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0)))
      .join('  '),
  );
}

/** Requests answered by service over all phases, one line for each way to forward. */
export function renderServices({ phases }: DriverReport, services: readonly LabService[]): readonly string[] {
  const answered = (service: string): number =>
    sum(Object.values(phases).flatMap((count) => Object.values(count.backends[service] ?? {})));
  return [...new Set(services.map(({ forwarding }) => forwarding))].map((way) => {
    const own = services.filter(({ forwarding }) => forwarding === way);
    return `${way}: ${own.map(({ service }) => `${service} ${answered(service)}`).join(', ')}`;
  });
}

/** The sum line below the table. */
export function renderTotals({ phases, errors }: DriverReport): readonly string[] {
  const counts = Object.values(phases);
  const failed = sum(counts.map((count) => count.failed));
  const total = `${sum(counts.map((count) => count.requests))} requests, ${failed} failed`;
  return failed === 0 ? [total] : [total, ...errors.map((error) => `  ${error}`)];
}

/** The sum of the numbers. */
export function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}

function percent(share: number): string {
  return `${(share * 100).toFixed(1)}%`;
}

function byNumber(left: string, right: string): number {
  return left.localeCompare(right, 'en', { numeric: true });
}
