// SPDX-License-Identifier: Apache-2.0
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import {
  drainBackend,
  get,
  getBackend,
  patchBackend,
  poolKind,
  putBackend,
  removeBackend,
} from '../controlplane/commands.js';
import type { Change } from '../controlplane/store.js';
import type { Snapshot } from '../model/objects.js';
import { BackendBody, DrainBody } from '../model/schema.js';
import { Statuses } from './answers.js';
import { answered, conditions, describe, patchOf } from './describe.js';
import { created, nameless, sendDeleted, sendObject } from './objects.js';
import { checkPreconditions } from './preconditions.js';
import { NoQuery, WriteQuery } from './query.js';
import { type Api, type Written, write } from './write.js';

type Route = { Params: { pool: string; name: string }; Querystring: WriteQuery; Body: unknown };

/** The routes of one backend. Its revision, so its ETag, is that of its pool: the document it is part of. */
export function backendRoutes(app: FastifyInstance, api: Api): void {
  const one = '/pools/:pool/backends/:name';
  const named = { tag: 'backends', path: ['pool', 'name'], answer: answered(BackendBody, Statuses.backend) };
  const common = { ...named, query: WriteQuery, headers: conditions };

  const answer = async (
    reply: FastifyReply,
    { snapshot, effect }: Pick<Written, 'snapshot' | 'effect'>,
    { pool, name }: Route['Params'],
  ) => {
    const { value, revision } = getBackend(snapshot, pool, name);
    const known = await api.node.pool(pool);
    return sendObject(reply, { ...value, revision, status: known?.backends.get(name) ?? null }, effect);
  };
  // A write to a backend that exists.
  const change = (request: FastifyRequest<Route>, decide: (now: Snapshot) => readonly Change[]) =>
    write(api, request.query, (now) => {
      checkPreconditions(request, getBackend(now, request.params.pool, request.params.name));
      return decide(now);
    });

  app.get<Route>(
    one,
    { schema: describe({ ...named, operation: 'getBackend', summary: 'Show a backend', query: NoQuery }) },
    async ({ params }, reply) => answer(reply, { snapshot: api.store.read(), effect: null }, params),
  );

  app.put<Route>(
    one,
    {
      schema: describe({
        ...common,
        operation: 'putBackend',
        summary: 'Create or replace a backend',
        body: nameless(BackendBody),
        status: [200, 201],
      }),
    },
    async (request, reply) => {
      const { params, query, body } = request;
      let isNew = false;
      const written = await write(api, query, (now) => {
        const pool = get(poolKind, now, params.pool);
        isNew = !pool.value.backends.some(({ name }) => name === params.name);
        checkPreconditions(request, isNew ? undefined : pool);
        return putBackend(now, params.pool, params.name, body);
      });
      if (isNew) created(request, reply, request.url.split('?')[0] ?? '');
      return answer(reply, written, params);
    },
  );

  app.patch<Route>(
    one,
    {
      schema: describe({
        ...common,
        operation: 'patchBackend',
        summary: 'Merge a patch (RFC 7396) into a backend',
        body: patchOf(BackendBody),
        isPatch: true,
      }),
    },
    async (request, reply) => {
      const { params, body } = request;
      const written = await change(request, (now) => patchBackend(now, params.pool, params.name, body));
      return answer(reply, written, params);
    },
  );

  app.delete<Route>(
    one,
    {
      schema: describe({
        summary: 'Take a backend out of its pool',
        operation: 'deleteBackend',
        headers: conditions,
        tag: common.tag,
        query: WriteQuery,
        path: common.path,
        status: [204, 200],
      }),
    },
    async (request, reply) => {
      const { params } = request;
      const { effect } = await change(request, (now) => removeBackend(now, params.pool, params.name));
      return sendDeleted(reply, effect);
    },
  );

  const drain = 'Give the backend no new flow; its status shows the flows left';
  app.post<Route>(
    `${one}/drain`,
    {
      schema: describe({ ...common, operation: 'drainBackend', summary: drain, body: DrainBody, isBodyOptional: true }),
    },
    async (request, reply) => {
      const { params, body } = request;
      const written = await change(request, (now) => drainBackend(now, params.pool, params.name, body, Date.now()));
      return answer(reply, written, params);
    },
  );
  app.post<Route>(
    `${one}/undrain`,
    { schema: describe({ ...common, operation: 'undrainBackend', summary: 'Give the backend new flows again' }) },
    async (request, reply) => {
      const { params } = request;
      const written = await change(request, (now) => patchBackend(now, params.pool, params.name, { state: 'active' }));
      return answer(reply, written, params);
    },
  );
}
