// SPDX-License-Identifier: Apache-2.0
// Connections on which every byte is accounted for, through a lab's balancers.
import type { ChildProcess } from 'node:child_process';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { startInside, stopChild } from '../../src/lab/children.js';
import type { Lab } from '../../src/lab/daemon.js';
import type { CheckerCommand, CheckerReport } from './records.js';

export interface Checker {
  report(): CheckerReport;
  keep(long: number, short: number): Promise<void>;
  /** No connection is on these backends any more; until the next call, none that is met there is kept. */
  leave(backends: readonly string[]): Promise<void>;
  /** From now on what happens to connections at these backends is not counted. */
  excuse(backends: readonly string[]): void;
  /** Ends the server of a backend, and starts another. */
  restart(backend: string): Promise<void>;
  until(what: string, holds: (report: CheckerReport) => boolean, timeoutMs: number): Promise<void>;
}

const PORT = 7000;

/** Pools of the checker's own, by the family of their backends' addresses. */
export const POOLS = ['chaos4', 'chaos6'] as const;

/** Some of the lab's backends as members of one of these pools. */
export const membersOf = ({ topology }: Lab, pool: string, has: (at: number, count: number) => boolean) =>
  topology.backends
    .filter((_, at, all) => has(at, all.length))
    .map(({ name, address4, address6 }) => ({ name, address: pool === 'chaos4' ? address4 : address6 }));
const script = (name: string): string => fileURLToPath(new URL(name, import.meta.url));

/** Services on port 7000 of both VIPs, their pools, a server on each backend, and a client; all end with the lab. */
export async function openChecker(
  lab: Lab,
  forwarding: string,
  has: (at: number, count: number) => boolean,
): Promise<Checker> {
  const { client, vip4, vip6, backends } = lab.topology;
  const servers = new Map<string, ChildProcess>();
  const serve = async (name: string): Promise<void> => {
    const { namespace = '', address4 = '', address6 = '' } = backends.find((each) => each.name === name) ?? {};
    const places = [vip4, vip6, address4, address6]; // their own for NAT
    servers.set(name, await startInside(namespace, script('server.js'), [name, `${PORT}`, ...places]));
  };
  for (const { name } of backends) await serve(name);
  lab.onClose(async () => void (await Promise.all([...servers.values()].map((child) => stopChild(child, 500)))));
  for (const pool of POOLS) {
    await lab.daemon.api('PUT', `/api/v1/pools/${pool}`, { backends: membersOf(lab, pool, has) });
    const service = { address: pool === 'chaos4' ? vip4 : vip6, port: PORT, protocol: 'tcp', pool, forwarding };
    await lab.daemon.api('PUT', `/api/v1/services/${pool}?wait=applied`, service);
  }
  await settled(lab);
  const child = await startInside(client, script('client.js'), [`${PORT}`, vip4, vip6]);
  lab.onClose(() => stopChild(child, 500));
  let report: CheckerReport = { connections: 0, open: 0, byBackend: {}, records: 0, violations: [] };
  child.on('message', (message: CheckerReport) => {
    report = message;
  });
  const tell = (command: CheckerCommand): void => void child.send(command);
  const checker: Checker = {
    report: () => report,
    async keep(long, short) {
      tell({ kind: 'keep', long, short });
      await checker.until(`${long + short} connections`, ({ open }) => open >= (long + short) * 0.95, 20_000);
    },
    excuse: (names) => tell({ kind: 'leave', backends: names }),
    async leave(names) {
      tell({ kind: 'leave', backends: names });
      const left = ({ byBackend }: CheckerReport): boolean => names.every((name) => !byBackend[name]);
      await checker.until(`connections leave ${names}`, left, 15_000);
    },
    async restart(name) {
      const old = servers.get(name);
      if (old) await stopChild(old, 500);
      await serve(name);
    },
    async until(what, holds, timeoutMs) {
      for (const deadline = Date.now() + timeoutMs; !holds(report); await pause(50))
        if (Date.now() > deadline)
          throw new Error(`${what}: not within ${timeoutMs} ms: ${JSON.stringify(report.byBackend)}`);
    },
  };
  return checker;
}

/** Waits until every balancer has what the first one's store holds. */
export async function settled(lab: Lab): Promise<void> {
  type Status = { readonly appliedRevision: number; readonly store: { readonly revision: number } };
  const deadline = Date.now() + 20_000;
  // A daemon may just be starting.
  const status = async ({ api }: Lab['daemon'], holds: (status: Status) => boolean): Promise<Status> => {
    for (;;) {
      const answer = (await api('GET', '/api/v1/status').catch(() => null)) as Status | null;
      if (answer && holds(answer)) return answer;
      if (Date.now() > deadline) throw new Error(`not settled within 20 s: ${JSON.stringify(answer)}`);
      await pause(20);
    }
  };
  const { store } = await status(lab.daemon, () => true);
  for (const daemon of lab.daemons) await status(daemon, ({ appliedRevision }) => appliedRevision === store.revision);
}
