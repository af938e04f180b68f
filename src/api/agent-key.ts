// SPDX-License-Identifier: Apache-2.0
import type { FastifyInstance } from 'fastify';
import { agentKeyOf } from '../controlplane/agent-key.js';
import { Type } from '../model/check.js';
import { FairleadError } from '../model/errors.js';
import { describe } from './describe.js';
import { NoQuery } from './query.js';
import type { Api } from './write.js';

/** The key for the agents on the backends: a secret, so only for those who can open the Unix socket or have scope admin. */
export function agentKeyRoute(app: FastifyInstance, { store }: Api): void {
  const schema = describe({
    summary: 'The key of this cluster for `fairlead agent`; on the Unix socket, or with scope admin',
    operation: 'getAgentKey',
    tag: 'node',
    query: NoQuery,
    answer: Type.Object({ key: Type.String({ description: '16 bytes as 32 hex digits' }) }),
  });
  app.get('/agent-key', { schema }, async ({ client }) => {
    if (client === null || client.how === 'loopback')
      throw new FairleadError('permission', 'the key is told on the Unix socket, or to who has scope "admin"');
    return { key: agentKeyOf(store.read()) };
  });
}
