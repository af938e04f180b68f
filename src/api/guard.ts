// SPDX-License-Identifier: Apache-2.0
import type { FastifyInstance } from 'fastify';
import { FairleadError } from '../model/errors.js';

const loopback = /^(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d+)?$/i;

/**
 * Keeps web pages away from the loopback listener, which asks for no token: a browser on this machine may be made to send
 * requests here by any site. A Host that is not loopback is DNS rebinding, an Origin that is not Host is another site's page.
 * A program sends no Origin; the Unix socket is out of a browser's reach.
 */
export function guardBrowsers(app: FastifyInstance): void {
  app.addHook('onRequest', async ({ headers, socket }) => {
    if (socket.remoteAddress === undefined) return;
    const { host = '', origin } = headers;
    if (!loopback.test(host)) throw new FairleadError('permission', `host "${host}" is not a loopback address`);
    if (origin !== undefined && origin !== `http://${host}`) {
      throw new FairleadError('permission', `a page of "${origin}" may not use this API`);
    }
  });
}
