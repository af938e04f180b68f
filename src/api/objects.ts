// SPDX-License-Identifier: Apache-2.0
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { customAlphabet } from 'nanoid';
import { get, type Kind, patch, put, remove } from '../controlplane/commands.js';
import { isRecord, type TSchema } from '../model/check.js';
import type { Effect } from '../model/effect.js';
import { FairleadError } from '../model/errors.js';
import type { Stored } from '../model/objects.js';
import { Statuses } from './answers.js';
import { answered, conditions, describe, pageOf, patchOf, without } from './describe.js';
import { page, sendPage } from './page.js';
import { checkPreconditions, etagOf } from './preconditions.js';
import { ListQuery, NoQuery, WriteQuery } from './query.js';
import { type Api, type Written, write } from './write.js';

/** One kind of object under a path of its own. */
export interface Collection<T extends { readonly name: string }> {
  readonly path: string; // '/services'
  readonly kind: Kind<T>;
  readonly schema: TSchema;
  status(value: T): Promise<object | null>;
}

type Write = { Params: { name: string }; Querystring: WriteQuery; Body: unknown };

// Names are lower case: the usual alphabet of nanoid is not one.
const newName = customAlphabet('0123456789abcdefghijklmnopqrstuvwxyz', 16);

/** Adds list, create, read, replace, patch and delete for one kind of object. */
export function objectRoutes<T extends { readonly name: string }>(
  app: FastifyInstance,
  api: Api,
  { path, kind, schema, status }: Collection<T>,
): void {
  const { noun } = kind;
  const one = `${path}/:name`;
  const Noun = `${noun.charAt(0).toUpperCase()}${noun.slice(1)}`;
  const common = { tag: `${noun}s`, answer: answered(schema, Statuses[noun]) };
  const byName = { ...common, query: WriteQuery, path: ['name'], headers: conditions };
  const shown = async (stored: Stored<T>) => ({
    ...stored.value,
    revision: stored.revision,
    status: await status(stored.value),
  });
  const answer = async (
    reply: FastifyReply,
    { snapshot, effect }: Pick<Written, 'snapshot' | 'effect'>,
    name: string,
  ) => sendObject(reply, await shown(get(kind, snapshot, name)), effect);

  app.get<{ Querystring: ListQuery }>(
    path,
    {
      schema: describe({
        ...common,
        summary: `List ${noun}s by name`,
        operation: `list${Noun}s`,
        query: ListQuery,
        answer: pageOf(common.answer),
      }),
    },
    async (request, reply) => {
      const { items, nextCursor } = page(kind.all(api.store.read()), request.query);
      return sendPage(request, reply, { items: await Promise.all(items.map(shown)), nextCursor });
    },
  );

  app.post<Write>(
    path,
    {
      schema: describe({
        ...common,
        summary: `Create a ${noun}; without a name it gets one`,
        operation: `create${Noun}`,
        headers: conditions,
        query: WriteQuery,
        body: nameless(schema),
        status: [201, 200],
      }),
    },
    async (request, reply) => {
      const { body, query } = request;
      const name = isRecord(body) && typeof body.name === 'string' ? body.name : newName();
      const written = await write(api, query, (now) => {
        const current = kind.all(now).get(name);
        checkPreconditions(request, current);
        const changes = put(kind, now, name, body);
        if (current !== undefined) throw taken(noun, name);
        return changes;
      });
      created(request, reply, `${request.routeOptions.url}/${name}`);
      return answer(reply, written, name);
    },
  );

  app.get<{ Params: { name: string } }>(
    one,
    {
      schema: describe({
        ...common,
        path: ['name'],
        operation: `get${Noun}`,
        summary: `Show a ${noun}`,
        query: NoQuery,
      }),
    },
    async ({ params }, reply) => answer(reply, { snapshot: api.store.read(), effect: null }, params.name),
  );

  app.put<Write>(
    one,
    {
      schema: describe({
        ...byName,
        operation: `put${Noun}`,
        summary: `Create or replace a ${noun}`,
        body: nameless(schema),
        status: [200, 201],
      }),
    },
    async (request, reply) => {
      const { params, query, body } = request;
      let isNew = false;
      const written = await write(api, query, (now) => {
        const current = kind.all(now).get(params.name);
        isNew = current === undefined;
        checkPreconditions(request, current);
        return put(kind, now, params.name, body);
      });
      if (isNew) created(request, reply, request.url.split('?')[0] ?? '');
      return answer(reply, written, params.name);
    },
  );

  app.patch<Write>(
    one,
    {
      schema: describe({
        ...byName,
        operation: `patch${Noun}`,
        summary: `Merge a patch (RFC 7396) into a ${noun}`,
        body: patchOf(schema),
        isPatch: true,
      }),
    },
    async (request, reply) => {
      const { params, query, body } = request;
      const written = await write(api, query, (now) => {
        checkPreconditions(request, get(kind, now, params.name));
        return patch(kind, now, params.name, body);
      });
      return answer(reply, written, params.name);
    },
  );

  app.delete<Write>(
    one,
    {
      schema: describe({
        summary: `Delete a ${noun}`,
        operation: `delete${Noun}`,
        headers: conditions,
        tag: common.tag,
        query: WriteQuery,
        path: ['name'],
        status: [204, 200],
      }),
    },
    async (request, reply) => {
      const { params, query } = request;
      const { effect } = await write(api, query, (now) => {
        checkPreconditions(request, get(kind, now, params.name));
        return remove(kind, now, params.name);
      });
      return sendDeleted(reply, effect);
    },
  );
}

/** The schema of a body whose name may be left out. */
export function nameless(schema: TSchema): TSchema {
  return without(schema, (field) => field === 'name');
}

/** Answers an object with its ETag, or with the effect of a dry run, which has none: nothing has that revision. */
export function sendObject<T extends { readonly revision: number }>(
  reply: FastifyReply,
  object: T,
  effect: Effect | null,
): T & { readonly effect?: Effect } {
  if (effect !== null) return { ...object, effect };
  reply.header('etag', etagOf(object.revision));
  return object;
}

/** Answers that an object is gone: 204, or what would come of that. */
export function sendDeleted(reply: FastifyReply, effect: Effect | null): FastifyReply {
  return effect === null ? reply.code(204).send() : reply.send({ effect });
}

/** Marks the answer as that of a new object: 201 and Location. A dry run made nothing and stays 200. */
export function created(
  request: FastifyRequest<{ Querystring: WriteQuery }>,
  reply: FastifyReply,
  location: string,
): void {
  if (request.query.dryRun !== true) reply.code(201).header('location', location);
}

function taken(noun: string, name: string): FairleadError {
  const detail = `${noun} "${name}" exists already`;
  return new FairleadError('conflict', detail, [{ pointer: '/name', detail }]);
}
