// SPDX-License-Identifier: Apache-2.0
// Who is to be checked, and where. Pure.
import type { Pool, Service, Snapshot } from '../../model/objects.js';
import type { Subject } from './checker.js';

/** A port of each pool's services, for checks that do not say one: that of the first by name. By pool and protocol. */
export function servicePorts({ services }: Snapshot): Map<string, number> {
  const first = new Map<string, Service>();
  for (const { value } of services.values()) {
    const key = `${value.pool}/${value.protocol}`;
    const known = first.get(key);
    if (value.port !== 0 && (!known || value.name < known.name)) first.set(key, value);
  }
  return new Map([...first].map(([key, { port }]) => [key, port]));
}

/** The backends of this pool that can be checked, by name. Those that are disabled are left alone. */
export function subjectsOf(pool: Pool, ports: ReadonlyMap<string, number>): Map<string, Subject> {
  const { healthCheck: check, backends } = pool;
  const found = new Map<string, Subject>();
  if (!check) return found;
  const common = check.port ?? ports.get(`${pool.name}/${check.type === 'udp' ? 'udp' : 'tcp'}`);
  for (const { name, address, port: own, state } of backends) {
    const port = check.port ?? own ?? common;
    if (state !== 'disabled' && port !== undefined)
      found.set(name, { pool: pool.name, backend: name, check, address, port });
  }
  return found;
}

/** What makes one another one: then what is known of it counts no more. */
export const subjectKey = ({ check, address, port }: Subject): string => JSON.stringify([check, address, port]);
