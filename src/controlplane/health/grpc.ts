// SPDX-License-Identifier: Apache-2.0
// grpc.health.v1.Health/Check (github.com/grpc/grpc, doc/health-checking.md) over HTTP/2 without TLS.
import { connect } from 'node:http2';
import { isIPv6, connect as openSocket } from 'node:net';
import { attempt, type CheckTarget, comingFrom, failed, OK, type Outcome, wrong } from './attempt.js';

const STATUS = ['UNKNOWN', 'SERVING', 'NOT_SERVING', 'SERVICE_UNKNOWN'];
/** A frame's head: one byte says whether it is compressed, four how long it is. */
const HEAD = 5;
const ANSWER_MAX = 1024;

/** HealthCheckRequest { string service = 1; } as a gRPC message. */
function question(service: string): Buffer {
  const name = Buffer.from(service);
  const body = name.length === 0 ? name : Buffer.concat([Buffer.of(0x0a), varint(name.length), name]);
  const head = Buffer.alloc(HEAD);
  head.writeUInt32BE(body.length, 1);
  return Buffer.concat([head, body]);
}

const varint = (value: number): Buffer =>
  value < 0x80 ? Buffer.of(value) : Buffer.of((value & 0x7f) | 0x80, value >> 7);

/** The status in HealthCheckResponse { ServingStatus status = 1; }; a field that is not there is 0. Null: it is not one. */
function statusIn(answer: Buffer): number | null {
  if (answer.length < HEAD || answer[0] !== 0 || answer.length < HEAD + answer.readUInt32BE(1)) return null;
  const body = answer.subarray(HEAD);
  if (body.length === 0) return 0;
  return body[0] === 0x08 ? (body[1] ?? null) : null;
}

/** Well when the answer is SERVING. */
export const checkGrpc = (target: CheckTarget): Promise<Outcome> =>
  attempt(target.timeoutMs, (done) => {
    const { address, port, check } = target;
    const authority = `${isIPv6(address) ? `[${address}]` : address}:${port}`;
    const session = connect(`http://${authority}`, {
      createConnection: () => openSocket({ host: address, port, ...comingFrom(target) }),
    });
    session.on('error', (error) => done(failed(error)));
    session.on('close', () => done(failed(new Error('the connection was closed'))));
    const stream = session.request({
      ':method': 'POST',
      ':path': '/grpc.health.v1.Health/Check',
      ...(check.host !== undefined && { ':authority': check.host }),
      'content-type': 'application/grpc',
      'user-agent': 'fairlead-health-check',
      te: 'trailers',
    });
    let answer = Buffer.alloc(0);
    let refusal = '';
    const told = (headers: Record<string, unknown>): void => {
      const { ':status': http, 'grpc-status': code, 'grpc-message': text = '' } = headers;
      if (http !== undefined && http !== 200) refusal = `HTTP status ${http}`;
      else if (code !== undefined && code !== '0') refusal = `gRPC status ${code} ${text}`.trim();
    };
    stream.on('error', (error) => done(failed(error)));
    stream.on('response', told);
    stream.on('trailers', told);
    stream.on('data', (chunk: Buffer) => {
      if (answer.length < ANSWER_MAX) answer = Buffer.concat([answer, chunk]);
    });
    stream.on('end', () => {
      if (refusal !== '') return done(wrong(refusal));
      const status = statusIn(answer);
      if (status === 1) return done(OK);
      done(wrong(status === null ? 'not an answer of grpc.health.v1' : (STATUS[status] ?? `status ${status}`)));
    });
    stream.end(question(check.service ?? ''));
    return () => session.destroy();
  });
