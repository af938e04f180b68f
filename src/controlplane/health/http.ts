// SPDX-License-Identifier: Apache-2.0
import { request as plain } from 'node:http';
import { request as secure } from 'node:https';
import { attempt, type CheckTarget, comingFrom, failed, OK, type Outcome, wrong } from './attempt.js';

/** Well when the status of the answer is one that is expected; its body is not waited for. A connection of its own for each. */
export const checkHttp = (target: CheckTarget): Promise<Outcome> =>
  attempt(target.timeoutMs, (done) => {
    const { address, port } = target;
    const { type, path = '/', host, expect, verify = false } = target.check;
    const name = host?.replace(/:\d+$/, '');
    const options = {
      ...{ host: address, port, path, method: 'GET', agent: false, ...comingFrom(target) },
      headers: { 'user-agent': 'fairlead-health-check', connection: 'close', ...(host !== undefined && { host }) },
    };
    const outgoing =
      type === 'https'
        ? secure({ ...options, rejectUnauthorized: verify, ...(name !== undefined && { servername: name }) })
        : plain(options);
    outgoing.on('error', (error) => done(failed(error)));
    outgoing.on('response', (response) => {
      const { statusCode: status = 0 } = response;
      response.on('error', () => undefined); // it is cut off here
      const isWell = expect === undefined ? status >= 200 && status <= 399 : expect.includes(status);
      done(isWell ? OK : wrong(`HTTP status ${status}`));
    });
    outgoing.end();
    return () => outgoing.destroy();
  });
