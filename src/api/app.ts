// SPDX-License-Identifier: Apache-2.0
import { randomUUID } from 'node:crypto';
import fastifySwagger from '@fastify/swagger';
import fastifySwaggerUi from '@fastify/swagger-ui';
import fastify, { type FastifyBaseLogger, type FastifyInstance, type FastifyRequest, LogController } from 'fastify';
import type { TSchema } from '../model/check.js';
import { openEventLog } from '../observability/event-log.js';
import type { Access } from './access/access.js';
import { auditedStore, auditWrites } from './access/audit.js';
import { controlAccess } from './access/control.js';
import { openLimiter } from './access/limiter.js';
import { agentKeyRoute } from './agent-key.js';
import { backendRoutes } from './backends.js';
import { configurationRoutes } from './configuration.js';
import { finished } from './describe.js';
import { eventRoutes } from './events.js';
import { guardBrowsers } from './guard.js';
import { healthRoutes } from './health.js';
import { answerNoRoute } from './no-route.js';
import { observeRoutes } from './observe.js';
import { poolRoutes } from './pools.js';
import { bodyLimit, parseBody, problemOf, sendProblem } from './problem.js';
import { queryValidator } from './query.js';
import { serviceRoutes } from './services.js';
import type { Api } from './write.js';

/** What the API is made of; without `events` nothing is told. */
export type ApiParts = Pick<Api, 'store' | 'node'> &
  Partial<Api> & { readonly logger?: FastifyBaseLogger; readonly access?: Access };

/** The API as a fastify instance that does not listen yet: for listenApi, or for inject in a test. Closing it closes every connection. */
export function buildApi({
  store,
  node,
  events = openEventLog(),
  logger,
  access = everybody(),
}: ApiParts): FastifyInstance {
  const api: Api = { store: auditedStore(store), node, events };
  const app: FastifyInstance = fastify({
    bodyLimit,
    genReqId: () => randomUUID(),
    forceCloseConnections: true, // an open event stream or an idle connection must not hold up the end
    logController: new LogController({ disableRequestLogging: true }),
    frameworkErrors: (error, request, reply) => void sendProblem(request, reply, problemOf(error)),
    ...(logger === undefined ? {} : { loggerInstance: logger }),
  });

  app.setErrorHandler((error, request, reply) =>
    sendProblem(request, reply, problemOf(error, request.headers['content-type']), error),
  );
  // Bodies are checked by the commands, with the rules the state file is held to; paths by looking the object up.
  app.setValidatorCompiler<TSchema>(({ schema, httpPart }) =>
    httpPart === 'querystring' ? queryValidator(schema) : () => true,
  );
  app.setSerializerCompiler(() => (value) => JSON.stringify(value)); // the schemas describe; they must not drop a field
  app.removeAllContentTypeParsers();
  app.addContentTypeParser<string>(
    ['application/json', 'application/merge-patch+json'],
    { parseAs: 'string' },
    async (_request: FastifyRequest, body: string) => (body === '' ? undefined : parseBody(body)), // many clients name the type on a POST without a body
  );
  guardBrowsers(app);
  controlAccess(app, access);
  auditWrites(app, access);
  answerNoRoute(app);

  app.register(fastifySwagger, {
    transformObject: (parts) => ('openapiObject' in parts ? finished(parts.openapiObject) : parts.swaggerObject),
    openapi: {
      openapi: '3.1.0',
      info: { title: 'Fairlead', description: 'Layer-4 load balancer: services, pools, backends', version: 'v1' },
    },
  });
  app.register(fastifySwaggerUi, { routePrefix: '/docs' });
  app.register(async (scope) => {
    healthRoutes(scope, api);
    scope.get('/openapi.json', { schema: { hide: true } }, async () => scope.swagger());
  });
  app.register(
    async (scope) => {
      serviceRoutes(scope, api);
      poolRoutes(scope, api);
      backendRoutes(scope, api);
      configurationRoutes(scope, api);
      observeRoutes(scope, api);
      eventRoutes(scope, api);
      agentKeyRoute(scope, api);
    },
    { prefix: '/api/v1' },
  );
  return app;
}

/** Without configured tokens and certificates: TCP is loopback, and everybody there is let in. */
function everybody(): Access {
  const without = { tokens: null, clients: [], open: 'metrics', audit: null } as const;
  return { ...without, requests: null, failures: openLimiter(1, 1), events: openEventLog() };
}
