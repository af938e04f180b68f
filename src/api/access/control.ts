// SPDX-License-Identifier: Apache-2.0
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { parseAddress } from '../../model/address.js';
import { FairleadError } from '../../model/errors.js';
import { covers, type Scope } from '../../model/scope.js';
import type { Access } from './access.js';
import { openBearers } from './bearers.js';
import { type Client, identify } from './client.js';
import type { Limiter } from './limiter.js';
import { type Peer, peerOf } from './peers.js';
import { needOf, needsMore } from './scopes.js';

declare module 'fastify' {
  interface FastifyRequest {
    /** Who asks; null where nobody has to say. */
    client: Client | null;
    /** The same refusal to the same client was told before: it is not written down again. */
    isRepeated: boolean;
  }
}

/** Lets requests through to their routes: whoever is known, may do it, and does not do it too often. */
export function controlAccess(app: FastifyInstance, access: Access): void {
  app.decorateRequest('client', null);
  app.decorateRequest('isRepeated', false);
  const { tokens } = access;
  const bearers = tokens && openBearers(() => tokens.current());
  app.addHook('onClose', async () => bearers?.close());

  app.addHook('onRequest', async (request, reply) => {
    const peer = peerOf(request.raw.socket);
    const need = needOf(request.method, request.routeOptions.url);
    const isOpen = need === 'open' || (need === 'probe' && access.open !== 'none') || need === access.open;
    if (isOpen) return limit(access.requests, sourceOf(peer), request, reply);
    const known = { tokens: access.tokens?.current() ?? null, clients: access.clients };
    const client = identify(peer, request.raw.socket, request.headers, known);
    if (typeof client === 'string') return refuse(access, peer, client, request, reply);
    request.client = client;
    if (client.token !== null) bearers?.note(request.raw.socket, client.token);
    if (peer.kind === 'tcp') limit(access.requests, `${client.how} ${client.name}`, request, reply);
    demand(client, scopeOf(need), reply);
  });

  app.addHook('preHandler', async (request, reply) => {
    if (request.client !== null && needsMore(request.method, request.routeOptions.url, request.body))
      demand(request.client, 'admin', reply);
  });
}

function scopeOf(need: ReturnType<typeof needOf>): Scope {
  return need === 'open' || need === 'probe' || need === 'metrics' ? 'read' : need;
}

// RFC 6750, section 3.1.
function demand({ how, name, scope }: Client, wanted: Scope, reply: FastifyReply): void {
  if (covers(scope, wanted)) return;
  reply.header('www-authenticate', `Bearer realm="fairlead", error="insufficient_scope", scope="${wanted}"`);
  throw new FairleadError('permission', `this takes scope "${wanted}"; ${how} "${name}" has "${scope}"`);
}

function refuse(access: Access, peer: Peer, why: string, request: FastifyRequest, reply: FastifyReply): void {
  limit(access.failures, sourceOf(peer), request, reply, () => {
    const address = peer.kind === 'tcp' ? peer.address : 'the socket';
    const message = `${address} tries to come in again and again: ${why}`;
    access.events.emit({ type: 'api.attempts', severity: 'warning', object: null, message });
  });
  const error = request.headers.authorization === undefined ? '' : ', error="invalid_token"';
  reply.header('www-authenticate', `Bearer realm="fairlead"${error}`);
  throw new FairleadError('unauthenticated', `send a token ("Authorization: Bearer TOKEN") or a certificate: ${why}`);
}

function limit(
  limiter: Limiter | null,
  key: string | null,
  request: FastifyRequest,
  reply: FastifyReply,
  first = () => {},
): void {
  if (limiter === null || key === null) return;
  const taken = limiter.take(key);
  if (taken.ok) return;
  request.isRepeated = !taken.isFirst;
  if (taken.isFirst) first();
  reply.header('retry-after', String(taken.waitSeconds));
  throw new FairleadError('throttled', `too many requests; again in ${taken.waitSeconds} s`);
}

/** Who is behind an address, as far as that can be told: with IPv6 everybody has a /64. Null on the Unix socket, which has no limit. */
function sourceOf(peer: Peer): string | null {
  if (peer.kind === 'unix') return null;
  if (!peer.address.includes(':')) return peer.address;
  const { bytes } = parseAddress(peer.address.split('%')[0] ?? '');
  return Buffer.from(bytes.subarray(0, 8)).toString('hex');
}
