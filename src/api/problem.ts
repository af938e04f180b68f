// SPDX-License-Identifier: Apache-2.0
import { STATUS_CODES } from 'node:http';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { type ErrorCode, FairleadError, type FieldError, messageOf } from '../model/errors.js';
import { parseJson } from '../model/json-locate.js';

/** An error as the API answers it (RFC 9457): `type` is urn:fairlead:problem:CODE for an error of ours, about:blank for one of HTTP. */
export interface Problem {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly detail: string;
  readonly errors?: readonly FieldError[];
  readonly reasons?: readonly string[]; // of /readyz
}

const kinds: Record<ErrorCode, readonly [status: number, title: string]> = {
  invalid: [400, 'Invalid request'],
  unsupported: [400, 'Not supported'],
  unauthenticated: [401, 'Not authenticated'],
  permission: [403, 'Not permitted'],
  'not-found': [404, 'Not found'],
  conflict: [409, 'Conflict'],
  precondition: [412, 'Precondition failed'],
  throttled: [429, 'Too many requests'],
  native: [500, 'System call failed'],
  damaged: [500, 'Stored state is damaged'],
  busy: [503, 'Busy'],
  unavailable: [503, 'Not available'],
  full: [507, 'Table full'],
};

/** The bytes a body may have. */
export const bodyLimit = 8 * 1024 * 1024;

/** The levels of objects and arrays it may have: what looks at it goes down by recursion. */
const bodyDepth = 64;

/** The problem document for any thrown value. */
export function problemOf(error: unknown, contentType?: string): Problem {
  if (error instanceof FairleadError) {
    const [status, title] = kinds[error.code];
    return ours(error.code, status, title, error.message, error.fields);
  }
  const status = statusOf(error);
  if (status === 413) return plainProblem(status, `the body is larger than ${bodyLimit} bytes`);
  if (status === 415)
    return plainProblem(status, `content type "${contentType ?? ''}" is not supported; send application/json`);
  return plainProblem(status, status === 500 ? `unexpected: ${messageOf(error)}` : messageOf(error));
}

/** The JSON of a body. Throws 'invalid' that says where it stops being JSON, or that it is nested too deeply. */
export function parseBody(body: string): unknown {
  let value: unknown;
  try {
    value = JSON.parse(body);
  } catch {
    throw refused(`the body is not JSON: ${whereBroken(body)}`);
  }
  if (!isWithin(value, bodyDepth)) throw refused(`the body is nested deeper than ${bodyDepth} levels`);
  return value;
}

const refused = (detail: string): FairleadError => new FairleadError('invalid', detail, [{ pointer: '', detail }]);

function isWithin(value: unknown, levels: number): boolean {
  if (typeof value !== 'object' || value === null) return true;
  return levels > 0 && Object.values(value).every((each) => isWithin(each, levels - 1));
}

/** A problem of HTTP itself, without a type of ours. */
export function plainProblem(status: number, detail: string): Problem {
  return { type: 'about:blank', title: STATUS_CODES[status] ?? 'Error', status, detail };
}

/** Answers a request with a problem. A 5xx is logged here, once. */
export function sendProblem(
  request: FastifyRequest,
  reply: FastifyReply,
  problem: Problem,
  error?: unknown,
): FastifyReply {
  if (problem.status === 500)
    request.log.error({ err: error, method: request.method, url: request.url }, problem.detail);
  if (problem.status === 503) reply.header('retry-after', '1');
  return reply.code(problem.status).type('application/problem+json').send(problem);
}

function ours(code: ErrorCode, status: number, title: string, detail: string, fields: readonly FieldError[]): Problem {
  const problem = { type: `urn:fairlead:problem:${code}`, title, status, detail };
  return fields.length > 0 ? { ...problem, errors: fields } : problem;
}

function statusOf(error: unknown): number {
  const status = error instanceof Error && 'statusCode' in error ? error.statusCode : 500;
  return typeof status === 'number' && status >= 400 && status < 600 ? status : 500;
}

function whereBroken(text: string): string {
  try {
    parseJson(text);
    return 'it does not parse';
  } catch (error) {
    return messageOf(error);
  }
}
