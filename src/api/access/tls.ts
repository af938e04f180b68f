// SPDX-License-Identifier: Apache-2.0
import { X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { createSecureContext, type SecureContextOptions } from 'node:tls';
import type { ApiConfig } from '../../controlplane/config-api.js';
import { FairleadError, messageOf } from '../../model/errors.js';

/** What a TLS listener is made of. TLS 1.2 (RFC 5246) is the oldest. */
export type TlsMaterial = SecureContextOptions & { readonly cert: Buffer; readonly key: Buffer };

/** Reads certificate, key and CA. Throws 'invalid' or 'permission', naming the key of the configuration and the file. */
export async function loadTls(tls: NonNullable<ApiConfig['tls']>): Promise<TlsMaterial> {
  const read = async (key: 'cert' | 'key' | 'clientCa'): Promise<Buffer | null> => {
    const path = tls[key];
    if (path === null) return null;
    const wrong = (code: 'invalid' | 'permission', why: string, cause?: unknown) =>
      new FairleadError(code, `api.tls.${key}: read "${path}": ${why}`, [], { cause });
    const text = await readFile(path).catch((error: NodeJS.ErrnoException) => {
      throw wrong(error.code === 'EACCES' ? 'permission' : 'invalid', messageOf(error), error);
    });
    try {
      if (key !== 'key') new X509Certificate(text);
      else createSecureContext({ key: text });
    } catch {
      throw wrong('invalid', `wanted a ${key === 'key' ? 'private key without a passphrase' : 'certificate'} as PEM`);
    }
    return text;
  };
  const [cert, key, ca] = [await read('cert'), await read('key'), await read('clientCa')];
  if (cert === null || key === null) throw new FairleadError('invalid', 'api.tls: wanted cert and key');
  const material: TlsMaterial = { cert, key, minVersion: 'TLSv1.2', ...(ca === null ? {} : { ca }) };
  try {
    createSecureContext(material);
  } catch (error) {
    const both = `"${tls.key}" does not belong to the certificate in "${tls.cert}"`;
    throw new FairleadError('invalid', `api.tls.key: ${both}: ${messageOf(error)}`, [], { cause: error });
  }
  return material;
}

/** The day a certificate ends, if within `days`; null when later. */
export function endsWithin({ cert }: TlsMaterial, days: number, now = Date.now()): string | null {
  const { validTo } = new X509Certificate(cert);
  return Date.parse(validTo) - now < days * 86_400_000 ? validTo : null;
}
