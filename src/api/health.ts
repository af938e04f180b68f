// SPDX-License-Identifier: Apache-2.0
import type { FastifyInstance } from 'fastify';
import { plainProblem, sendProblem } from './problem.js';
import type { Api } from './write.js';

/** The routes for probes and scrapers, outside /api/v1. */
export function healthRoutes(app: FastifyInstance, { node }: Api): void {
  const schema = (summary: string) => ({ schema: { summary, tags: ['health'] } });

  app.get('/livez', schema('The process answers'), async () => ({ live: true }));
  app.get('/readyz', schema('Attached, store read, rings applied'), async (request, reply) => {
    const { ready, notReady, store } = await node.status();
    if (ready) return { ready: true, ...(store.detail !== null && { store: store.detail }) }; // forwards all the same
    return sendProblem(request, reply, {
      ...plainProblem(503, `not ready: ${notReady.join('; ')}`),
      reasons: notReady,
    });
  });
  app.get('/metrics', schema('Prometheus metrics'), async (_request, reply) => {
    const { contentType, text } = await node.metrics();
    return reply.type(contentType).send(text);
  });
}
