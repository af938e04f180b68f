// SPDX-License-Identifier: Apache-2.0
import { familyOf } from './address.js';
import type { Draft } from './check.js';
import { FairleadError, type FieldError } from './errors.js';
import type { Pool, Service, Snapshot } from './objects.js';

/** What is wrong with a document: `invalid` in itself or for what it names, `conflict` with another object. */
export interface Problems {
  readonly invalid: readonly FieldError[];
  readonly conflict: readonly FieldError[];
}

/** The smallest and the largest ring; a ring's size is a prime between them. */
export const ringSizes = { min: 251, max: 131071 } as const;

/** What is wrong with this service beside these objects. Looks only at the fields the draft has. */
export function serviceProblems(snapshot: Snapshot, draft: Draft<Service>): Problems {
  const invalid: FieldError[] = [];
  const conflict: FieldError[] = [];
  const { name, address, port, protocol, pool: poolName } = draft;
  if (poolName !== undefined) {
    const pool = snapshot.pools.get(poolName)?.value;
    const [backend] = pool?.backends ?? [];
    if (pool === undefined) {
      invalid.push({ pointer: '/pool', detail: `pool "${poolName}" does not exist` });
    } else if (address !== undefined && backend !== undefined && familyOf(backend.address) !== familyOf(address)) {
      invalid.push({
        pointer: '/pool',
        detail: `pool "${poolName}" has IPv${familyOf(backend.address)} backends, the service is IPv${familyOf(address)}; this version needs one family`,
      });
    }
  }
  if (address !== undefined && port !== undefined && protocol !== undefined) {
    for (const { value: other } of snapshot.services.values()) {
      if (other.name === name || other.address !== address || other.port !== port || other.protocol !== protocol)
        continue;
      conflict.push({
        pointer: '/address',
        detail: `${protocol} ${address} port ${port} belongs to service "${other.name}"`,
      });
    }
  }
  return { invalid, conflict };
}

/** What is wrong with this pool in itself and for the services that use it. Looks only at the fields the draft has. */
export function poolProblems(snapshot: Snapshot, draft: Draft<Pool>): Problems {
  const size = draft.ring?.size ?? 0;
  const invalid: FieldError[] = [];
  if (size !== 0 && (size < ringSizes.min || !isPrime(size))) {
    invalid.push({
      pointer: '/ring/size',
      detail: `${size} is not a ring size; use 0 or a prime from ${ringSizes.min} to ${ringSizes.max}`,
    });
  }
  const names = new Set<string>();
  const addresses = new Map<string, string>();
  const wanted = wantedFamily(snapshot, draft);
  for (const [i, backend] of (draft.backends ?? []).entries()) {
    const { name, address } = backend ?? {};
    const wrong = (field: string, detail: string) => invalid.push({ pointer: `/backends/${i}/${field}`, detail });
    if (name !== undefined && names.has(name)) wrong('name', `backend "${name}" is in the pool already`);
    if (name !== undefined) names.add(name);
    if (address === undefined) continue;
    const owner = addresses.get(address);
    if (owner !== undefined) wrong('address', `${address} is the address of backend "${owner}" already`);
    else addresses.set(address, name ?? '');
    if (wanted !== null && familyOf(address) !== wanted.family) {
      wrong(
        'address',
        `${address} is IPv${familyOf(address)}, ${wanted.because} IPv${wanted.family}; this version needs one family`,
      );
    }
  }
  return { invalid, conflict: [] };
}

/** The names of the services that send to this pool, sorted. */
export function servicesOf(snapshot: Snapshot, pool: string): string[] {
  const users = [...snapshot.services.values()].filter(({ value }) => value.pool === pool);
  return users.map(({ value }) => value.name).sort();
}

/** Throws when there is a problem: 'invalid' with all of them, or 'conflict' when nothing but conflicts is left. */
export function refuse(what: string, { invalid, conflict }: Problems): void {
  const fields = [...invalid, ...conflict];
  if (fields.length === 0) return;
  const rest = fields.length > 3 ? `; and ${fields.length - 3} more` : '';
  const text = fields.slice(0, 3).map(({ pointer, detail }) => (pointer === '' ? detail : `${pointer}: ${detail}`));
  throw new FairleadError(invalid.length > 0 ? 'invalid' : 'conflict', `${what}: ${text.join('; ')}${rest}`, fields);
}

// A pool's services decide; without one, its first backend does.
function wantedFamily(snapshot: Snapshot, draft: Draft<Pool>): { family: 4 | 6; because: string } | null {
  for (const { value } of snapshot.services.values()) {
    if (value.pool === draft.name) return { family: familyOf(value.address), because: `service "${value.name}" is` };
  }
  const first = draft.backends?.find((backend) => backend?.address !== undefined);
  return first?.address === undefined ? null : { family: familyOf(first.address), because: 'the first backend is' };
}

function isPrime(n: number): boolean {
  for (let d = 2; d * d <= n; d++) if (n % d === 0) return false;
  return n > 1;
}
