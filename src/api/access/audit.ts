// SPDX-License-Identifier: Apache-2.0
import { AsyncLocalStorage } from 'node:async_hooks';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import type { Change, Store } from '../../controlplane/store.js';
import { isRecord } from '../../model/check.js';
import { messageOf } from '../../model/errors.js';
import type { Snapshot } from '../../model/objects.js';
import type { Access } from './access.js';
import { peerOf } from './peers.js';
import { isWrite } from './scopes.js';

/** What one request has changed so far: documents by their paths below /api/v1, null where there is none. */
interface Effect {
  revision: number | null;
  before: Record<string, unknown>;
  after: Record<string, unknown>;
}

const effects = new WeakMap<FastifyRequest, Effect>();
const current = new AsyncLocalStorage<Effect>();

/**
 * Writes down every request that may change something, dry runs aside: an attempt before it is carried out, so that nothing is done that is not written
 * down, and what came of it before the answer goes out. Of a refused one there is the second alone. While the log cannot be written,
 * writes are refused with 'unavailable'.
 */
export function auditWrites(app: FastifyInstance, { audit, events }: Access): void {
  if (audit === null) return;
  let isBroken = false;
  const append = async (record: object): Promise<void> => {
    try {
      await audit.append(record);
      isBroken = false;
    } catch (error) {
      if (!isBroken)
        events.emit({ type: 'api.audit_failed', severity: 'error', object: null, message: messageOf(error) });
      isBroken = true;
      throw error;
    }
  };

  app.addHook('preHandler', async (request) => {
    if (!isAudited(request)) return;
    await append({ ...head(request), phase: 'attempt' });
    effects.set(request, { revision: null, before: {}, after: {} });
  });
  app.addHook('preHandler', (request, _reply, done) => {
    const effect = effects.get(request);
    if (effect === undefined) done();
    else current.run(effect, done);
  });
  app.addHook('onSend', async (request, reply, payload) => {
    const { statusCode: status } = reply;
    const isRefused = [401, 403, 429].includes(status);
    const isOurs = isWrite(request.method, request.routeOptions.url) && (isRefused || isAudited(request));
    if (!isOurs || request.isRepeated) return payload;
    const result = status < 400 ? 'done' : status < 500 ? 'refused' : 'failed';
    const detail = status < 400 ? {} : { detail: detailOf(payload) };
    await append({ ...head(request), phase: 'result', result, status, ...detail, ...effects.get(request) }).catch(
      () => {},
    );
    return payload; // when the log has failed just now: what is done is done, and its attempt is in it
  });
}

/** The same store, whose writes are told to the audit log. */
export function auditedStore(store: Store): Store {
  return {
    ...store,
    async update(decide) {
      const effect = current.getStore();
      if (effect === undefined) return store.update(decide);
      let last: { readonly now: Snapshot; readonly changes: readonly Change[] } | null = null;
      const after = await store.update((now) => {
        const changes = decide(now); // may be asked again: the last answer counts
        last = { now, changes };
        return changes;
      });
      note(effect, last, after.revision);
      return after;
    },
  };
}

function note(
  effect: Effect,
  last: { readonly now: Snapshot; readonly changes: readonly Change[] } | null,
  revision: number,
): void {
  effect.revision = revision;
  for (const { kind, name, value } of last?.changes ?? []) {
    const before = kind === 'service' ? last?.now.services.get(name) : last?.now.pools.get(name);
    const path = `/${kind}s/${name}`;
    effect.before[path] = before?.value ?? null;
    effect.after[path] = value;
  }
}

function isAudited(request: FastifyRequest): boolean {
  const { dryRun }: { dryRun?: unknown } = Object(request.query);
  return isWrite(request.method, request.routeOptions.url) && dryRun !== true;
}

function head(request: FastifyRequest): object {
  const peer = peerOf(request.raw.socket);
  const { how, name, scope } = request.client ?? { how: 'unknown', name: null, scope: null };
  const who = { how, name, scope, ...(peer.kind === 'tcp' ? { address: peer.address } : { uid: peer.uid }) };
  const path = request.url.split('?')[0];
  return { time: new Date().toISOString(), request: request.id, who, method: request.method, path };
}

// Of a problem document.
function detailOf(payload: unknown): string {
  try {
    const problem: unknown = typeof payload === 'string' ? JSON.parse(payload) : null;
    return isRecord(problem) && typeof problem.detail === 'string' ? problem.detail : '';
  } catch {
    return '';
  }
}
