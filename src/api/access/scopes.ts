// SPDX-License-Identifier: Apache-2.0
import { isRecord } from '../../model/check.js';
import type { Scope } from '../../model/scope.js';

/** 'open': for everybody. 'probe' and 'metrics': as api.open says, else as 'read'. */
export type Need = Scope | 'open' | 'probe' | 'metrics';

/** What each route takes. HEAD goes with GET. A route that is not here takes 'admin'. */
export const needs: Readonly<Record<string, Need>> = {
  'GET /livez': 'probe',
  'GET /readyz': 'probe',
  'GET /metrics': 'metrics',
  // The same in every installation: nothing of this node is in it.
  'GET /openapi.json': 'open',
  'GET /docs': 'open',

  'GET /api/v1/services': 'read',
  'GET /api/v1/services/:name': 'read',
  'GET /api/v1/pools': 'read',
  'GET /api/v1/pools/:name': 'read',
  'GET /api/v1/pools/:pool/backends/:name': 'read',
  'GET /api/v1/flows': 'read',
  'GET /api/v1/drops': 'read',
  'GET /api/v1/events': 'read',
  'GET /api/v1/topology': 'read',
  'GET /api/v1/nodes': 'read',
  'GET /api/v1/nodes/:name': 'read',
  'GET /api/v1/configuration': 'read',
  'GET /api/v1/status': 'read',
  'GET /api/v1/version': 'read',
  'POST /api/v1/explain': 'read', // asks, with a body

  'POST /api/v1/pools/:pool/backends/:name/drain': 'operate',
  'POST /api/v1/pools/:pool/backends/:name/undrain': 'operate',
  'PATCH /api/v1/pools/:pool/backends/:name': 'operate', // weight and state alone: see needsMore
  'POST /api/v1/captures': 'operate',
  'GET /api/v1/captures/:id.pcapng': 'operate', // what clients say to services
  'DELETE /api/v1/captures/:id': 'operate',

  'POST /api/v1/services': 'admin',
  'PUT /api/v1/services/:name': 'admin',
  'PATCH /api/v1/services/:name': 'admin',
  'DELETE /api/v1/services/:name': 'admin',
  'POST /api/v1/pools': 'admin',
  'PUT /api/v1/pools/:name': 'admin',
  'PATCH /api/v1/pools/:name': 'admin',
  'DELETE /api/v1/pools/:name': 'admin',
  'PUT /api/v1/pools/:pool/backends/:name': 'admin',
  'DELETE /api/v1/pools/:pool/backends/:name': 'admin',
  'PUT /api/v1/configuration': 'admin',
  'GET /api/v1/agent-key': 'admin',
};

/** What a request of this method to this route takes; `route` undefined: there is none, which only who is known is told. */
export function needOf(method: string, route: string | undefined): Need {
  if (route === undefined) return 'read';
  const verb = method === 'HEAD' ? 'GET' : method;
  return needs[`${verb} ${route.startsWith('/docs/') ? '/docs' : route}`] ?? 'admin';
}

/** Whether a body asks for more than its route is let for: of a backend who operates changes the weight and the state. */
export function needsMore(method: string, route: string | undefined, body: unknown): boolean {
  if (method !== 'PATCH' || needOf(method, route) !== 'operate') return false;
  return !isRecord(body) || Object.keys(body).some((field) => field !== 'weight' && field !== 'state');
}

/** Whether a request may change something: then it is audited. */
export function isWrite(method: string, route: string | undefined): boolean {
  return !['GET', 'HEAD', 'OPTIONS'].includes(method) && needOf(method, route) !== 'read';
}
