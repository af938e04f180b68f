// SPDX-License-Identifier: Apache-2.0
import type { FastifyInstance } from 'fastify';
import { parseAddress } from '../model/address.js';
import { type TSchema, Type } from '../model/check.js';
import { FairleadError, messageOf } from '../model/errors.js';
import { DropAnswer, FlowAnswer, StatusAnswer, TopologyAnswer, VersionAnswer } from './answers.js';
import { describe, pageOf } from './describe.js';
import { cursorOf, keyIn, notACursor, sendPage } from './page.js';
import { FlowsQuery, NoQuery, TopologyParameters } from './query.js';
import type { Api } from './write.js';

/** The routes that look at the running node and change nothing. */
export function observeRoutes(app: FastifyInstance, { node }: Api): void {
  const items = (item: TSchema): TSchema => Type.Object({ items: Type.Array(item) });
  const about = (operation: string, summary: string, answer: TSchema) => ({
    schema: describe({ summary, operation, tag: 'node', query: NoQuery, answer }),
  });

  app.get<{ Querystring: FlowsQuery }>(
    '/flows',
    {
      schema: describe({
        summary: 'Flows seen now',
        operation: 'listFlows',
        tag: 'node',
        query: FlowsQuery,
        answer: pageOf(FlowAnswer),
      }),
    },
    async (request, reply) => {
      const { client, cursor, ...query } = request.query;
      const [value, place] = cursor === undefined ? [] : keyIn(cursor);
      if (cursor !== undefined && (typeof value !== 'number' || typeof place !== 'number')) throw notACursor();
      const { items, last } = await node.flows(
        client === undefined ? query : { ...query, client: canonical(client) },
        cursor === undefined ? null : { value: Number(value), place: Number(place) },
      );
      return sendPage(request, reply, { items, nextCursor: last && cursorOf([last.value, last.place]) });
    },
  );
  app.get<{ Querystring: TopologyParameters }>(
    '/topology',
    {
      schema: describe({
        summary: 'Service map: clients by prefix, services, backends, with rates; the first call takes a second',
        operation: 'getTopology',
        tag: 'node',
        query: TopologyParameters,
        answer: TopologyAnswer,
      }),
    },
    ({ query }) => node.topology(query),
  );
  app.get('/drops', about('listDrops', 'Packets dropped, by service and reason', items(DropAnswer)), async () => ({
    items: await node.drops(),
  }));
  app.get('/status', about('getStatus', 'The node: interfaces, store, tables', StatusAnswer), () => node.status());
  app.get('/version', about('getVersion', 'The version of the daemon', VersionAnswer), async () => {
    const { version } = await node.status();
    return { version, api: 'v1' };
  });
}

function canonical(client: string): string {
  try {
    return parseAddress(client).text;
  } catch (error) {
    throw new FairleadError('invalid', `query parameter "client": ${messageOf(error)}`);
  }
}
