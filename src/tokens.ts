// SPDX-License-Identifier: Apache-2.0
// Puts together what `fairlead token` needs: the configuration says where the file is.
import { createToken, listTokens, type NewToken, removeToken } from './api/access/token-file.js';
import type { Token } from './api/access/tokens.js';
import type { TokenPlace } from './cli/token-commands.js';
import { defaultConfigPath, loadConfig } from './controlplane/config.js';
import { FairleadError } from './model/errors.js';

function pathOf({ file, config }: TokenPlace): string {
  if (file !== null) return file;
  const { tokens } = loadConfig({ path: config, env: process.env, flags: {} }).api;
  if (tokens !== null) return tokens;
  const name = config ?? defaultConfigPath;
  throw new FairleadError(
    'invalid',
    `api.tokens: missing in "${name}"; wanted the path of the file, as /etc/fairlead/tokens`,
  );
}

export const list = (place: TokenPlace): Promise<readonly Token[]> => listTokens(pathOf(place));
export const create = (place: TokenPlace, token: NewToken): Promise<string> => createToken(pathOf(place), token);
export const remove = (place: TokenPlace, name: string): Promise<void> => removeToken(pathOf(place), name);
