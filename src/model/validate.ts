// SPDX-License-Identifier: Apache-2.0
import { familyOf } from './address.js';
import type { Draft } from './check.js';
import { FairleadError, type FieldError } from './errors.js';
import { healthCheckProblems } from './health-schema.js';
import type { Pool, Service, Snapshot } from './objects.js';

/** What is wrong with a document: `invalid` in itself or for what it names, `conflict` with another object. */
export interface Problems {
  readonly invalid: readonly FieldError[];
  readonly conflict: readonly FieldError[];
}

/** Nobody reads more. */
const PROBLEMS_MAX = 200;

/** The smallest and the largest ring; a ring's size is a prime between them. */
export const ringSizes = { min: 251, max: 131071 } as const;

/** What is wrong with this service beside these objects. Looks only at the fields the draft has. */
export function serviceProblems(snapshot: Snapshot, draft: Draft<Service>): Problems {
  const invalid: FieldError[] = [];
  const conflict: FieldError[] = [];
  const { name, address, port, protocol, pool: poolName } = draft;
  if (poolName !== undefined) {
    if (!snapshot.pools.has(poolName)) invalid.push({ pointer: '/pool', detail: `pool "${poolName}" does not exist` });
    for (const { value: other } of snapshot.services.values()) {
      if (other.pool !== poolName || other.name === name || draft.forwarding === undefined) continue;
      if ((other.forwarding === 'l2') === (draft.forwarding === 'l2')) continue;
      invalid.push({
        pointer: '/forwarding',
        detail: `pool "${poolName}" is used by service "${other.name}" with ${other.forwarding}; l2 needs a pool of its own`,
      });
      break;
    }
  }
  invalid.push(...optionProblems(draft), ...familyProblem(snapshot, draft));
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

/** What does not go together within a service. */
function optionProblems(draft: Draft<Service>): FieldError[] {
  const { address, protocol, affinity, affinityPrefix, allow, deny } = draft;
  const found = natProblems(draft);
  if (affinity === 'quic-cid' && protocol === 'tcp')
    found.push({ pointer: '/affinity', detail: 'quic-cid is for protocol udp' });
  if (affinityPrefix !== undefined && affinity !== undefined && affinity !== 'source')
    found.push({ pointer: '/affinityPrefix', detail: `is for affinity source, the service has "${affinity}"` });
  if (address === undefined) return found;
  const family = familyOf(address);
  for (const [field, list] of Object.entries({ allow, deny })) {
    const seen = new Set<string>();
    for (const [at, prefix] of (list ?? []).entries()) {
      if (prefix === undefined) continue;
      const wrong = (detail: string) => found.push({ pointer: `/${field}/${at}`, detail });
      if (familyOf(prefix) !== family) wrong(`${prefix} is IPv${familyOf(prefix)}, the service is IPv${family}`);
      else if (seen.has(prefix)) wrong(`${prefix} is in the list already, at ${list?.indexOf(prefix)}`);
      else seen.add(prefix);
      if (found.length >= PROBLEMS_MAX) return found;
    }
  }
  return found;
}

/** What only NAT has, and what it has not. */
function natProblems({ address, protocol, forwarding, snat, mss, affinity, flowMemory }: Draft<Service>): FieldError[] {
  if (forwarding === undefined) return [];
  const found: FieldError[] = [];
  const wrong = (field: string, detail: string) => found.push({ pointer: `/${field}`, detail });
  if (forwarding !== 'nat') {
    for (const [field, value] of Object.entries({ snat, mss }))
      if (value !== undefined) wrong(field, `is for forwarding nat, the service has "${forwarding}"`);
    return found;
  }
  if (mss !== undefined && protocol === 'udp') wrong('mss', 'is for protocol tcp');
  if (affinity === 'quic-cid') wrong('affinity', 'quic-cid is not for forwarding nat');
  if (flowMemory === false) wrong('flowMemory', 'forwarding nat remembers every connection');
  if (!Array.isArray(snat)) return found;
  if (address !== undefined && snat.every((each) => familyOf(each) !== familyOf(address)))
    wrong('snat', `none of the addresses is IPv${familyOf(address)}, as the service is`);
  const seen = new Set<string>();
  for (const [at, each] of snat.entries()) {
    if (seen.has(each)) wrong(`snat/${at}`, `${each} is in the list already`);
    seen.add(each);
  }
  return found;
}

/** An IPv6 source cannot stay what it is before an IPv4 backend: the first member of that kind. */
function familyProblem(snapshot: Snapshot, { address, forwarding, snat, pool }: Draft<Service>): FieldError[] {
  if (forwarding !== 'nat' || snat !== 'none' || address === undefined || familyOf(address) === 4) return [];
  const other = snapshot.pools.get(pool ?? '')?.value.backends.find((each) => familyOf(each.address) === 4);
  if (!other) return [];
  return [
    {
      pointer: '/snat',
      detail: `backend "${other.name}" is IPv4: the address of an IPv6 client cannot stay, use auto or addresses`,
    },
  ];
}

/** Server IDs of a pool: one length for each config, and no ID twice. */
function serverIdProblems(draft: Draft<Pool>): FieldError[] {
  const found: FieldError[] = [];
  const sizes = new Map<number, number>();
  const owners = new Map<string, string>();
  for (const [i, backend] of (draft.backends ?? []).entries()) {
    const configs = new Set<number>();
    for (const [j, entry] of (backend?.serverIds ?? []).entries()) {
      const { config, id } = entry ?? {};
      if (config === undefined || id === undefined) continue;
      const wrong = (detail: string) => found.push({ pointer: `/backends/${i}/serverIds/${j}`, detail });
      const size = sizes.get(config) ?? id.length / 2;
      const owner = owners.get(`${config}:${id}`);
      if (configs.has(config)) wrong(`config ${config} is in the list already`);
      else if (size !== id.length / 2)
        wrong(`"${id}" has ${id.length / 2} bytes, others of config ${config} in the pool have ${size}`);
      else if (owner !== undefined) wrong(`"${id}" is the server ID of backend "${owner}" already`);
      configs.add(config);
      sizes.set(config, size);
      owners.set(`${config}:${id}`, backend?.name ?? '');
    }
  }
  return found;
}

/** What is wrong with this pool in itself. Looks only at the fields the draft has. */
export function poolProblems(_snapshot: Snapshot, draft: Draft<Pool>): Problems {
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
  for (const [i, backend] of (draft.backends ?? []).entries()) {
    const { name, address } = backend ?? {};
    const wrong = (field: string, detail: string) => invalid.push({ pointer: `/backends/${i}/${field}`, detail });
    if (name !== undefined && names.has(name)) wrong('name', `backend "${name}" is in the pool already`);
    if (name !== undefined) names.add(name);
    if (address === undefined) continue;
    const owner = addresses.get(address);
    if (owner !== undefined) wrong('address', `${address} is the address of backend "${owner}" already`);
    else addresses.set(address, name ?? '');
  }
  invalid.push(...serverIdProblems(draft), ...(draft.healthCheck ? healthCheckProblems(draft.healthCheck) : []));
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

function isPrime(n: number): boolean {
  for (let d = 2; d * d <= n; d++) if (n % d === 0) return false;
  return n > 1;
}
