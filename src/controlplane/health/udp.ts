// SPDX-License-Identifier: Apache-2.0
import { createSocket } from 'node:dgram';
import { isIPv6 } from 'node:net';
import { attempt, type CheckTarget, failed, OK, type Outcome, wrong } from './attempt.js';

/** The bytes that a field says: text, or 'hex:' and digits. */
export const bytesOf = (field: string): Buffer =>
  field.startsWith('hex:') ? Buffer.from(field.slice(4), 'hex') : Buffer.from(field);

/** Well when an answer comes that begins as it should. An ICMP error says at once that none will. */
export const checkUdp = ({ address, port, check, timeoutMs, fromPort }: CheckTarget): Promise<Outcome> =>
  attempt(timeoutMs, (done) => {
    const wanted = bytesOf(check.receive ?? '');
    const socket = createSocket(isIPv6(address) ? 'udp6' : 'udp4');
    socket.on('error', (error) => done(failed(error)));
    socket.on('message', (answer) => {
      const isWell = answer.subarray(0, wanted.length).equals(wanted);
      done(isWell ? OK : wrong(`the answer begins with hex:${answer.subarray(0, 16).toString('hex')}`));
    });
    if (fromPort !== undefined) socket.bind(fromPort);
    // Connected: only then does the kernel tell of ICMP errors, and take answers from nobody else.
    socket.connect(port, address, () => {
      socket.send(bytesOf(check.send ?? ''), (error) => {
        if (error) done(failed(error));
      });
    });
    return () => socket.close();
  });
