// SPDX-License-Identifier: Apache-2.0
import { readFile } from 'node:fs/promises';
import { errnoOf, FairleadError, messageOf } from '../../model/errors.js';
import type { EtcdConfig } from '../config.js';
import type { EtcdAccess } from './client.js';

/** Reads the files that the configuration names. Throws 'not-found', 'permission' or 'invalid' that names the key and the file. */
export async function readAccess(config: EtcdConfig): Promise<EtcdAccess> {
  const [ca, cert, key, password] = await Promise.all(
    (['ca', 'cert', 'key', 'passwordFile'] as const).map((name) => read(`store.${name}`, config[name])),
  );
  const { endpoints, username } = config;
  return {
    endpoints,
    tls: { ca: ca ?? null, cert: cert ?? null, key: key ?? null },
    auth: username !== null && password ? { username, password: password.toString().replace(/\r?\n$/, '') } : null,
  };
}

async function read(name: string, path: string | null): Promise<Buffer | null> {
  if (path === null) return null;
  try {
    const content = await readFile(path);
    if (content.length > 0) return content;
  } catch (error) {
    const errno = errnoOf(error);
    const code = errno === 'ENOENT' ? 'not-found' : errno === 'EACCES' ? 'permission' : 'invalid';
    throw new FairleadError(code, `${name}: read "${path}": ${messageOf(error)}`, [], { cause: error });
  }
  throw new FairleadError('invalid', `${name}: "${path}" is empty`);
}
