// SPDX-License-Identifier: Apache-2.0
import type { Socket } from 'node:net';
import { isExpired, type Token } from './tokens.js';

/** Connections over which somebody came in with a token, and the last one. */
export interface Bearers {
  note(socket: Socket, token: Token): void;
  close(): void;
}

const lookMs = 2000;

/** Cuts connections whose token has ended or was taken away: an event stream asks no second time. */
export function openBearers(tokens: () => readonly Token[]): Bearers {
  const bearers = new Map<Socket, Token>();
  const timer = setInterval(() => {
    const known = new Set(tokens().map(({ hash }) => hash));
    for (const [socket, token] of bearers) if (!known.has(token.hash) || isExpired(token)) socket.destroy();
  }, lookMs).unref();
  return {
    note(socket, token) {
      if (!bearers.has(socket)) socket.once('close', () => bearers.delete(socket));
      bearers.set(socket, token);
    },
    close: () => clearInterval(timer),
  };
}
