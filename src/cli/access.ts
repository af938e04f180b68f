// SPDX-License-Identifier: Apache-2.0
// Which daemon a command talks to, and with what it is let in there.
import { FairleadError } from '../model/errors.js';
import type { Endpoint } from './client.js';
import type { Io } from './io.js';

export const defaultSocket = '/run/fairlead/api.sock';

/** The options that say so. */
export interface Place {
  readonly socket?: string;
  readonly url?: URL;
  readonly tokenFile?: string;
  readonly ca?: string;
  readonly cert?: string;
  readonly key?: string;
}

/** An HTTP or HTTPS URL; null for any other text. */
export function urlOf(text: string): URL | null {
  const url = URL.canParse(text) ? new URL(text) : null;
  return url !== null && ['http:', 'https:'].includes(url.protocol) ? url : null;
}

/** What the options of a command and the environment say; an empty variable is none. Throws 'invalid' for what cannot be read or used. */
export async function accessOf(io: Io, given: Place): Promise<{ endpoint: Endpoint; token: string | null }> {
  const fallback = given.socket === undefined ? io.env.FAIRLEAD_URL || undefined : undefined;
  const url = given.url ?? (fallback === undefined ? undefined : urlOf(fallback));
  if (url === null)
    throw new FairleadError(
      'invalid',
      `FAIRLEAD_URL: got "${fallback}", wanted a URL such as https://lb1.example:7443`,
    );
  if (url === undefined)
    return {
      endpoint: { socket: given.socket ?? (io.env.FAIRLEAD_SOCKET || defaultSocket) },
      token: await tokenIn(io, given.tokenFile),
    };
  const token = await tokenIn(io, given.tokenFile ?? (io.env.FAIRLEAD_TOKEN_FILE || undefined));
  if (token !== null && url.protocol === 'http:' && !/^(localhost|127\.[\d.]+|\[::1\])$/.test(url.hostname))
    throw new FairleadError('invalid', `${url.origin}: a token is not sent to another machine without TLS; use https:`);
  const file = async (name: 'ca' | 'cert' | 'key') => {
    const path = given[name] ?? (io.env[`FAIRLEAD_${name.toUpperCase()}`] || undefined);
    return path === undefined ? {} : { [name]: await io.read(path) };
  };
  const tls = { ...(await file('ca')), ...(await file('cert')), ...(await file('key')) };
  return { endpoint: { url, tls }, token };
}

async function tokenIn(io: Io, path: string | undefined): Promise<string | null> {
  if (path === undefined) return null;
  const token = (await io.read(path)).trim();
  if (/^[\x21-\x7e]+$/.test(token)) return token;
  throw new FairleadError('invalid', `read "${path}": wanted one token, and nothing else`);
}
