// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { acquireLock, lockName } from '../../src/controlplane/lock.js';

const lockFile = fileURLToPath(new URL('../../src/controlplane/lock.js', import.meta.url));

/** Another process that takes the lock, says its name, and is killed while it holds it; its name. */
function killedHolder(path: string): string {
  const code = `import { acquireLock, lockName } from ${JSON.stringify(lockFile)};
    acquireLock(${JSON.stringify(path)});
    process.stdout.write(lockName(${JSON.stringify(path)}), () => process.kill(process.pid, 'SIGKILL'));`;
  const { signal, stdout } = spawnSync(process.execPath, ['--input-type=module', '-e', code], { encoding: 'utf8' });
  assert.equal(signal, 'SIGKILL');
  return stdout;
}

test('lock: one holder at a time; who takes it from one that was killed has the same name, and nobody else', (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'fairlead-lock-'));
  t.after(() => rmSync(directory, { recursive: true }));
  const [one, other] = [join(directory, 'one'), join(directory, 'other')];
  const before = killedHolder(one);
  const release = acquireLock(one);
  assert.throws(() => acquireLock(one), { code: 'busy', message: new RegExp(`process ${process.pid} holds it`) });
  assert.match(before, /^[0-9a-f]{16}$/);
  assert.equal(lockName(one), before);
  const releaseOther = acquireLock(other);
  assert.notEqual(lockName(other), before);
  releaseOther();
  release();
  acquireLock(one)(); // free again
});
