// SPDX-License-Identifier: Apache-2.0
// The access of the API with real files in a directory of its own.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { type AccessConfig, type OpenAccess, openAccess } from '../../src/api/access/access.js';
import { createToken } from '../../src/api/access/token-file.js';
import type { EventLog } from '../../src/model/events.js';
import { type Scope, scopes } from '../../src/model/scope.js';
import { openEventLog } from '../../src/observability/event-log.js';

export interface TestAccess {
  readonly access: OpenAccess;
  readonly directory: string;
  readonly tokensFile: string;
  readonly events: EventLog;
  /** A token for each scope, called as the scope is. */
  readonly tokens: Readonly<Record<Scope, string>>;
}

export const none: AccessConfig = {
  tls: null,
  clients: [],
  tokens: null,
  open: 'probes',
  requestsPerSecond: 1000,
  audit: null,
};

/** Header lines with a token. */
export const bearer = (token: string): { authorization: string } => ({ authorization: `Bearer ${token}` });

/** A directory that goes with the test. */
export function temporary(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'fairlead-access-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

/** Access by tokens, and by what else `config` says of the directory; closed when the test ends. */
export async function tokenAccess(
  t: TestContext,
  config: (directory: string) => Partial<AccessConfig> = () => ({}),
): Promise<TestAccess> {
  const directory = temporary(t);
  const tokensFile = join(directory, 'tokens');
  writeFileSync(tokensFile, '', { mode: 0o640 });
  const made = { read: '', operate: '', admin: '' };
  for (const scope of scopes) made[scope] = await createToken(tokensFile, { name: scope, scope, expires: null });
  const events = openEventLog();
  const access = await openAccess({ ...none, tokens: tokensFile, ...config(directory) }, events);
  t.after(() => access.close());
  return { access, directory, tokensFile, events, tokens: made };
}
