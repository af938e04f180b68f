// SPDX-License-Identifier: Apache-2.0
import { isDeepStrictEqual } from 'node:util';
import { type Draft, isRecord, type Reading } from '../model/check.js';
import { FairleadError, type FieldError } from '../model/errors.js';
import { mergePatch } from '../model/merge-patch.js';
import type { Backend, Pool, Service, Snapshot, Stored } from '../model/objects.js';
import { readBackend, readDrain, readPool, readService } from '../model/schema.js';
import { type Problems, poolProblems, refuse, serviceProblems, servicesOf } from '../model/validate.js';
import type { Change } from './store.js';

/** What the commands need to know of a kind of object. */
export interface Kind<T extends { readonly name: string }> {
  readonly noun: Exclude<Change['kind'], 'health'>;
  all(snapshot: Snapshot): ReadonlyMap<string, Stored<T>>;
  read(input: unknown): Reading<T>;
  problems(snapshot: Snapshot, draft: Draft<T>): Problems;
  /** The form that is stored. */
  stored(value: T): T;
  change(name: string, value: T | null): Change;
  /** What stands against deleting it, or null. */
  heldBy(snapshot: Snapshot, name: string): string | null;
}

export const serviceKind: Kind<Service> = {
  noun: 'service',
  all: (snapshot) => snapshot.services,
  read: readService,
  problems: serviceProblems,
  stored: (value) => value,
  change: (name, value) => ({ kind: 'service', name, value }),
  heldBy: () => null,
};

export const poolKind: Kind<Pool> = {
  noun: 'pool',
  all: (snapshot) => snapshot.pools,
  read: readPool,
  problems: poolProblems,
  stored: (value) => ({
    ...value,
    backends: value.backends.map(withoutOldDrain).toSorted((a, b) => (a.name < b.name ? -1 : 1)),
  }),
  change: (name, value) => ({ kind: 'pool', name, value }),
  heldBy(snapshot, name) {
    const users = servicesOf(snapshot, name).map((user) => `"${user}"`);
    if (users.length === 0) return null;
    return users.length === 1 ? `service ${users[0]} uses it` : `services ${users.join(', ')} use it`;
  },
};

/** A drain goes with its state. */
function withoutOldDrain(backend: Backend): Backend {
  if (backend.state === 'drain' || backend.drain === undefined) return backend;
  const { drain: _, ...others } = backend;
  return others;
}

/** The object of this name; throws 'not-found'. */
export function get<T extends { readonly name: string }>(kind: Kind<T>, snapshot: Snapshot, name: string): Stored<T> {
  const found = kind.all(snapshot).get(name);
  if (found === undefined) throw new FairleadError('not-found', `${kind.noun} "${name}" does not exist`);
  return found;
}

/**
 * Makes the object what the document says. No change when it is that already. `name` may be left out of the document;
 * `revision` and `status` may be in it, as in what the API answers, and are ignored. Throws 'invalid' or 'conflict' with every problem.
 */
export function put<T extends { readonly name: string }>(
  kind: Kind<T>,
  snapshot: Snapshot,
  name: string,
  document: unknown,
): readonly Change[] {
  const { draft, fields } = kind.read(named(document, name));
  const { invalid, conflict } = kind.problems(snapshot, { ...draft, name }); // even when the document says another
  refuse(`${kind.noun} "${name}"`, { invalid: [...fields, ...otherName(draft, name), ...invalid], conflict });
  const value = kind.stored(draft as T);
  return isDeepStrictEqual(kind.all(snapshot).get(name)?.value, value) ? [] : [kind.change(name, value)];
}

/** Applies a JSON merge patch (RFC 7396) to the object; otherwise as `put`. Throws 'not-found' too. */
export function patch<T extends { readonly name: string }>(
  kind: Kind<T>,
  snapshot: Snapshot,
  name: string,
  document: unknown,
): readonly Change[] {
  return put(kind, snapshot, name, mergePatch(get(kind, snapshot, name).value, document));
}

/** Deletes the object. Throws 'not-found', or 'conflict' that names what uses it. */
export function remove<T extends { readonly name: string }>(
  kind: Kind<T>,
  snapshot: Snapshot,
  name: string,
): readonly Change[] {
  get(kind, snapshot, name);
  const holder = kind.heldBy(snapshot, name);
  if (holder !== null) throw new FairleadError('conflict', `delete ${kind.noun} "${name}": ${holder}`);
  return [kind.change(name, null)];
}

/** The backend of this name and the pool's revision, which is its own; throws 'not-found'. */
export function getBackend(snapshot: Snapshot, pool: string, name: string): Stored<Backend> {
  const { value, revision } = get(poolKind, snapshot, pool);
  const found = value.backends.find((each) => each.name === name);
  if (found === undefined) throw new FairleadError('not-found', `backend "${name}" is not in pool "${pool}"`);
  return { value: found, revision };
}

/** As `put`, for one backend of a pool that exists; pointers are into the backend's document. */
export function putBackend(snapshot: Snapshot, poolName: string, name: string, document: unknown): readonly Change[] {
  const { value: pool } = get(poolKind, snapshot, poolName);
  const { draft, fields } = readBackend(named(document, name));
  const others = pool.backends.filter((each) => each.name !== name);
  // Last, so that what it shares with another backend is reported as its own problem.
  const { invalid } = poolProblems(snapshot, { ...pool, backends: [...others, { ...draft, name }] });
  const own = invalid.map(({ pointer, detail }) => ({ pointer: pointer.replace(/^\/backends\/\d+/, ''), detail }));
  refuse(`backend "${name}"`, { invalid: [...fields, ...otherName(draft, name), ...own], conflict: [] });
  return put(poolKind, snapshot, poolName, { ...pool, backends: [...others, draft] });
}

/** As `patch`, for one backend of a pool. */
export function patchBackend(snapshot: Snapshot, pool: string, name: string, document: unknown): readonly Change[] {
  return putBackend(snapshot, pool, name, mergePatch(getBackend(snapshot, pool, name).value, document));
}

/**
 * Gives the backend no new flow, from now on and until `undrain`; what is left after `deadlineSeconds` is cut off. One that drains already goes on as it
 * was, with the new deadline if there is one. `document`: DrainBody, or nothing. `now`: Unix ms.
 */
export function drainBackend(
  snapshot: Snapshot,
  pool: string,
  name: string,
  document: unknown,
  now: number,
): readonly Change[] {
  const { draft, fields } = readDrain(document ?? {});
  refuse(`drain of backend "${name}"`, { invalid: fields, conflict: [] });
  const { value } = getBackend(snapshot, pool, name);
  const { deadlineSeconds } = draft;
  const time = (at: number): string => new Date(at).toISOString();
  const drain = {
    since: time(now),
    ...(value.state === 'drain' ? value.drain : {}),
    ...(deadlineSeconds === undefined ? {} : { deadline: time(now + deadlineSeconds * 1000) }),
  };
  return patchBackend(snapshot, pool, name, { state: 'drain', drain });
}

/** Takes one backend out of a pool. */
export function removeBackend(snapshot: Snapshot, poolName: string, name: string): readonly Change[] {
  getBackend(snapshot, poolName, name);
  const { value: pool } = get(poolKind, snapshot, poolName);
  return put(poolKind, snapshot, poolName, { ...pool, backends: pool.backends.filter((each) => each.name !== name) });
}

/** A document without what the API adds when it shows it. */
export function readNamed(document: unknown): unknown {
  if (!isRecord(document)) return document;
  const { revision: _revision, status: _status, ...fields } = document;
  return fields;
}

function named(document: unknown, name: string): unknown {
  const fields = readNamed(document);
  return isRecord(fields) ? { name, ...fields } : fields;
}

function otherName(draft: { readonly name?: unknown }, name: string): FieldError[] {
  if (draft.name === undefined || draft.name === name) return [];
  return [
    { pointer: '/name', detail: `"${draft.name}" is not the name in the path, "${name}"; an object cannot be renamed` },
  ];
}
