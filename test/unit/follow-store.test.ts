// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { openFileStore } from '../../src/controlplane/file-store.js';
import { openFollowStore } from '../../src/controlplane/follow-store.js';
import { formatState } from '../../src/controlplane/state-file.js';
import { putPool } from './store-contract.js';

async function opened(t: TestContext) {
  const directory = mkdtempSync(join(tmpdir(), 'fairlead-follow-'));
  const path = join(directory, 'state.json');
  const writer = await openFileStore(path);
  const warnings: string[] = [];
  const follower = await openFollowStore(path, (line) => warnings.push(line));
  t.after(async () => {
    await follower.close();
    await writer.close();
    rmSync(directory, { recursive: true });
  });
  const until = async (holds: () => boolean): Promise<void> => {
    for (const deadline = Date.now() + 5000; !holds(); await new Promise((resolve) => setTimeout(resolve, 5)))
      assert.ok(Date.now() < deadline, `not within 5 s; warnings ${warnings}`);
  };
  return { path, writer, follower, warnings, until };
}

test('follow store: has what the writer wrote, and tells of each change', async (t) => {
  const { writer, follower, until } = await opened(t);
  assert.deepEqual(follower.read(), writer.read());
  const seen: number[] = [];
  follower.watch(({ revision }) => seen.push(revision));
  for (const weight of [1, 2, 3]) {
    const { revision } = await writer.update(() => [putPool('a', weight)]);
    await until(() => follower.read().revision === revision);
    assert.deepEqual(follower.read(), writer.read());
  }
  assert.deepEqual(seen, [1, 2, 3]);
});

test('follow store: does not write', async (t) => {
  const { path, follower } = await opened(t);
  await assert.rejects(
    follower.update(() => [putPool('a')]),
    { code: 'unavailable', message: `update the store: this node only follows "${path}"; ask the node that writes it` },
  );
});

test('follow store: what cannot be taken is told once, and leaves the last good state in force', async (t) => {
  const { path, writer, follower, warnings, until } = await opened(t);
  const good = await writer.update(() => [putPool('a')]);
  await until(() => follower.read().revision === 1);
  const later = { ...good, revision: 5 };
  const bad: [string, RegExp][] = [
    ['{', /line 1 column 2.*revision 1 stays in force/],
    [formatState({ ...later, hashKey: 'ff'.repeat(16) }), /another hash key.*revision 1 stays in force/],
    [formatState({ ...good, revision: 0, pools: new Map() }), /went back to revision 0; revision 1 stays in force/],
  ];
  for (const [text, message] of bad) {
    warnings.length = 0;
    writeFileSync(path, text);
    await until(() => warnings.length > 0);
    await new Promise((resolve) => setTimeout(resolve, 1200)); // it looks every second
    assert.equal(warnings.length, 1);
    assert.match(warnings[0] ?? '', message);
    assert.deepEqual(follower.read(), good);
  }
  writeFileSync(path, formatState(later));
  await until(() => follower.read().revision === 5);
});

test('follow store: nothing to begin with is an error', async () => {
  await assert.rejects(
    openFollowStore('/nonexistent/state.json', () => undefined),
    { code: 'unavailable' },
  );
});
