// SPDX-License-Identifier: Apache-2.0
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';

/** A request as it came, its body read as JSON; null without one. */
export interface Seen {
  readonly method: string;
  readonly url: string;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: unknown;
}

/** An answer to give. A text is sent as it is, anything else as JSON. */
export interface Given {
  readonly status?: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: unknown;
}

/** A real HTTP server on a Unix socket. It gives the answer for `METHOD URL` and remembers what it was asked. */
export interface ApiServer {
  readonly socket: string;
  readonly directory: string; // for the test's own files
  readonly seen: readonly Seen[];
  close(): Promise<void>;
}

export async function startApiServer(answers: Readonly<Record<string, Given>>): Promise<ApiServer> {
  const directory = mkdtempSync(join(tmpdir(), 'fairlead-cli-'));
  const socket = join(directory, 'api.sock');
  const seen: Seen[] = [];
  const server = createServer((request, response) => {
    const { method = '', url = '', headers } = request;
    text(request).then((sent) => {
      seen.push({ method, url, headers, body: sent === '' ? null : JSON.parse(sent) });
      const { status = 200, headers: extra, body } = answers[`${method} ${url}`] ?? noRoute(url);
      const type = status >= 400 ? 'application/problem+json' : 'application/json';
      response.writeHead(status, { 'content-type': type, ...extra });
      response.end(body === undefined || typeof body === 'string' ? body : JSON.stringify(body));
    });
  });
  await new Promise<void>((resolve) => server.listen(socket, resolve));
  return {
    socket,
    directory,
    seen,
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
      rmSync(directory, { recursive: true });
    },
  };
}

/** A problem document, as the API answers it. */
export function problem(
  status: number,
  code: string,
  detail: string,
  errors: readonly { readonly pointer: string; readonly detail: string }[] = [],
): Given {
  const body = { type: `urn:fairlead:problem:${code}`, title: code, status, detail };
  return { status, body: errors.length > 0 ? { ...body, errors } : body };
}

function noRoute(url: string): Given {
  return problem(404, 'not-found', `there is nothing at ${url}`);
}
