// SPDX-License-Identifier: Apache-2.0
import type { FastifyInstance } from 'fastify';
import { serviceKind } from '../controlplane/commands.js';
import { ServiceBody } from '../model/schema.js';
import { objectRoutes } from './objects.js';
import type { Api } from './write.js';

/** The routes of services. */
export function serviceRoutes(app: FastifyInstance, api: Api): void {
  const status = ({ name }: { readonly name: string }) => api.node.service(name);
  objectRoutes(app, api, { path: '/services', kind: serviceKind, schema: ServiceBody, status });
}
