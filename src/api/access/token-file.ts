// SPDX-License-Identifier: Apache-2.0
// What `fairlead token` does to the file of tokens. A running daemon takes the change within seconds.
import { randomBytes } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { replaceFile } from '../../controlplane/atomic-file.js';
import { acquireLock } from '../../controlplane/lock.js';
import { FairleadError } from '../../model/errors.js';
import type { Scope } from '../../model/scope.js';
import { formatTokens, hashOf, loadTokens, type Token, tokenLimit, tokenName } from './tokens.js';

export interface NewToken {
  readonly name: string;
  readonly scope: Scope;
  readonly expires: Date | null;
}

/** The tokens of the file; none without one. Throws as loadTokens does. */
export async function listTokens(path: string): Promise<readonly Token[]> {
  try {
    return await loadTokens(path);
  } catch (error) {
    if (error instanceof FairleadError && error.code === 'not-found') return [];
    throw error;
  }
}

/** Adds a token and answers its text, which is kept nowhere. Throws 'conflict' when there is one of this name, 'invalid', 'full'. */
export async function createToken(path: string, { name, scope, expires }: NewToken): Promise<string> {
  if (!tokenName.test(name))
    throw new FairleadError('invalid', `token name "${name}": wanted 1 to 63 of a-z, 0-9 and . _ -`);
  const secret = `fairlead_${randomBytes(32).toString('base64url')}`;
  await edit(path, (tokens) => {
    if (tokens.some((token) => token.name === name))
      throw new FairleadError('conflict', `token "${name}" exists already`);
    if (tokens.length >= tokenLimit) throw new FairleadError('full', `there are ${tokenLimit} tokens already`);
    const created = new Date().toISOString();
    return [...tokens, { name, hash: hashOf(secret), scope, created, expires: expires?.toISOString() ?? null }];
  });
  return secret;
}

/** Takes a token away. Throws 'not-found'. */
export async function removeToken(path: string, name: string): Promise<void> {
  await edit(path, (tokens) => {
    if (!tokens.some((token) => token.name === name))
      throw new FairleadError('not-found', `token "${name}" does not exist`);
    return tokens.filter((token) => token.name !== name);
  });
}

// A new file belongs to the group of its directory, as whose member the daemon reads it; one that is there keeps its group.
async function edit(path: string, change: (tokens: readonly Token[]) => readonly Token[]): Promise<void> {
  const unlock = acquireLock(`${path}.lock`);
  try {
    const tokens = change(await listTokens(path));
    const { gid } = await stat(path).catch(() => stat(dirname(path)));
    await replaceFile(path, formatTokens(tokens), { mode: 0o640, gid });
  } finally {
    unlock();
  }
}
