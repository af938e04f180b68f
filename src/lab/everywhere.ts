// SPDX-License-Identifier: Apache-2.0
// All balancers of a lab taken together.
import { setTimeout as pause } from 'node:timers/promises';
import { FairleadError } from '../model/errors.js';
import type { ServiceStatus } from '../model/node-view.js';
import type { Lab } from './daemon.js';
import { type BackendView, type LabService, readPools, readServices } from './objects.js';

type Traffic = Pick<ServiceStatus, 'flows' | 'packets' | 'bytes' | 'connections'>;

const added = <T extends Traffic>(one: T, other: Traffic | undefined): T => ({
  ...one,
  flows: one.flows + (other?.flows ?? 0),
  packets: one.packets + (other?.packets ?? 0),
  bytes: one.bytes + (other?.bytes ?? 0),
  connections: one.connections + (other?.connections ?? 0),
});

/** As readPools; what was counted is summed over all balancers, the rest is as the first has it. */
export async function readAllPools({ daemons }: Lab): Promise<Readonly<Record<string, readonly BackendView[]>>> {
  const [first = {}, ...others] = await Promise.all(daemons.map(({ api }) => readPools(api)));
  const views = Object.entries(first).map(([pool, backends]) => [
    pool,
    backends.map(({ name, status }) => ({
      name,
      status: others.reduce(
        (sum, other) => added(sum, other[pool]?.find((each) => each.name === name)?.status),
        status,
      ),
    })),
  ]);
  return Object.fromEntries(views);
}

/** As readServices, summed over all balancers. */
export async function readAllServices(
  { daemons, topology }: Lab,
  services: readonly LabService[],
): Promise<Readonly<Record<string, ServiceStatus>>> {
  const [first = {}, ...others] = await Promise.all(daemons.map(({ api }) => readServices(api, topology, services)));
  return Object.fromEntries(
    Object.entries(first).map(([name, status]) => [
      name,
      others.reduce((sum, other) => added(sum, other[name]), status),
    ]),
  );
}

/** Waits until every balancer has what is in the first one's store now. Throws 'unavailable' after 20 s. */
export async function appliedEverywhere({ daemon, daemons }: Lab): Promise<void> {
  type Status = { readonly appliedRevision: number; readonly store: { readonly revision: number } };
  const deadline = Date.now() + 20_000;
  // A daemon may just be starting.
  const status = async ({ api }: Lab['daemon'], holds: (status: Status) => boolean): Promise<Status> => {
    for (;;) {
      const answer = (await api('GET', '/api/v1/status').catch(() => null)) as Status | null;
      if (answer && holds(answer)) return answer;
      if (Date.now() > deadline)
        throw new FairleadError(
          'unavailable',
          `the balancers do not have the same within 20 s: ${JSON.stringify(answer)}`,
        );
      await pause(20);
    }
  };
  const { store } = await status(daemon, () => true);
  for (const each of daemons) await status(each, ({ appliedRevision }) => appliedRevision === store.revision);
}
