// SPDX-License-Identifier: Apache-2.0

/** Stable codes a caller may branch on. Texts are for people and may change. */
export type ErrorCode =
  | 'invalid' // bad input; `fields` says where
  | 'not-found'
  | 'conflict' // would break another object: VIP taken, pool in use
  | 'precondition' // If-Match / If-None-Match did not hold
  | 'full' // a fixed-size table has no room left
  | 'unsupported' // this machine or this version cannot do it
  | 'unavailable' // store or daemon not reachable
  | 'busy' // someone else holds it: hook, lock
  | 'permission'
  | 'unauthenticated' // nobody known asks
  | 'throttled' // too much at once
  | 'damaged' // stored state that does not parse
  | 'native'; // a system call or libbpf failed; see NativeError

/** One field that was wrong. `pointer` is an RFC 6901 JSON pointer into the body, '' for the whole. */
export interface FieldError {
  readonly pointer: string;
  readonly detail: string;
}

/** The one error class of the project: a code for programs, a sentence for people. */
export class FairleadError extends Error {
  override readonly name: string = 'FairleadError';
  constructor(
    readonly code: ErrorCode,
    message: string,
    readonly fields: readonly FieldError[] = [],
    options?: { cause?: unknown },
  ) {
    super(message, options);
  }
}

/** The sentence of any thrown value. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** The errno name of a failed system call ('ENOENT'), or undefined for any other thrown value. */
export function errnoOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}
