// SPDX-License-Identifier: Apache-2.0
// Tokens at rest: one JSON object a line, each with the SHA-256 of its token. Tokens are 256 random bits, so that nothing slower than one round
// of a hash is wanted: there is no dictionary to try.
import { createHash, timingSafeEqual } from 'node:crypto';
import { type FileHandle, open } from 'node:fs/promises';
import { isRecord } from '../../model/check.js';
import { FairleadError, messageOf } from '../../model/errors.js';
import { type Scope, scopes } from '../../model/scope.js';

export interface Token {
  readonly name: string;
  readonly hash: string; // SHA-256 of the token's text, 64 hex digits
  readonly scope: Scope;
  readonly created: string; // RFC 3339
  readonly expires: string | null;
}

/** More than these are refused: each request compares with all. */
export const tokenLimit = 1000;

export const tokenName = /^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$/;

export function hashOf(secret: string): string {
  return createHash('sha256').update(secret).digest('hex');
}

/** The token with this text. Takes as long whichever it is, if any. */
export function findToken(tokens: readonly Token[], secret: string): Token | null {
  const hash = Buffer.from(hashOf(secret), 'hex');
  let found: Token | null = null;
  for (const token of tokens) if (timingSafeEqual(hash, Buffer.from(token.hash, 'hex'))) found = token;
  return found;
}

export function isExpired({ expires }: Token, now = Date.now()): boolean {
  return expires !== null && Date.parse(expires) <= now;
}

/**
 * Reads the file. Throws 'not-found' without one, 'permission' when others than its owner (this user or root) may write it, or this user may
 * not read it, and 'damaged' that names the line.
 */
export async function loadTokens(path: string): Promise<readonly Token[]> {
  const what = `read the tokens in "${path}"`;
  let file: FileHandle | null = null;
  try {
    file = await open(path, 'r');
    const { uid, mode } = await file.stat();
    if ((uid !== 0 && uid !== process.geteuid?.()) || (mode & 0o022) !== 0) {
      const got = `owner ${uid}, mode ${(mode & 0o7777).toString(8)}`;
      throw new FairleadError('permission', `${what}: got ${got}, wanted root's, and that no other may write it`);
    }
    return parseTokens(await file.readFile('utf8'), what);
  } catch (error) {
    if (error instanceof FairleadError) throw error;
    const errno = error instanceof Error && 'code' in error ? error.code : null;
    const code = errno === 'ENOENT' ? 'not-found' : 'permission';
    throw new FairleadError(code, `${what}: ${messageOf(error)}`, [], { cause: error });
  } finally {
    await file?.close();
  }
}

/** One line for each. */
export function formatTokens(tokens: readonly Token[]): string {
  return tokens
    .map(({ expires, ...token }) => `${JSON.stringify(expires === null ? token : { ...token, expires })}\n`)
    .join('');
}

function parseTokens(text: string, what: string): readonly Token[] {
  const tokens: Token[] = [];
  for (const [at, line] of text.split('\n').entries()) {
    if (line.trim() === '') continue;
    const wrong = (detail: string) => new FairleadError('damaged', `${what}: line ${at + 1}: ${detail}`);
    const token = tokenOf(line);
    if (typeof token === 'string') throw wrong(token);
    if (tokens.some(({ name }) => name === token.name)) throw wrong(`name: "${token.name}" is there already`);
    if (tokens.length === tokenLimit) throw wrong(`more than ${tokenLimit} tokens`);
    tokens.push(token);
  }
  return tokens;
}

// The token, or what is wrong; never with a value in it, which may be somebody's token.
function tokenOf(line: string): Token | string {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return 'not JSON';
  }
  if (!isRecord(value)) return 'wanted an object';
  const { name, hash, scope, created, expires = null, ...others } = value;
  const goodScope = scopes.find((each) => each === scope);
  const isTime = (text: unknown): text is string => typeof text === 'string' && !Number.isNaN(Date.parse(text));
  for (const other of Object.keys(others)) return `unknown field "${other}"`;
  if (typeof name !== 'string' || !tokenName.test(name)) return 'name: wanted 1 to 63 of a-z, 0-9 and . _ -';
  if (typeof hash !== 'string' || !/^[0-9a-f]{64}$/.test(hash)) return 'hash: wanted 64 hex digits';
  if (goodScope === undefined) return `scope: wanted ${scopes.join(', ')}`;
  if (!isTime(created)) return 'created: wanted a time';
  if (expires !== null && !isTime(expires)) return 'expires: wanted a time';
  return { name, hash, scope: goodScope, created, expires };
}
