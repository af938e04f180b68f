// SPDX-License-Identifier: Apache-2.0
import type { Server, Socket } from 'node:net';
import { peerUser } from '../../controlplane/peer-user.js';

/** Where a connection comes from. */
export type Peer =
  | { readonly kind: 'unix'; readonly uid: number | null }
  | { readonly kind: 'tcp'; readonly address: string; readonly isTls: boolean };

// Kept by what accepted the connection: a socket that was reset has no address any more, and must not pass for a local one.
const peers = new WeakMap<Socket, Peer>();

/** Marks what comes in by a Unix socket. */
export function markUnix(server: Server): void {
  server.on('connection', (socket) => peers.set(socket, { kind: 'unix', uid: peerUser(socket) }));
}

/** Marks what comes in by TCP. */
export function markTcp(server: Server, isTls: boolean): void {
  server.on(isTls ? 'secureConnection' : 'connection', (socket: Socket) =>
    peers.set(socket, { kind: 'tcp', address: plain(socket.remoteAddress ?? 'unknown'), isTls }),
  );
}

/** Where a connection comes from; one of no listener (a test's) passes for plain TCP. */
export function peerOf(socket: Socket): Peer {
  return peers.get(socket) ?? { kind: 'tcp', address: plain(socket.remoteAddress ?? 'unknown'), isTls: false };
}

const plain = (address: string): string => address.replace(/^::ffff:(?=\d+\.)/i, '');
