// SPDX-License-Identifier: Apache-2.0
import type { FastifyRequest } from 'fastify';
import { FairleadError } from '../model/errors.js';

/** The ETag of an object: its revision, strong. */
export function etagOf(revision: number): string {
  return `"${revision}"`;
}

/** Throws 'precondition' unless the object, as it is now, is what the request's If-Match and If-None-Match ask for (RFC 9110 section 13.1). */
export function checkPreconditions(request: FastifyRequest, current: { readonly revision: number } | undefined): void {
  const { 'if-match': match, 'if-none-match': noneMatch } = request.headers;
  const tag = current && etagOf(current.revision);
  const now = tag === undefined ? 'it does not exist' : `it is at ${tag}`;
  if (match !== undefined && !(tag !== undefined && tagsOf(match).some((each) => each === '*' || each === tag))) {
    throw new FairleadError('precondition', `If-Match ${match} does not hold: ${now}`);
  }
  // Weak comparison here: W/"7" is "7".
  if (
    noneMatch !== undefined &&
    tag !== undefined &&
    tagsOf(noneMatch).some((each) => each === '*' || each.replace(/^W\//, '') === tag)
  ) {
    throw new FairleadError('precondition', `If-None-Match ${noneMatch} does not hold: ${now}`);
  }
}

function tagsOf(header: string): string[] {
  return header.match(/\*|(?:W\/)?"[^"]*"/g) ?? [];
}
