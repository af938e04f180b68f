// SPDX-License-Identifier: Apache-2.0
import type { FastifyInstance } from 'fastify';
import { plainProblem, sendProblem } from './problem.js';
import type { Api } from './write.js';

/** The routes for probes and scrapers, outside /api/v1. */
export function healthRoutes(app: FastifyInstance, { node }: Api): void {
  const schema = (operationId: string, summary: string, response: object) => ({
    schema: { summary, operationId, tags: ['health'], response },
  });
  const json = { content: { 'application/json': { schema: { type: 'object' } } } };

  app.get(
    '/livez',
    schema('getLivez', 'The process answers', { 200: { description: 'it does', ...json } }),
    async () => ({ live: true }),
  );
  app.get(
    '/readyz',
    schema('getReadyz', 'Attached, store read, rings applied', {
      200: { description: 'ready', ...json },
      503: { description: 'not ready', content: { 'application/problem+json': { schema: { type: 'object' } } } },
    }),
    async (request, reply) => {
      const { ready, notReady, store } = await node.status();
      if (ready) return { ready: true, ...(store.detail !== null && { store: store.detail }) }; // forwards all the same
      return sendProblem(request, reply, {
        ...plainProblem(503, `not ready: ${notReady.join('; ')}`),
        reasons: notReady,
      });
    },
  );
  app.get(
    '/metrics',
    schema('getMetrics', 'Prometheus metrics', {
      200: { description: 'text format', content: { 'text/plain': { schema: { type: 'string' } } } },
    }),
    async (_request, reply) => {
      const { contentType, text } = await node.metrics();
      return reply.type(contentType).send(text);
    },
  );
}
