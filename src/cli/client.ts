// SPDX-License-Identifier: Apache-2.0
import { request as httpRequest, type IncomingHttpHeaders, type RequestOptions } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { text } from 'node:stream/consumers';
import { type ErrorCode, FairleadError, type FieldError, messageOf } from '../model/errors.js';

/** Where the daemon answers: the path of its Unix socket, or the URL below which `/api` is, with what TLS takes there, as PEM. */
export type Endpoint =
  | { readonly socket: string }
  | { readonly url: URL; readonly tls?: { readonly ca?: string; readonly cert?: string; readonly key?: string } };

/** An answer that is no error; `body` is its JSON, null without one. */
export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: unknown;
}

/** What may go with a call. An undefined parameter is not sent. */
export interface CallOptions {
  readonly query?: Readonly<Record<string, string | undefined>>;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: unknown;
}

/** One call of the API. `path` is below `/api/v1` and encoded, as `pathOf` makes it. */
export type Call = (method: string, path: string, options?: CallOptions) => Promise<Answer>;

const timeoutMs = 30_000;

/**
 * The API at an endpoint. Calls throw 'unavailable' when nobody answers there (and for nothing else), otherwise the code
 * that belongs to the answer's status, with its detail as the message and its `errors` as the fields.
 */
export function clientAt(endpoint: Endpoint, token: string | null): Call {
  const { name, request, target, base } = destination(endpoint);
  return async (method, path, { query = {}, headers = {}, body } = {}) => {
    const payload = body === undefined ? null : JSON.stringify(body);
    const options: RequestOptions = {
      ...target,
      method,
      path: `${base}/api/v1${path}${queryText(query)}`,
      headers: {
        accept: 'application/json',
        ...(token === null ? {} : { authorization: `Bearer ${token}` }),
        ...(payload === null
          ? {}
          : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(payload) }),
        ...headers,
      },
      signal: AbortSignal.timeout(timeoutMs),
    };
    const answer = await new Promise<Answer & { text: string }>((resolve, reject) => {
      const outgoing = request(options, (response) => {
        const { statusCode: status = 0, headers } = response;
        text(response).then((text) => resolve({ status, headers, text, body: parsed(text) }), reject);
      });
      outgoing.on('error', reject).end(payload ?? undefined);
    }).catch((error: unknown) => {
      throw new FairleadError('unavailable', `reach the daemon at ${name}: ${whyNot(error, name)}`, [], {
        cause: error,
      });
    });
    if (answer.status >= 400) throw problemOf(answer, `${method} ${path}`);
    if (answer.body === undefined || answer.status < 200 || answer.status >= 300) {
      throw new FairleadError('unavailable', `reach the daemon at ${name}: what answers there is not Fairlead`);
    }
    return { status: answer.status, headers: answer.headers, body: answer.body };
  };
}

/** A path of these parts, each encoded. */
export function pathOf(...parts: readonly string[]): string {
  return parts.map((part) => `/${encodeURIComponent(part)}`).join('');
}

function destination(endpoint: Endpoint): {
  name: string;
  request: typeof httpRequest;
  target: RequestOptions;
  base: string;
} {
  if ('socket' in endpoint) {
    return { name: endpoint.socket, request: httpRequest, target: { socketPath: endpoint.socket }, base: '' };
  }
  const { url } = endpoint;
  return {
    name: url.origin,
    request: url.protocol === 'https:' ? httpsRequest : httpRequest,
    target: { hostname: url.hostname.replace(/^\[(.*)\]$/, '$1'), port: url.port, ...endpoint.tls },
    base: url.pathname.replace(/\/+$/, ''),
  };
}

function queryText(query: NonNullable<CallOptions['query']>): string {
  const set = Object.entries(query).flatMap(([name, value]): [string, string][] =>
    value === undefined ? [] : [[name, value]],
  );
  return set.length === 0 ? '' : `?${new URLSearchParams(set)}`;
}

// Undefined for what is not JSON.
function parsed(text: string): unknown {
  if (text === '') return null;
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function whyNot(error: unknown, name: string): string {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  if (error instanceof Error && error.name === 'TimeoutError') return `no answer within ${timeoutMs / 1000} s`;
  if (code === 'ENOENT') return 'there is no such socket; is "fairlead serve" running?';
  if (code === 'ECONNREFUSED') return 'nobody listens there; is "fairlead serve" running?';
  if (code === 'ECONNRESET' && name.startsWith('http:')) return 'the connection was cut; is it https: instead?';
  if (code === 'EACCES') return 'this user may not; use sudo';
  return typeof code === 'string' ? (tlsReason(code, messageOf(error)) ?? messageOf(error)) : messageOf(error);
}

// By the codes of OpenSSL (X509_verify_cert_error_string) and of node.
function tlsReason(code: string, message: string): string | null {
  if (code === 'CERT_HAS_EXPIRED') return 'its certificate has expired';
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID') return `its certificate is for another name: ${message}`;
  if (/^(DEPTH_ZERO_SELF_SIGNED_CERT|SELF_SIGNED_CERT_IN_CHAIN|UNABLE_TO_(VERIFY|GET)_\w+)$/.test(code))
    return 'its certificate is signed by nobody known here; name who signed it with --ca';
  if (code === 'EPROTO' || code === 'ERR_SSL_WRONG_VERSION_NUMBER')
    return 'no TLS is spoken there; is it http: instead?';
  if (/^ERR_(SSL|TLS|OSSL)_/.test(code)) return `TLS: ${message}`;
  return null;
}

function problemOf({ status, body }: Answer, what: string): FairleadError {
  const { detail, errors }: { detail?: unknown; errors?: unknown } = Object(body);
  const text = typeof detail === 'string' ? detail : `${what}: status ${status}`;
  return new FairleadError(codeOf(status), text, Array.isArray(errors) ? errors.flatMap(fieldOf) : []);
}

function codeOf(status: number): ErrorCode {
  switch (status) {
    case 401:
    case 403:
      return 'permission';
    case 404:
      return 'not-found';
    case 409:
      return 'conflict';
    case 412:
      return 'precondition';
    case 429:
      return 'throttled';
    case 503:
      return 'busy'; // it answers: not the 'unavailable' of a daemon that is not reachable
    case 507:
      return 'full';
    default:
      return status < 500 ? 'invalid' : 'native';
  }
}

function fieldOf(value: unknown): FieldError[] {
  const { pointer, detail }: { pointer?: unknown; detail?: unknown } = Object(value);
  return typeof pointer === 'string' && typeof detail === 'string' ? [{ pointer, detail }] : [];
}
