// SPDX-License-Identifier: Apache-2.0
import type { FastifyInstance } from 'fastify';
import { parseAddress } from '../model/address.js';
import { Type } from '../model/check.js';
import { FairleadError, messageOf } from '../model/errors.js';
import { describe } from './describe.js';
import { FlowsQuery, NoQuery } from './query.js';
import type { Api } from './write.js';

/** The routes that look at the running node and change nothing. */
export function observeRoutes(app: FastifyInstance, { node }: Api): void {
  const answer = Type.Object({});
  const about = (summary: string) => ({ schema: describe({ summary, tag: 'node', query: NoQuery, answer }) });

  app.get<{ Querystring: FlowsQuery }>(
    '/flows',
    { schema: describe({ summary: 'Flows seen now', tag: 'node', query: FlowsQuery, answer }) },
    async ({ query: { client, ...query } }) => {
      return { items: await node.flows(client === undefined ? query : { ...query, client: canonical(client) }) };
    },
  );
  app.get('/drops', about('Packets dropped, by service and reason'), async () => ({
    items: await node.drops(),
  }));
  app.get('/status', about('The node: interfaces, store, tables'), () => node.status());
  app.get('/version', about('The version of the daemon'), async () => {
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
