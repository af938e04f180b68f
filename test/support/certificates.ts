// SPDX-License-Identifier: Apache-2.0
// Certificates of a CA of the test's own, made by openssl.
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

export interface Certificate {
  readonly certFile: string;
  readonly keyFile: string;
  readonly cert: Buffer;
  readonly key: Buffer;
}

export interface Authority {
  readonly ca: Certificate;
  /** A certificate for this common name, good for localhost and 127.0.0.1. */
  issue(commonName: string): Certificate;
}

/** A CA whose files go to `directory`, their names beginning with `name`. */
export function makeAuthority(directory: string, name = 'ca'): Authority {
  const openssl = (...args: readonly string[]): void =>
    void execFileSync('openssl', args, { stdio: ['ignore', 'ignore', 'pipe'] });
  const request = ['req', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  const at = (file: string): string => join(directory, `${name}-${file}`);
  const read = (file: string): Certificate => {
    const [certFile, keyFile] = [at(`${file}.pem`), at(`${file}.key`)];
    return { certFile, keyFile, cert: readFileSync(certFile), key: readFileSync(keyFile) };
  };
  openssl(...request, '-x509', '-days', '2', '-subj', `/CN=${name}`, '-keyout', at('ca.key'), '-out', at('ca.pem'));
  writeFileSync(at('names'), 'subjectAltName=DNS:localhost,IP:127.0.0.1\n');
  return {
    ca: read('ca'),
    issue(commonName) {
      const file = commonName.replaceAll(/\W/g, '-');
      openssl(...request, '-subj', `/CN=${commonName}`, '-keyout', at(`${file}.key`), '-out', at(`${file}.csr`));
      const signer = ['-CA', at('ca.pem'), '-CAkey', at('ca.key'), '-CAcreateserial', '-extfile', at('names')];
      openssl('x509', '-req', '-days', '2', ...signer, '-in', at(`${file}.csr`), '-out', at(`${file}.pem`));
      return read(file);
    },
  };
}
