// SPDX-License-Identifier: Apache-2.0
import { chmod, lstat, mkdir, unlink } from 'node:fs/promises';
import { createServer } from 'node:http';
import { connect } from 'node:net';
import { dirname } from 'node:path';
import type { FastifyInstance } from 'fastify';
import { parseAddress } from '../model/address.js';
import { errnoOf, FairleadError, messageOf } from '../model/errors.js';

/** Where the API listens: a Unix socket always, and `listen` ("127.0.0.1:7080", "[::1]:7080") besides. Port 0 takes a free one. */
export interface ListenOptions {
  readonly socket: string;
  readonly listen: string | null;
}

/**
 * Opens the listeners; `app.close()` closes them. Answers the TCP port, or null without one. The socket has mode 0660 and its
 * directory is made. Throws 'busy' when somebody answers on the socket or holds the port, 'unsupported' for a TCP address that
 * is not loopback, 'invalid' for one that is not ADDRESS:PORT, 'permission' or 'unavailable' when the system refuses.
 */
export async function listenApi(
  app: FastifyInstance,
  { socket, listen }: ListenOptions,
): Promise<{ readonly port: number | null }> {
  const tcp = listen === null ? null : loopbackOf(listen);
  // fastify listens once; a second plain server shares its routes.
  const server = createServer((request, response) => app.routing(request, response));
  app.addHook('preClose', async () => {
    server.closeAllConnections();
    if (server.listening) await new Promise((resolve) => server.close(resolve));
  });
  await app.ready();
  await listening(`socket "${socket}"`, async () => {
    await mkdir(dirname(socket), { recursive: true, mode: 0o755 });
    await removeStale(socket);
    await app.listen({ path: socket });
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

function loopbackOf(listen: string): { host: string; port: number } {
  const [, host = '', digits = ''] = /^(.*):(\d{1,5})$/.exec(listen) ?? [];
  const port = Number(digits);
  if (host === '' || port > 65535)
    throw new FairleadError('invalid', `listen on "${listen}": wanted ADDRESS:PORT, as 127.0.0.1:7080 or [::1]:7080`);
  const { family, bytes, text } = parseAddress(host.replace(/^\[(.*)\]$/, '$1'));
  if (family === 4 ? bytes[0] === 127 : text === '::1') return { host: text, port };
  throw new FairleadError(
    'unsupported',
    `listen on "${listen}": only loopback; another address needs tls, which this version has not`,
  );
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
