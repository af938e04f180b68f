// SPDX-License-Identifier: Apache-2.0
import { request } from 'node:http';
import { FairleadError, messageOf } from '../model/errors.js';

/** Calls the daemon's API; the answer's JSON. */
export type Api = (method: string, path: string, body?: unknown) => Promise<unknown>;

/** The API behind a unix socket. Calls throw 'unavailable' when nobody answers within 15 s or the answer is an error; its detail is in the message. */
export function apiAt(socketPath: string): Api {
  return (method, path, body) =>
    new Promise((resolve, reject) => {
      const fail = (text: string) => reject(new FairleadError('unavailable', `${method} ${path}: ${text}`));
      const payload = body === undefined ? '' : JSON.stringify(body);
      const headers = payload
        ? { 'content-type': 'application/json', 'content-length': Buffer.byteLength(payload) }
        : {};
      const outgoing = request(
        { socketPath, method, path, headers, signal: AbortSignal.timeout(15_000) },
        (response) => {
          let text = '';
          response.setEncoding('utf8').on('data', (chunk: string) => {
            text += chunk;
          });
          response
            .on('error', (error) => fail(error.message))
            .on('end', () => {
              const status = response.statusCode ?? 0;
              if (status >= 400) return fail(`status ${status}: ${text.trim()}`);
              try {
                resolve(text === '' ? null : JSON.parse(text));
              } catch (error) {
                fail(messageOf(error));
              }
            });
        },
      );
      outgoing.on('error', (error) => fail(error.message)).end(payload);
    });
}
