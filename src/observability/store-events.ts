// SPDX-License-Identifier: Apache-2.0
// What became of services, pools and backends between two states of the store, as events. Pure.
import { isDeepStrictEqual } from 'node:util';
import type { NewEvent } from '../model/events.js';
import type { Pool, Snapshot, Stored } from '../model/objects.js';

type Named = object & { readonly name: string };

/** What is said of an object; `path` below /api/v1. */
interface Subject {
  readonly noun: 'service' | 'pool' | 'backend';
  readonly path: string;
  readonly title: string;
  readonly revision: number;
}

const LONGEST = 40;

/** The fields that differ, as `weight 100 -> 50`; of what is long, the name only. */
function differences(before: Named, after: Named, but: readonly string[]): string[] {
  const was = new Map(Object.entries(before));
  const is = new Map(Object.entries(after));
  const text = (value: unknown): string => (typeof value === 'string' ? value : (JSON.stringify(value) ?? 'none'));
  return [...new Set([...was.keys(), ...is.keys()])].flatMap((field) => {
    if (but.includes(field) || isDeepStrictEqual(was.get(field), is.get(field))) return [];
    const change = `${text(was.get(field))} -> ${text(is.get(field))}`;
    return [change.length > LONGEST ? field : `${field} ${change}`];
  });
}

function told({ noun, path, title, revision }: Subject, what: string, details: readonly string[] = []): NewEvent {
  const rest = details.length > 0 ? `: ${details.join(', ')}` : '';
  return {
    type: `${noun}.${what}`,
    severity: 'info',
    object: path,
    message: `${title} ${what}${rest}`,
    data: { revision },
  };
}

/** The event of one object, if there is any: null stands for no object. */
function become(
  before: Named | null,
  after: Named | null,
  subject: Subject,
  but: readonly string[] = [],
): readonly NewEvent[] {
  if (before === null) return after === null ? [] : [told(subject, 'created')];
  if (after === null) return [told(subject, 'deleted')];
  const details = before === after ? [] : differences(before, after, but);
  return details.length > 0 ? [told(subject, 'changed', details)] : [];
}

function* membersOf(before: Pool | null, after: Pool | null, name: string, revision: number): Generator<NewEvent> {
  const was = new Map(before?.backends.map((backend) => [backend.name, backend]));
  const is = new Map(after?.backends.map((backend) => [backend.name, backend]));
  for (const each of new Set([...was.keys(), ...is.keys()])) {
    const path = `/pools/${name}/backends/${each}`;
    const subject: Subject = { noun: 'backend', path, title: `backend "${each}" of pool "${name}"`, revision };
    yield* become(was.get(each) ?? null, is.get(each) ?? null, subject);
  }
}

const namesOf = <T>(before: ReadonlyMap<string, T>, after: ReadonlyMap<string, T>): string[] =>
  [...new Set([...before.keys(), ...after.keys()])].filter((name) => before.get(name) !== after.get(name));

/** What became of each object from one state of the store to another: pools and their backends, then services. */
export function* storeEvents(before: Snapshot, after: Snapshot): Generator<NewEvent> {
  const revisionOf = (stored: Stored<unknown> | undefined): number => stored?.revision ?? after.revision;
  for (const name of namesOf(before.pools, after.pools)) {
    const was = before.pools.get(name)?.value ?? null;
    const is = after.pools.get(name)?.value ?? null;
    const revision = revisionOf(after.pools.get(name));
    yield* become(was, is, { noun: 'pool', path: `/pools/${name}`, title: `pool "${name}"`, revision }, ['backends']);
    yield* membersOf(was, is, name, revision);
  }
  for (const name of namesOf(before.services, after.services)) {
    const stored = after.services.get(name);
    yield* become(before.services.get(name)?.value ?? null, stored?.value ?? null, {
      noun: 'service',
      path: `/services/${name}`,
      title: `service "${name}"`,
      revision: revisionOf(stored),
    });
  }
}
