// SPDX-License-Identifier: Apache-2.0
// What goes wrong with etcd, as errors of ours.
import { type ErrorCode, FairleadError, messageOf } from '../../model/errors.js';

/** By the names of etcd3's classes of errors; every other is 'unavailable': a write may have been done. */
const CODES: Readonly<Record<string, ErrorCode>> = {
  EtcdPermissionDeniedError: 'permission',
  EtcdAuthenticationFailedError: 'permission',
  GRPCUnauthenticatedError: 'permission',
  GRPCResourceExhastedError: 'busy',
  GRPCOutOfRangeError: 'not-found',
  GRPCInvalidArgumentError: 'native',
  GRPCFailedPreconditionError: 'native',
  GRPCNotImplementedError: 'unsupported',
};

/** Sentences of etcd that say more than their class. */
const SENTENCES: readonly (readonly [RegExp, ErrorCode, string])[] = [
  [/database space exceeded/, 'full', ': etcd has used up its quota; compact, defragment and disarm its alarm'],
  [/request is too large|larger than max/, 'full', ": larger than etcd's --max-request-bytes"],
  [/requested lease not found/, 'not-found', ''],
  [/too many operations/, 'full', ": more than etcd's --max-txn-ops"],
  [/invalid auth token|auth store is old|user name is empty/, 'unavailable', ''],
  [/authentication failed|permission denied/, 'permission', ''],
];

/** Tokens that etcd does not take any more: asking again with new ones may do. */
const STALE = /invalid auth token|auth store is old/;

/** An error of etcd3 as one of ours; `what` is the verb that failed. */
export function nameless(error: unknown, what: string): FairleadError {
  if (error instanceof FairleadError) return error;
  const text = messageOf(error).replace(/^\w*(Error)?: /, '');
  const kind = error instanceof Error ? error.constructor.name : '';
  const [, code, hint] = SENTENCES.find(([pattern]) => pattern.test(text)) ?? [null, CODES[kind] ?? 'unavailable', ''];
  return new FairleadError(code, `etcd: ${what}: ${text}${hint}`, [], { cause: error });
}

/** False when the request of this 'unavailable' never left: there was no connection. */
export const wasSent = (error: unknown): boolean =>
  !/No connection established|ECONNREFUSED|Channel closed before call started/.test(messageOf(error));

/** True when asking again needs a new client. */
export const isStale = (error: unknown): boolean => STALE.test(messageOf(error));
