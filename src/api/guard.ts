// SPDX-License-Identifier: Apache-2.0
import type { FastifyInstance } from 'fastify';
import { FairleadError } from '../model/errors.js';
import { peerOf } from './access/peers.js';

const loopback = /^(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d+)?$/i;

/**
 * Keeps web pages away from the TCP listener, which may ask for no token, or for a certificate that a browser sends by itself: a browser may be made to
 * send requests here by any site. Without TLS, a Host that is not loopback is DNS rebinding (with it, the name is the certificate's); an Origin that is not
 * Host is another site's page. A program sends no Origin; the Unix socket is out of a browser's reach.
 */
export function guardBrowsers(app: FastifyInstance): void {
  app.addHook('onRequest', async ({ headers, raw }) => {
    const peer = peerOf(raw.socket);
    if (peer.kind === 'unix') return;
    const { host = '', origin } = headers;
    if (!peer.isTls && !loopback.test(host))
      throw new FairleadError('permission', `host "${host}" is not a loopback address`);
    if (origin !== undefined && origin !== `${peer.isTls ? 'https' : 'http'}://${host}`) {
      throw new FairleadError('permission', `a page of "${origin}" may not use this API`);
    }
  });
}
