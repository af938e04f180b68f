// SPDX-License-Identifier: Apache-2.0
// All services and pools at once: what the store is to hold, as one document.
import { isDeepStrictEqual } from 'node:util';
import { type Draft, isRecord } from '../model/check.js';
import { FairleadError, type FieldError } from '../model/errors.js';
import type { Snapshot, Stored } from '../model/objects.js';
import { type Problems, refuse } from '../model/validate.js';
import { type Kind, poolKind, readNamed, serviceKind } from './commands.js';
import type { Change } from './store.js';

/** What was read of one kind: the objects without a problem, every name that was given, and the problems. */
interface Read<T> {
  readonly values: Map<string, T>;
  /** As written: places in it are those of the document. */
  readonly drafts: Map<string, Draft<T>>;
  readonly names: Set<string>;
  readonly fields: FieldError[];
  readonly at: Map<string, number>; // places in the list
}

function readAll<T extends { readonly name: string }>(kind: Kind<T>, list: unknown, path: string): Read<T> {
  const read: Read<T> = { values: new Map(), drafts: new Map(), names: new Set(), fields: [], at: new Map() };
  if (!Array.isArray(list)) {
    if (list !== undefined) read.fields.push({ pointer: path, detail: `wanted an array of ${kind.noun}s` });
    return read;
  }
  for (const [at, document] of list.entries()) {
    const { draft, fields } = kind.read(readNamed(document));
    const { name } = draft as { readonly name?: string };
    read.fields.push(...fields.map((field) => ({ ...field, pointer: `${path}/${at}${field.pointer}` })));
    if (name === undefined) continue;
    if (read.names.has(name)) {
      read.fields.push({ pointer: `${path}/${at}/name`, detail: `${kind.noun} "${name}" is in the list already` });
      continue;
    }
    read.names.add(name);
    read.at.set(name, at);
    if (fields.length > 0) continue;
    read.values.set(name, kind.stored(draft as T));
    read.drafts.set(name, draft);
  }
  return read;
}

/** The objects as they will be: those given, and with `keep` those there are beside them. */
function together<T>(now: ReadonlyMap<string, Stored<T>>, given: ReadonlyMap<string, T>, keep: boolean) {
  const next = new Map<string, Stored<T>>(keep ? now : []);
  for (const [name, value] of given) next.set(name, { value, revision: now.get(name)?.revision ?? 0 });
  return next;
}

function* changesOf<T extends { readonly name: string }>(
  kind: Kind<T>,
  snapshot: Snapshot,
  next: ReadonlyMap<string, Stored<T>>,
): Generator<Change> {
  const now = kind.all(snapshot);
  for (const [name, { value }] of next)
    if (!isDeepStrictEqual(now.get(name)?.value, value)) yield kind.change(name, value);
  for (const name of now.keys()) if (!next.has(name)) yield kind.change(name, null);
}

/**
 * Makes services and pools what the document `{ services: [...], pools: [...] }` says: what is not in it goes, or with `keep` stays. The objects are
 * checked as they will be together. Throws 'invalid' or 'conflict' with every problem; pointers are into the document.
 */
export function replaceAll(snapshot: Snapshot, document: unknown, keep: boolean): readonly Change[] {
  if (!isRecord(document)) {
    const detail = 'wanted an object with "services" and "pools"';
    throw new FairleadError('invalid', `configuration: ${detail}`, [{ pointer: '', detail }]);
  }
  const { services: serviceList, pools: poolList, revision: _revision, ...others } = document;
  const invalid: FieldError[] = Object.keys(others).map((field) => ({
    pointer: `/${field.replaceAll('~', '~0').replaceAll('/', '~1')}`,
    detail: `unknown field "${field}"`,
  }));
  const conflict: FieldError[] = [];
  if (serviceList === undefined && poolList === undefined)
    invalid.push({ pointer: '', detail: 'wanted "services" or "pools"; empty arrays delete everything' });
  const pools = readAll(poolKind, poolList, '/pools');
  const services = readAll(serviceKind, serviceList, '/services');
  invalid.push(...pools.fields, ...services.fields);

  const next: Snapshot = {
    ...snapshot,
    pools: together(snapshot.pools, pools.values, keep),
    services: together(snapshot.services, services.values, keep),
  };
  const take = (path: string, problems: Problems): void => {
    const moved = (fields: readonly FieldError[]) => fields.map((each) => ({ ...each, pointer: path + each.pointer }));
    invalid.push(...moved(problems.invalid));
    conflict.push(...moved(problems.conflict));
  };
  for (const [name, draft] of pools.drafts) take(`/pools/${pools.at.get(name)}`, poolKind.problems(next, draft));
  for (const [name, draft] of services.drafts) {
    // A pool with problems of its own is told once.
    const { pool = '' } = draft;
    const isTold = pools.names.has(pool) && !pools.values.has(pool);
    if (!isTold) take(`/services/${services.at.get(name)}`, serviceKind.problems(next, draft));
  }
  refuse('configuration', { invalid, conflict });
  return [...changesOf(poolKind, snapshot, next.pools), ...changesOf(serviceKind, snapshot, next.services)];
}
