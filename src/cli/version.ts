// SPDX-License-Identifier: Apache-2.0
import { readFileSync } from 'node:fs';

/** The version of this package. */
export const version: string = readVersion();

function readVersion(): string {
  const text = readFileSync(new URL('../../../package.json', import.meta.url), 'utf8'); // from dist/src/cli
  const { version }: { version?: unknown } = JSON.parse(text);
  return String(version);
}
