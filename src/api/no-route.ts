// SPDX-License-Identifier: Apache-2.0
import type { FastifyInstance } from 'fastify';
import { plainProblem, sendProblem } from './problem.js';

/** Answers what no route takes: 405 with Allow when the path is known under another method, else 404. Call before the routes are added. */
export function answerNoRoute(app: FastifyInstance): void {
  const routes: { readonly pattern: RegExp; readonly methods: readonly string[] }[] = [];
  app.addHook('onRoute', ({ url, method }) => {
    const pattern = url
      .split('/')
      .map((part) =>
        part.startsWith(':') ? '[^/]+' : part === '*' ? '.*' : part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'),
      );
    routes.push({ pattern: new RegExp(`^${pattern.join('/')}$`), methods: [method].flat() });
  });
  app.setNotFoundHandler((request, reply) => {
    const path = request.url.split('?')[0] ?? '';
    const methods = routes.filter(({ pattern }) => pattern.test(path)).flatMap((route) => route.methods);
    if (methods.length === 0) return sendProblem(request, reply, plainProblem(404, `there is no ${path}`));
    const allow = [...new Set(methods)].sort().join(', ');
    reply.header('allow', allow);
    return sendProblem(request, reply, plainProblem(405, `${path} does not take ${request.method}; it takes ${allow}`));
  });
}
