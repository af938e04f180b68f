// SPDX-License-Identifier: Apache-2.0
// Documents in etcd, and the snapshot they make. Pure, but for letting the event loop turn.
import { isRecord, type Reading } from '../../model/check.js';
import { type FieldError, messageOf } from '../../model/errors.js';
import type { Pool, PoolHealth, RingLog, Service, Snapshot, Stored, StoredPool } from '../../model/objects.js';
import { readPool, readService } from '../../model/schema.js';
import { poolProblems, serviceProblems, servicesOf } from '../../model/validate.js';
import { digestOf, readHealth, type WrittenHealth } from '../health-file.js';
import { logProblems } from '../ring-log.js';
import { readLog } from '../ring-log-file.js';
import { slices } from '../slices.js';
import type { Keys } from './keys.js';

/** A document that is not in force, and why: the last good one of its key is, if there was one. */
export interface Skipped {
  /** Null: its deletion is what cannot be done. */
  readonly value: string | null;
  readonly revision: number;
  readonly detail: string;
}

/** What is in force, and what is not. `skipped` is by key. */
export interface Documents {
  readonly snapshot: Snapshot;
  readonly skipped: ReadonlyMap<string, Skipped>;
}

/** The newest state of a key: `value` null is deleted. */
export interface Update {
  readonly value: string | null;
  readonly revision: number;
}

/** The text of a service as etcd holds it. */
export const serviceText = (service: Service, writeId: string): string => JSON.stringify({ ...service, writeId });

/** The text of a pool, the log of its members in it, and their health; `isEdited` false: only that was changed, and the pool's revision is to stay. */
export function poolText({ value, log, health, revision }: StoredPool, writeId: string, isEdited = true): string {
  const seen = health && { ...health, ...(!isEdited && { revision, digest: digestOf(value) }) };
  return JSON.stringify({ ...value, ...(seen && { health: seen }), ...(log && { ringLog: log }), writeId });
}

/** The store's revision of an object that is in force: what the newest write of its key has. */
export const writtenAt = (stored: Stored<unknown> & { readonly written?: number }): number =>
  stored.written ?? stored.revision;

/** The id of the write that made a document; null when it says none. */
export function writeIdOf(text: string): string | null {
  try {
    const value: unknown = JSON.parse(text);
    return isRecord(value) && typeof value.writeId === 'string' ? value.writeId : null;
  } catch {
    return null;
  }
}

/** The revision of what is known of a key, in force or not; 0 when there is nothing. */
export function knownRevision({ snapshot, skipped }: Documents, keys: Keys, key: string): number {
  const { kind, name } = keys.parse(key) ?? { kind: null, name: '' };
  const inForce = kind === null ? undefined : (kind === 'pool' ? snapshot.pools : snapshot.services).get(name);
  return Math.max(inForce ? writtenAt(inForce) : 0, skipped.get(key)?.revision ?? 0);
}

/**
 * `now` with these updates, and with what was skipped if it can be taken now. Documents are taken together: two services may exchange
 * addresses. The snapshot is the same object when nothing in it changed; its revision is left to the caller.
 */
export async function take(now: Documents, keys: Keys, updates: ReadonlyMap<string, Update>): Promise<Documents> {
  const pause = slices();
  const wanted = new Map<string, Update>(now.skipped);
  for (const [key, update] of updates) wanted.set(key, update);
  if (wanted.size === 0) return now;
  const pools = new Map(now.snapshot.pools);
  const services = new Map(now.snapshot.services);
  const next: Snapshot = { ...now.snapshot, pools, services };
  const skipped = new Map<string, Skipped>();
  const put: { readonly key: string; readonly name: string; readonly stored: Stored<Service> | null }[] = [];
  const before = new Map<string, Stored<Service>>();
  const skip = (key: string, { value, revision }: Update, fields: readonly FieldError[]): void => {
    const [first] = fields;
    const detail = first ? [first.pointer, first.detail].filter((part) => part !== '').join(': ') : '';
    skipped.set(key, { value, revision, detail });
  };

  for (const [key, update] of wanted) {
    const { kind, name } = keys.parse(key) ?? { kind: null, name: '' };
    if (kind === 'pool' && update.value !== null) {
      const { stored, fields } = readStoredPool(name, update.value, update.revision);
      if (stored === null) skip(key, update, fields);
      else if (!isSame(pools.get(name), stored)) pools.set(name, stored);
    } else if (kind === 'service') {
      const old = services.get(name);
      if (old) before.set(name, old);
      services.delete(name); // for now: what it becomes is looked at beside what the others become
      if (update.value !== null) {
        const { stored, fields } = readStoredService(name, update.value, update.revision);
        if (stored === null) skip(key, update, fields);
        put.push({ key, name, stored });
      }
    }
    await pause();
  }
  const beside = openNeighbours(next);
  const add = (name: string, stored: Stored<Service>): readonly FieldError[] => {
    const { invalid, conflict } = serviceProblems(beside.of(stored.value), stored.value);
    const fields = [...invalid, ...conflict];
    if (fields.length > 0) return fields;
    const old = before.get(name);
    services.set(name, old && isSame(old, stored) ? old : stored);
    beside.add(stored.value);
    return [];
  };
  for (const { key, name, stored } of put) {
    if (stored === null) continue;
    const fields = add(name, stored);
    if (fields.length > 0) skip(key, { value: wanted.get(key)?.value ?? null, revision: stored.revision }, fields);
    await pause();
  }
  for (const { name } of put) {
    const old = before.get(name);
    if (old && !services.has(name)) add(name, old); // the last good one stays in force, if it can
    await pause();
  }
  for (const [key, update] of wanted) {
    const { kind, name } = keys.parse(key) ?? { kind: null, name: '' };
    if (kind !== 'pool' || update.value !== null || !pools.has(name)) continue;
    const [user] = servicesOf(next, name);
    if (user === undefined) pools.delete(name);
    else skip(key, update, [{ pointer: '', detail: `deleted, but service "${user}" uses it` }]);
    await pause();
  }
  const isChanged = differ(now.snapshot.pools, pools) || differ(now.snapshot.services, services);
  return { snapshot: isChanged ? next : now.snapshot, skipped };
}

type Taken<T> = { readonly stored: T | null; readonly fields: readonly FieldError[] };

/** A document without what the store adds, and its name put in where it is left out. */
function open(
  name: string,
  text: string,
): { readonly body: Record<string, unknown>; readonly fields: readonly FieldError[] } {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    return { body: {}, fields: [{ pointer: '', detail: messageOf(error) }] };
  }
  if (!isRecord(value)) return { body: {}, fields: [{ pointer: '', detail: 'is not a JSON object' }] };
  const { writeId: _, ...body }: Record<string, unknown> = { name, ...value };
  if (body.name === name) return { body, fields: [] };
  return { body, fields: [{ pointer: '/name', detail: `is ${JSON.stringify(body.name)}, the key says "${name}"` }] };
}

function readStoredService(name: string, text: string, revision: number): Taken<Stored<Service>> {
  const { body, fields } = open(name, text);
  if (fields.length > 0) return { stored: null, fields };
  const read = readService(body);
  return read.fields.length > 0
    ? { stored: null, fields: read.fields }
    : { stored: { value: whole(read), revision }, fields };
}

function readStoredPool(name: string, text: string, written: number): Taken<StoredPool> {
  const { body: all, fields } = open(name, text);
  if (fields.length > 0) return { stored: null, fields };
  const { ringLog, health: seen, ...body } = all;
  const read = readPool(body);
  const wrong = [...read.fields, ...poolProblems({} as Snapshot, read.draft).invalid];
  if (wrong.length > 0) return { stored: null, fields: wrong };
  const value = whole<Pool>(read);
  const wrongIn = (field: string, problems: readonly FieldError[]): Taken<StoredPool> => ({
    stored: null,
    fields: problems.map(({ pointer, detail }) => ({ pointer: `/${field}${pointer}`, detail })),
  });
  const readSeen = seen === undefined ? null : readHealth(seen, value);
  if (readSeen && readSeen.fields.length > 0) return wrongIn('health', readSeen.fields);
  const known: StoredPool = {
    value,
    ...(readSeen ? revisions(whole(readSeen), value, written) : { revision: written }),
  };
  if (ringLog === undefined) return { stored: known, fields };
  const readRingLog = readLog(ringLog);
  const log = whole<RingLog>(readRingLog);
  const problems = readRingLog.fields.length > 0 ? readRingLog.fields : logProblems(log, value, known.health);
  return problems.length > 0 ? wrongIn('ringLog', problems) : { stored: { ...known, log }, fields };
}

/** A pool that was edited by other hands since its health was written has the revision of that edit. */
function revisions({ revision = 0, digest, ...health }: WrittenHealth, pool: Pool, written: number) {
  const isOld = revision > 0 && revision < written && digest === digestOf(pool);
  return { health: health as PoolHealth, ...(isOld ? { revision, written } : { revision: written }) };
}

const whole = <T>({ draft }: Reading<T>): T => draft as T; // it has no wrong fields

/** The same document at the same revision: then the object stays the one it is, with all that is computed from it. */
const isSame = (a: Stored<unknown> | undefined, b: Stored<unknown>): boolean =>
  a !== undefined && writtenAt(a) === writtenAt(b);

function differ(a: ReadonlyMap<string, Stored<unknown>>, b: ReadonlyMap<string, Stored<unknown>>): boolean {
  if (a.size !== b.size) return true;
  for (const [name, stored] of b) if (a.get(name) !== stored) return true;
  return false;
}

/** The services that the rules look at beside one of them, without going through all: one of its address, one of its pool. */
function openNeighbours(snapshot: Snapshot) {
  const byAddress = new Map<string, Service>();
  const byPool = new Map<string, Service>();
  const addressOf = ({ address, port, protocol }: Service): string => `${protocol} ${address} ${port}`;
  const add = (service: Service): void => {
    byAddress.set(addressOf(service), service);
    byPool.set(service.pool, service);
  };
  for (const { value } of snapshot.services.values()) add(value);
  return {
    add,
    of(service: Service): Snapshot {
      const near = [byAddress.get(addressOf(service)), byPool.get(service.pool)];
      const services = new Map(near.flatMap((value) => (value ? [[value.name, { value, revision: 0 }]] : [])));
      return { ...snapshot, services };
    },
  };
}
