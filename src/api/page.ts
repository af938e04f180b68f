// SPDX-License-Identifier: Apache-2.0
import { FairleadError } from '../model/errors.js';
import type { ListQuery } from './query.js';

/** One page of a list, by name. `nextCursor` is null on the last page; it stays good when objects come and go. */
export function page<T>(
  objects: ReadonlyMap<string, T>,
  { limit, cursor }: ListQuery,
): { items: T[]; nextCursor: string | null } {
  const after = cursor === undefined ? '' : decode(cursor);
  const names = [...objects.keys()].filter((name) => name > after).sort();
  const shown = names.slice(0, limit);
  const last = shown.at(-1);
  return {
    items: shown.flatMap((name) => objects.get(name) ?? []),
    nextCursor: last === undefined || shown.length === names.length ? null : Buffer.from(last).toString('base64url'),
  };
}

function decode(cursor: string): string {
  const name = Buffer.from(cursor, 'base64url').toString();
  if (name === '' || Buffer.from(name).toString('base64url') !== cursor) {
    throw new FairleadError('invalid', 'query parameter "cursor": not a cursor; use nextCursor of the page before');
  }
  return name;
}
