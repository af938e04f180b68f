// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import type { TestContext } from 'node:test';
import type { FastifyInstance, InjectOptions, LightMyRequestResponse } from 'fastify';
import type { Access } from '../../src/api/access/access.js';
import { buildApi } from '../../src/api/app.js';
import { openMemoryStore } from '../../src/controlplane/memory-store.js';
import type { Store } from '../../src/controlplane/store.js';
import { type NodeDouble, nodeDouble } from './node-double.js';

export interface Setup {
  readonly app: FastifyInstance;
  readonly store: Store;
  readonly node: NodeDouble;
  call(method: string, path: string, body?: unknown, headers?: Record<string, string>): Promise<LightMyRequestResponse>;
}

/** The API over an empty memory store; closed when the test ends. Without `access` everybody is let in. */
export function setup(t: TestContext, access?: Access): Setup {
  const store = openMemoryStore();
  const node = nodeDouble();
  const app = buildApi({ store, node, ...(access === undefined ? {} : { access }) });
  t.after(() => app.close());
  return {
    app,
    store,
    node,
    async call(method, path, body, headers = {}) {
      const payload = body === undefined ? {} : { payload: body as object };
      return app.inject({ method: method as NonNullable<InjectOptions['method']>, url: path, headers, ...payload });
    },
  };
}

/** The same with pool "web" (b1, b2) and service "www" in it: revisions 1 and 2. */
export async function withService(t: TestContext): Promise<Setup> {
  const it = setup(t);
  assert.equal((await it.call('PUT', '/api/v1/pools/web', webPool)).statusCode, 201);
  assert.equal((await it.call('PUT', '/api/v1/services/www', wwwService)).statusCode, 201);
  return it;
}

export const webPool = {
  backends: [
    { name: 'b1', address: '10.0.0.1' },
    { name: 'b2', address: '10.0.0.2', weight: 7 },
  ],
};
export const wwwService = { address: '192.0.2.10', port: 80, protocol: 'tcp', pool: 'web' };

/** Asserts a problem document: status, code and, when given, exactly these pointers. */
export function assertProblem(
  response: LightMyRequestResponse,
  status: number,
  code: string | null,
  pointers?: readonly string[],
): void {
  assert.equal(response.statusCode, status, response.body);
  assert.match(String(response.headers['content-type']), /^application\/problem\+json/);
  const problem = response.json();
  assert.equal(problem.status, status);
  assert.equal(problem.type, code === null ? 'about:blank' : `urn:fairlead:problem:${code}`);
  assert.ok(problem.title.length > 0 && problem.detail.length > 0, response.body);
  if (pointers !== undefined) {
    const got = (problem.errors ?? []).map((each: { pointer: string }) => each.pointer);
    assert.deepEqual(got.toSorted(), [...pointers].sort(), response.body);
  }
}
