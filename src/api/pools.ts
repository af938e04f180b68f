// SPDX-License-Identifier: Apache-2.0
import type { FastifyInstance } from 'fastify';
import { poolKind } from '../controlplane/commands.js';
import { PoolBody } from '../model/schema.js';
import { objectRoutes } from './objects.js';
import type { Api } from './write.js';

/** The routes of pools. Their backends have routes of their own besides. */
export function poolRoutes(app: FastifyInstance, api: Api): void {
  const status = async ({ name }: { readonly name: string }) => {
    const known = await api.node.pool(name);
    return known && { ...known, backends: Object.fromEntries(known.backends) };
  };
  objectRoutes(app, api, { path: '/pools', kind: poolKind, schema: PoolBody, status });
}
