// SPDX-License-Identifier: Apache-2.0
import type { FastifyInstance } from 'fastify';
import { Type } from '../model/check.js';
import { FairleadError } from '../model/errors.js';
import { describe } from './describe.js';
import { page } from './page.js';
import { ListQuery, NoQuery } from './query.js';
import type { Api } from './write.js';

const orNull = (type: ReturnType<typeof Type.String | typeof Type.Integer>) => Type.Union([type, Type.Null()]);

const Node = Type.Object({
  name: Type.String(),
  self: Type.Boolean({ description: 'the node that answers' }),
  state: Type.Enum(['ok', 'behind', 'differs', 'unreadable']),
  detail: Type.Union([Type.String(), Type.Null()], { description: 'why it is not ok' }),
  host: orNull(Type.String()),
  version: orNull(Type.String()),
  startedAt: orNull(Type.String()),
  revision: Type.Union([Type.Integer(), Type.Null()], { description: 'the newest of the store that it knows' }),
  appliedRevision: orNull(Type.Integer()),
  error: orNull(Type.String()),
  ready: Type.Boolean(),
  notReady: Type.Array(Type.String()),
  announcing: Type.Union([Type.Integer(), Type.Null()], { description: 'how many VIPs; null: it is not to announce' }),
  rings: Type.Record(
    Type.String(),
    Type.Object({
      digest: Type.String({ description: 'of the rows in its kernel: equal on all nodes with the same members' }),
      generation: Type.Integer(),
      without: Type.Array(Type.String(), { description: 'backends it cannot reach' }),
      asWanted: Type.Boolean({ description: 'the kernel holds what the node has worked out' }),
    }),
  ),
});

/** The nodes of the cluster, as this one sees them. */
export function nodeRoutes(app: FastifyInstance, { node }: Api): void {
  const answer = Type.Object({ items: Type.Array(Node), nextCursor: orNull(Type.String()) });
  app.get<{ Querystring: ListQuery }>(
    '/nodes',
    {
      schema: describe({
        operation: 'listNodes',
        summary: 'The nodes of the cluster',
        tag: 'node',
        query: ListQuery,
        answer,
      }),
    },
    async ({ query }) => page(new Map((await node.nodes()).map((each) => [each.name, each])), query),
  );
  app.get<{ Params: { name: string } }>(
    '/nodes/:name',
    {
      schema: describe({
        operation: 'getNode',
        summary: 'One node of the cluster',
        tag: 'node',
        query: NoQuery,
        answer: Node,
      }),
    },
    async ({ params: { name } }) => {
      const found = (await node.nodes()).find((each) => each.name === name);
      if (!found) throw new FairleadError('not-found', `there is no node "${name}"`);
      return found;
    },
  );
}
