// SPDX-License-Identifier: Apache-2.0
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import type { AccessConfig } from '../../src/api/access/access.js';
import { listenApi } from '../../src/api/listen.js';
import { tokenAccess } from '../support/access.js';
import { type Authority, makeAuthority } from '../support/certificates.js';
import { setup } from './api-setup.js';

export interface Served {
  readonly port: number;
  readonly socket: string;
  readonly authority: Authority;
}

/** The API on a listener with TLS and tokens, as `more` says besides. */
export async function served(t: TestContext, more: Partial<AccessConfig> = {}, listen = '127.0.0.1:0') {
  let authority: Authority | null = null;
  const given = await tokenAccess(t, (directory) => {
    authority = makeAuthority(directory);
    const { certFile: cert, keyFile: key } = authority.issue('server');
    const clientCa = more.clients === undefined ? null : authority.ca.certFile;
    return { tls: { cert, key, clientCa }, audit: join(directory, 'audit.jsonl'), ...more };
  });
  const it = { ...given, ...setup(t, given.access), authority: authority as unknown as Authority };
  const socket = join(given.directory, 'run', 'api.sock');
  const { port } = await listenApi(it.app, { socket, listen }, given.access);
  return { ...it, socket, port: port ?? 0 };
}
