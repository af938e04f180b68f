// SPDX-License-Identifier: Apache-2.0
// Who is to be checked, and where. Pure.
import type { Pool, Service, Snapshot } from '../../model/objects.js';
import type { Subject } from './checker.js';

/** The services of each pool, by name in order. */
export function servicesByPool({ services }: Snapshot): Map<string, readonly Service[]> {
  const found = new Map<string, Service[]>();
  for (const { value } of services.values()) {
    const known = found.get(value.pool);
    if (known) known.push(value);
    else found.set(value.pool, [value]);
  }
  for (const list of found.values()) list.sort((a, b) => (a.name < b.name ? -1 : 1));
  return found;
}

/**
 * The backends of this pool that can be checked, by name. Those that are disabled are left alone. A check that says no port has the backend's own, or that of the first service by name; one through
 * the tunnel goes to the first service that has one, and no NAT.
 */
export function subjectsOf(pool: Pool, services: readonly Service[]): Map<string, Subject> {
  const { healthCheck: check, backends } = pool;
  const found = new Map<string, Subject>();
  if (!check) return found;
  const fitting = services.filter(({ protocol }) => protocol === (check.type === 'udp' ? 'udp' : 'tcp'));
  const port = check.port ?? fitting.find((service) => service.port !== 0)?.port;
  const common = { pool: pool.name, check };
  const tunnelled = fitting.filter(({ forwarding }) => forwarding !== 'nat');
  const vip = tunnelled.find((service) => service.port === port) ?? tunnelled[0];
  for (const { name, address, port: own, state } of backends) {
    if (state === 'disabled') continue;
    if (check.via === 'direct') {
      const at = check.port ?? own ?? port;
      if (at !== undefined) found.set(name, { ...common, backend: name, address, port: at, through: null });
    } else if (vip && port !== undefined) {
      const through = { pool: pool.name, address, forwarding: vip.forwarding };
      found.set(name, { ...common, backend: name, address: vip.address, port, through });
    }
  }
  return found;
}

/** Where it is, whatever is asked there. */
export const placeOf = ({ address, through }: Subject): string => through?.address ?? address;

/** What makes one another one: then what is known of it counts no more. */
export const subjectKey = ({ check, address, port, through }: Subject): string =>
  JSON.stringify([check, address, port, through]);
