// SPDX-License-Identifier: Apache-2.0
import type { FastifyReply, FastifyRequest } from 'fastify';
import { FairleadError } from '../model/errors.js';
import type { ListQuery } from './query.js';

/** One page of a list. `nextCursor` is null on the last page. */
export interface Page<T> {
  readonly items: readonly T[];
  readonly nextCursor: string | null;
}

/** What an item is ordered by: of two keys the first part that differs decides, numbers and texts ascending. */
type Key = readonly (string | number)[];

/** One page of a list by name; the cursor stays good when objects come and go. */
export function page<T>(objects: ReadonlyMap<string, T>, query: ListQuery): Page<T> {
  const { items, nextCursor } = pageFrom([...objects.keys()].sort(), query, (name) => [name]);
  return { items: items.flatMap((name) => objects.get(name) ?? []), nextCursor };
}

/** One page of what is ordered by these keys already. The cursor is the key of its last item, which may be gone by then. */
export function pageFrom<T>(ordered: readonly T[], { limit, cursor }: ListQuery, keyOf: (item: T) => Key): Page<T> {
  const after = cursor === undefined ? null : keyIn(cursor);
  const first = after === null ? 0 : ordered.findIndex((item) => isBehind(keyOf(item), after));
  const items = first < 0 ? [] : ordered.slice(first, first + limit);
  const last = items.at(-1);
  const isEnd = last === undefined || first + items.length === ordered.length;
  return { items, nextCursor: isEnd ? null : cursorOf(keyOf(last)) };
}

/** The page as it is answered, with the address of the next one in Link (RFC 8288). */
export function sendPage<T extends Page<unknown>>(request: FastifyRequest, reply: FastifyReply, answer: T): T {
  if (answer.nextCursor === null) return answer;
  const [path = '', text = ''] = request.url.split('?');
  const query = new URLSearchParams(text);
  query.set('cursor', answer.nextCursor);
  reply.header('link', `<${path}?${query}>; rel="next"`);
  return answer;
}

function isBehind(key: Key, after: Key): boolean {
  for (const [at, part] of key.entries()) {
    const other = after[at];
    if (part === other) continue;
    if (typeof part !== typeof other || other === undefined) throw notACursor();
    return part > other;
  }
  return false;
}

/** A key as a cursor. */
export const cursorOf = (key: Key): string => Buffer.from(JSON.stringify(key)).toString('base64url');

/** The key in a cursor; throws 'invalid' when it is none. */
export function keyIn(cursor: string): Key {
  let key: unknown;
  try {
    key = JSON.parse(Buffer.from(cursor, 'base64url').toString());
  } catch {
    throw notACursor();
  }
  const isKey = Array.isArray(key) && key.length > 0 && key.every((part) => ['string', 'number'].includes(typeof part));
  if (!isKey || cursorOf(key as Key) !== cursor) throw notACursor();
  return key as Key;
}

export const notACursor = (): FairleadError =>
  new FairleadError('invalid', 'query parameter "cursor": not a cursor; use nextCursor of the page before');
