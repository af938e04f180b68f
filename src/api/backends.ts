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
import { answered, describe, without } from './describe.js';
import { created, nameless, sendObject } from './objects.js';
import { checkPreconditions } from './preconditions.js';
import { NoQuery, WriteQuery } from './query.js';
import { type Api, write } from './write.js';

type Route = { Params: { pool: string; name: string }; Querystring: WriteQuery; Body: unknown };

/** The routes of one backend. Its revision, so its ETag, is that of its pool: the document it is part of. */
export function backendRoutes(app: FastifyInstance, api: Api): void {
  const one = '/pools/:pool/backends/:name';
  const common = { tag: 'backends', query: WriteQuery, path: ['pool', 'name'], answer: answered(BackendBody) };

  const answer = async (
    reply: FastifyReply,
    snapshot: Snapshot,
    { pool, name }: Route['Params'],
    query: WriteQuery,
  ) => {
    const { value, revision } = getBackend(snapshot, pool, name);
    const known = await api.node.pool(pool);
    return sendObject(reply, { ...value, revision, status: known?.backends.get(name) ?? null }, query);
  };
  // A write to a backend that exists.
  const change = (request: FastifyRequest<Route>, decide: (now: Snapshot) => readonly Change[]) =>
    write(api, request.query, (now) => {
      checkPreconditions(request, getBackend(now, request.params.pool, request.params.name));
      return decide(now);
    });

  app.get<Route>(
    one,
    { schema: describe({ ...common, summary: 'Show a backend', query: NoQuery }) },
    async ({ params }, reply) => answer(reply, api.store.read(), params, {}),
  );

  app.put<Route>(
    one,
    { schema: describe({ ...common, summary: 'Create or replace a backend', body: nameless(BackendBody) }) },
    async (request, reply) => {
      const { params, query, body } = request;
      let isNew = false;
      const snapshot = await write(api, query, (now) => {
        const pool = get(poolKind, now, params.pool);
        isNew = !pool.value.backends.some(({ name }) => name === params.name);
        checkPreconditions(request, isNew ? undefined : pool);
        return putBackend(now, params.pool, params.name, body);
      });
      if (isNew) created(request, reply, request.url.split('?')[0] ?? '');
      return answer(reply, snapshot, params, query);
    },
  );

  app.patch<Route>(
    one,
    {
      schema: describe({
        ...common,
        summary: 'Merge a patch (RFC 7396) into a backend',
        body: without(BackendBody, () => true),
      }),
    },
    async (request, reply) => {
      const { params, query, body } = request;
      const snapshot = await change(request, (now) => patchBackend(now, params.pool, params.name, body));
      return answer(reply, snapshot, params, query);
    },
  );

  app.delete<Route>(
    one,
    {
      schema: describe({
        summary: 'Take a backend out of its pool',
        tag: common.tag,
        query: WriteQuery,
        path: common.path,
        status: 204,
      }),
    },
    async (request, reply) => {
      const { params } = request;
      await change(request, (now) => removeBackend(now, params.pool, params.name));
      return reply.code(204).send();
    },
  );

  const drain = 'Give the backend no new flow; its status shows the flows left';
  app.post<Route>(
    `${one}/drain`,
    { schema: describe({ ...common, summary: drain, body: DrainBody }) },
    async (request, reply) => {
      const { params, query, body } = request;
      const snapshot = await change(request, (now) => drainBackend(now, params.pool, params.name, body, Date.now()));
      return answer(reply, snapshot, params, query);
    },
  );
  app.post<Route>(
    `${one}/undrain`,
    { schema: describe({ ...common, summary: 'Give the backend new flows again' }) },
    async (request, reply) => {
      const { params, query } = request;
      const snapshot = await change(request, (now) => patchBackend(now, params.pool, params.name, { state: 'active' }));
      return answer(reply, snapshot, params, query);
    },
  );
}
