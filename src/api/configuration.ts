// SPDX-License-Identifier: Apache-2.0
import type { FastifyInstance } from 'fastify';
import { replaceAll } from '../controlplane/replace.js';
import { Type } from '../model/check.js';
import { changesOf } from '../model/effect.js';
import { PoolBody, ServiceBody } from '../model/schema.js';
import { ChangesAnswer } from './answers.js';
import { conditions, describe } from './describe.js';
import { checkPreconditions, etagOf } from './preconditions.js';
import { NoQuery, ReplaceQuery } from './query.js';
import { type Api, write } from './write.js';

const Configuration = Type.Object(
  { services: Type.Optional(Type.Array(ServiceBody)), pools: Type.Optional(Type.Array(PoolBody)) },
  { additionalProperties: false },
);

/** All services and pools as one document, for `apply` and `diff`: one write, so all of it or nothing. Its ETag is the store's revision. */
export function configurationRoutes(app: FastifyInstance, api: Api): void {
  const common = { tag: 'configuration' };
  app.get(
    '/configuration',
    {
      schema: describe({
        ...common,
        summary: 'All services and pools, as they can be PUT back',
        operation: 'getConfiguration',
        query: NoQuery,
        answer: Type.Object({ ...Configuration.properties, revision: Type.Integer() }),
      }),
    },
    async (_request, reply) => {
      const { revision, services, pools } = api.store.read();
      reply.header('etag', etagOf(revision));
      const values = <T extends { readonly name: string }>(objects: ReadonlyMap<string, { readonly value: T }>) =>
        [...objects.values()].map(({ value }) => value).sort((a, b) => (a.name < b.name ? -1 : 1));
      return { services: values(services), pools: values(pools), revision };
    },
  );
  app.put<{ Querystring: ReplaceQuery; Body: unknown }>(
    '/configuration',
    {
      schema: describe({
        ...common,
        summary: 'Make services and pools what the document says; what is not in it is deleted',
        operation: 'putConfiguration',
        query: ReplaceQuery,
        headers: { 'if-match': conditions['if-match'] },
        body: Configuration,
        answer: ChangesAnswer,
      }),
    },
    async (request, reply) => {
      const { query, body } = request;
      const { before, snapshot, effect } = await write(api, query, (now) => {
        checkPreconditions(request, now);
        return replaceAll(now, body, query.keep === true);
      });
      if (effect === null) reply.header('etag', etagOf(snapshot.revision));
      const { revision } = snapshot;
      return { revision, changes: changesOf(before, snapshot), ...(effect !== null && { effect }) };
    },
  );
}
