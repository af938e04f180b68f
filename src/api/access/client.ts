// SPDX-License-Identifier: Apache-2.0
import type { IncomingHttpHeaders } from 'node:http';
import type { Socket } from 'node:net';
import { type DetailedPeerCertificate, TLSSocket } from 'node:tls';
import type { ClientRule } from '../../controlplane/config-api.js';
import type { Scope } from '../../model/scope.js';
import type { Peer } from './peers.js';
import { findToken, isExpired, type Token } from './tokens.js';

/** Who asks, and what for. `name` is the user's number, the token's name, the certificate's name or the address. */
export interface Client {
  readonly how: 'socket' | 'token' | 'certificate' | 'loopback';
  readonly name: string;
  readonly scope: Scope;
  readonly token: Token | null;
}

/** Whom the API knows; `tokens` null: there is no file of them. */
export interface Known {
  readonly tokens: readonly Token[] | null;
  readonly clients: readonly ClientRule[];
}

/**
 * Who sent a request; a sentence when nobody who is known. A token that was sent decides, even beside a certificate. Without tokens and
 * client certificates in the configuration TCP is loopback, and everybody there is let in.
 */
export function identify(peer: Peer, socket: Socket, headers: IncomingHttpHeaders, known: Known): Client | string {
  if (peer.kind === 'unix') return { how: 'socket', name: `uid ${peer.uid ?? 'unknown'}`, scope: 'admin', token: null };
  if (known.tokens === null && known.clients.length === 0)
    return { how: 'loopback', name: peer.address, scope: 'admin', token: null };
  const { authorization } = headers;
  if (authorization !== undefined) return byToken(authorization, known.tokens ?? []);
  return byCertificate(socket, known.clients) ?? 'no token and no client certificate';
}

function byToken(authorization: string, tokens: readonly Token[]): Client | string {
  const [, secret] = /^Bearer +([\w.~+/-]+=*)$/i.exec(authorization) ?? []; // RFC 6750, section 2.1
  if (secret === undefined) return 'the Authorization header is no "Bearer TOKEN"';
  const token = findToken(tokens, secret);
  if (token === null) return 'the token is not known';
  if (isExpired(token)) return `the token has expired: ${token.expires}`;
  return { how: 'token', name: token.name, scope: token.scope, token };
}

// Null: no certificate was sent.
function byCertificate(socket: Socket, clients: readonly ClientRule[]): Client | string | null {
  if (!(socket instanceof TLSSocket)) return null;
  const certificate: Partial<DetailedPeerCertificate> = socket.getPeerCertificate(true);
  if (certificate.raw === undefined) return null;
  if (!socket.authorized) return `the client certificate is not valid: ${socket.authorizationError}`;
  if (Date.parse(certificate.valid_to ?? '') <= Date.now()) return 'the client certificate has expired'; // on a connection that was kept
  const cn: unknown = certificate.subject?.CN;
  // What has a comma or a quote in it comes quoted, so nothing can pass for two names here.
  const names = certificate.subjectaltname?.split(', ') ?? [];
  for (const rule of clients) {
    const name = 'cn' in rule ? rule.cn : rule.san;
    if ('cn' in rule ? cn === rule.cn : names.includes(rule.san))
      return { how: 'certificate', name, scope: rule.scope, token: null };
  }
  return `the client certificate is nobody's in api.clients: ${JSON.stringify(cn ?? names)}`;
}
