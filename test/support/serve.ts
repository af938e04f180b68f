// SPDX-License-Identifier: Apache-2.0
// `fairlead serve` as its own process, in a namespace, under the test's control: nothing starts it again.
import assert from 'node:assert/strict';
import { request } from 'node:http';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { spawnInside } from '../../src/lab/children.js';
import { until } from './lab.js';

/** The compiled entry of the program. */
export const mainFile = fileURLToPath(new URL('../../src/main.js', import.meta.url));

/** How a process ended. */
export interface End {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** A running daemon. `output` is all it has written, stdout and stderr. */
export interface Serve {
  readonly ended: Promise<End>;
  output(): string;
  kill(signal: NodeJS.Signals): Promise<End>;
}

/** Starts `serve --config FILE` in the namespace, or another command; `prefix` is what to run it under. */
export function startServe(
  namespace: string,
  config: string,
  prefix: readonly string[] = [],
  verb: 'serve' | 'agent' = 'serve',
): Serve {
  const command = [...prefix, process.execPath, '--enable-source-maps', mainFile, verb, '--config', config];
  const child = spawnInside(namespace, command, ['ignore', 'pipe', 'pipe']);
  let written = '';
  for (const stream of [child.stdout, child.stderr])
    stream?.setEncoding('utf8').on('data', (chunk: string) => {
      written += chunk;
    });
  const ended = new Promise<End>((resolve) => child.on('close', (code, signal) => resolve({ code, signal })));
  return {
    ended,
    output: () => written,
    kill(signal) {
      child.kill(signal);
      return ended;
    },
  };
}

/** An answer of the API, whatever its status. */
export interface Reply {
  readonly status: number;
  readonly etag: string | undefined;
  readonly body: unknown;
}

/** One request on the daemon's socket. Rejects when nobody answers. */
export function ask(
  socketPath: string,
  method: string,
  path: string,
  body?: unknown,
  headers: Readonly<Record<string, string>> = {},
): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const type = body === undefined ? {} : { 'content-type': 'application/json' };
    const signal = AbortSignal.timeout(15_000);
    const outgoing = request({ socketPath, method, path, headers: { ...type, ...headers }, signal }, (response) => {
      text(response)
        .then((answer) => {
          const { statusCode: status = 0, headers: got } = response;
          const isJson = got['content-type']?.includes('json');
          resolve({ status, etag: got.etag, body: answer === '' ? null : isJson ? JSON.parse(answer) : answer });
        })
        .catch(reject);
    });
    outgoing.on('error', reject).end(body === undefined ? undefined : JSON.stringify(body));
  });
}

/** Waits until the daemon is ready; fails with its output when it is not, or ends. */
export async function untilReady(serve: Serve, socket: string): Promise<void> {
  let state: 'starting' | 'ready' | 'ended' = 'starting';
  serve.ended.then(() => {
    state = 'ended';
  });
  await until('the daemon is ready', async () => {
    if (state === 'ended') assert.fail(`the daemon ended: ${serve.output()}`);
    return (await ask(socket, 'GET', '/readyz').catch(() => null))?.status === 200;
  });
}
