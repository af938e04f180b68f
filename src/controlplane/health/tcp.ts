// SPDX-License-Identifier: Apache-2.0
import { connect } from 'node:net';
import { attempt, type CheckTarget, comingFrom, failed, OK, type Outcome } from './attempt.js';

/** Well when the connection is accepted. It is closed at once. */
export const checkTcp = (target: CheckTarget): Promise<Outcome> =>
  attempt(target.timeoutMs, (done) => {
    const { address: host, port } = target;
    const socket = connect({ host, port, ...comingFrom(target) });
    socket.on('error', (error) => done(failed(error)));
    socket.on('connect', () => done(OK));
    return () => socket.destroy();
  });
