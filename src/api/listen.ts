// SPDX-License-Identifier: Apache-2.0
import { chmod, chown, lstat, mkdir, readFile, unlink } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { connect } from 'node:net';
import { dirname } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import type { FastifyInstance } from 'fastify';
import { parseAddress } from '../model/address.js';
import { errnoOf, FairleadError, messageOf } from '../model/errors.js';
import type { OpenAccess } from './access/access.js';
import { markTcp, markUnix } from './access/peers.js';

/** Where the API listens: a Unix socket always, and `listen` ("127.0.0.1:7080", "[::1]:7080") besides. Port 0 takes a free one. */
export interface ListenOptions {
  readonly socket: string;
  /** Name or number of the group that may open the socket; null: that of the process. */
  readonly socketGroup?: string | null;
  readonly listen: string | null;
}

/** More connections over TCP are closed at once: each takes a descriptor. */
const maxConnections = 1024;

/**
 * Opens the listeners; `app.close()` closes them. Answers the TCP port, or null without one. The socket has mode 0660 and its
 * directory is made. With `access.tls` the TCP listener speaks TLS, and takes each new certificate for connections to come. Throws 'busy' when somebody answers on the socket or holds the port, 'unsupported' for a TCP address that
 * is not loopback without TLS, 'invalid' for one that is not ADDRESS:PORT and for an unknown group, 'permission' or 'unavailable' when the system refuses.
 */
export async function listenApi(
  app: FastifyInstance,
  { socket, socketGroup = null, listen }: ListenOptions,
  access: Pick<OpenAccess, 'tls' | 'onTls' | 'clients'> | null = null,
): Promise<{ readonly port: number | null }> {
  const tcp = listen === null ? null : endpointOf(listen, access?.tls != null);
  const gid = socketGroup === null ? null : await groupOf(socketGroup);
  // fastify listens once; a second plain server shares its routes.
  const server = tcpServer(app, access);
  server.maxConnections = maxConnections;
  app.addHook('preClose', async () => {
    server.closeAllConnections();
    if (server.listening) await new Promise((resolve) => server.close(resolve));
  });
  await app.ready();
  markUnix(app.server);
  await listening(`socket "${socket}"`, async () => {
    await mkdir(dirname(socket), { recursive: true, mode: 0o755 });
    await removeStale(socket);
    await app.listen({ path: socket });
    if (gid !== null) await chown(socket, process.geteuid?.() ?? 0, gid);
    await chmod(socket, 0o660); // until now it is writable for this user alone, with the usual umask
  });
  if (tcp === null) return { port: null };
  await listening(
    `"${listen}"`,
    () => new Promise<void>((resolve, reject) => server.once('error', reject).listen(tcp, resolve)),
  );
  const address = server.address();
  return { port: typeof address === 'object' && address !== null ? address.port : null };
}

function tcpServer(app: FastifyInstance, access: Pick<OpenAccess, 'tls' | 'onTls' | 'clients'> | null): Server {
  const tls = access?.tls ?? null;
  if (access === null || tls === null) {
    const server = createServer((request, response) => app.routing(request, response));
    markTcp(server, false);
    return server;
  }
  // Who has no certificate may have a token: what was sent is judged with the request.
  const ask = { requestCert: access.clients.length > 0, rejectUnauthorized: false, handshakeTimeout: 10_000 };
  const server = createTlsServer({ ...tls.current(), ...ask }, (request, response) => app.routing(request, response));
  let ca = tls.current().ca;
  access.onTls((material) => {
    server.setSecureContext(material);
    // Who came in by an authority that may not be trusted any more is to show a certificate again.
    if (!isDeepStrictEqual(material.ca, ca)) server.closeAllConnections();
    ca = material.ca;
  });
  markTcp(server, true);
  return server;
}

function endpointOf(listen: string, isTls: boolean): { host: string; port: number } {
  const [, host = '', digits = ''] = /^(.*):(\d{1,5})$/.exec(listen) ?? [];
  const port = Number(digits);
  if (host === '' || port > 65535)
    throw new FairleadError('invalid', `listen on "${listen}": wanted ADDRESS:PORT, as 127.0.0.1:7080 or [::1]:7080`);
  const { family, bytes, text } = parseAddress(host.replace(/^\[(.*)\]$/, '$1'));
  if (isTls || (family === 4 ? bytes[0] === 127 : text === '::1')) return { host: text, port };
  throw new FairleadError('unsupported', `listen on "${listen}": another address than loopback needs api.tls`);
}

// Node.js knows no getgrnam(3).
async function groupOf(group: string): Promise<number> {
  if (/^\d+$/.test(group)) return Number(group);
  const lines = (await readFile('/etc/group', 'utf8')).split('\n').map((line) => line.split(':'));
  const gid = lines.find(([name]) => name === group)?.[2];
  if (gid === undefined) throw new FairleadError('invalid', `api.socketGroup: there is no group "${group}"`);
  return Number(gid);
}

// A socket file outlives a killed daemon. It goes only when nobody answers on it.
async function removeStale(path: string): Promise<void> {
  const found = await lstat(path).catch((error: unknown) => {
    if (errnoOf(error) === 'ENOENT') return null;
    throw error;
  });
  if (found === null) return;
  if (!found.isSocket()) throw new FairleadError('busy', `listen on "${path}": it is there and not a socket`);
  if (await answers(path))
    throw new FairleadError('busy', `listen on "${path}": another process answers on it; stop it first`);
  await unlink(path);
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const probe = connect(path);
    probe.once('error', (error) => (errnoOf(error) === 'ECONNREFUSED' ? resolve(false) : reject(error)));
    probe.once('connect', () => {
      probe.destroy();
      resolve(true);
    });
  });
}

async function listening(what: string, step: () => Promise<void>): Promise<void> {
  try {
    await step();
  } catch (error) {
    if (error instanceof FairleadError) throw error;
    const errno = errnoOf(error) ?? '';
    const code = errno === 'EADDRINUSE' ? 'busy' : ['EACCES', 'EPERM'].includes(errno) ? 'permission' : 'unavailable';
    throw new FairleadError(code, `listen on ${what}: ${messageOf(error)}`, [], { cause: error });
  }
}
