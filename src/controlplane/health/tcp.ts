// SPDX-License-Identifier: Apache-2.0
import { connect } from 'node:net';
import { attempt, type CheckTarget, failed, OK, type Outcome } from './attempt.js';

/** Well when the connection is accepted. It is closed at once. */
export const checkTcp = ({ address, port, timeoutMs }: CheckTarget): Promise<Outcome> =>
  attempt(timeoutMs, (done) => {
    const socket = connect({ host: address, port, noDelay: true });
    socket.on('error', (error) => done(failed(error)));
    socket.on('connect', () => done(OK));
    return () => socket.destroy();
  });
