// SPDX-License-Identifier: Apache-2.0
// What the agent tells Prometheus, on a listener of its own: the API is the balancer's.
import { createServer, type Server } from 'node:http';
import { type ErrorCode, errnoOf, FairleadError, messageOf } from '../model/errors.js';
import { counter, gauge, openExposition } from '../observability/exposition.js';

/** Who tells, and what: packets so far by result, null while the programs are not there yet. */
export interface MetricsSource {
  readonly version: string;
  readonly node: string;
  results(): ReadonlyMap<string, number> | null;
}

/**
 * Answers GET /metrics at ADDRESS:PORT; 503 until there are results. Throws 'busy' when somebody holds the port, 'invalid' for an
 * address that is not this machine's, 'permission' or 'native' when the system refuses. `close` drops every connection.
 */
export async function serveMetrics(
  listen: string,
  { version, node, results }: MetricsSource,
): Promise<{ readonly port: number; close(): Promise<void> }> {
  const exposition = openExposition(async () => [
    gauge('build_info', 'Version of the running agent; always 1.', [{ labels: { version, node }, value: 1 }]),
    counter(
      'second_chance_total',
      'Tunnel packets by what the agent did with them.',
      [...(results() ?? [])].map(([result, value]) => ({ labels: { result }, value })),
    ),
  ]);
  const server = createServer((request, response) => {
    const answer = (status: number, type: string, text: string): void =>
      void response.writeHead(status, { 'content-type': type }).end(text);
    const plain = (status: number, text: string): void => answer(status, 'text/plain; charset=utf-8', `${text}\n`);
    if (request.url?.split('?')[0] !== '/metrics') return plain(404, 'there is /metrics only');
    if (request.method !== 'GET' && request.method !== 'HEAD') return plain(405, 'wanted GET');
    if (results() === null) return plain(503, 'the agent is starting');
    exposition().then(
      ({ contentType, text }) => answer(200, contentType, text),
      (error: unknown) => plain(500, messageOf(error)),
    );
  });
  await opened(server, listen);
  const address = server.address();
  return {
    port: typeof address === 'object' && address !== null ? address.port : 0,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

/** What a listener is refused for, by errno. */
const REFUSALS: Readonly<Record<string, ErrorCode>> = {
  EADDRINUSE: 'busy',
  EADDRNOTAVAIL: 'invalid',
  EACCES: 'permission',
  EPERM: 'permission',
};

async function opened(server: Server, listen: string): Promise<void> {
  const [, host = '', port = ''] = /^\[?([^\]]*)\]?:(\d+)$/.exec(listen) ?? [];
  try {
    await new Promise<void>((resolve, reject) => server.once('error', reject).listen(Number(port), host, resolve));
  } catch (error) {
    throw new FairleadError(
      REFUSALS[errnoOf(error) ?? ''] ?? 'native',
      `listen on "${listen}": ${messageOf(error)}`,
      [],
      { cause: error },
    );
  }
}
