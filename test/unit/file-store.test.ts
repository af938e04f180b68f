// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { openFileStore } from '../../src/controlplane/file-store.js';
import { messageOf } from '../../src/model/errors.js';
import { chosenSeed, randomFrom } from './random.js';
import { pool, putPool, storeContract } from './store-contract.js';

const child = fileURLToPath(new URL('./file-store-child.js', import.meta.url));

function statePath(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'fairlead-store-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  return join(directory, 'sub', 'state.json');
}

storeContract('file', (t) => openFileStore(statePath(t)));

test('file store: makes its directory and a file for its owner alone', async (t) => {
  const path = statePath(t);
  const store = await openFileStore(path);
  assert.equal(statSync(path).mode & 0o777, 0o600);
  await store.update(() => [putPool('a')]);
  assert.equal(statSync(path).mode & 0o777, 0o600);
  await store.close();
  assert.deepEqual(readdirSync(dirname(path)), ['state.json']);
});

test('file store: opened again it holds the same, hash key and revisions included', async (t) => {
  const path = statePath(t);
  const first = await openFileStore(path);
  await first.update(() => [putPool('b', 3)]);
  const service = {
    name: 's',
    address: '192.0.2.1',
    port: 80,
    protocol: 'tcp',
    pool: 'b',
    forwarding: 'ipip',
    affinity: 'flow',
  } as const;
  const before = await first.update(() => [putPool('a'), { kind: 'service', name: 's', value: service }]);
  await first.close();
  const second = await openFileStore(path);
  t.after(() => second.close());
  const after = second.read();
  assert.deepEqual(
    { ...after, pools: new Map([...after.pools].sort().reverse()) },
    { ...before, pools: new Map([...before.pools].sort().reverse()) },
  );
  const { log, ...b } = after.pools.get('b') ?? {};
  assert.deepEqual(b, { value: pool('b', 3), revision: 1 });
  assert.deepEqual(log?.members, [{ name: 'b1', weight: 3, state: 'live' }]);
});

test('file store: a second opener is refused while the first lives', async (t) => {
  const path = statePath(t);
  const store = await openFileStore(path);
  await assert.rejects(openFileStore(path), { code: 'busy', message: new RegExp(`process ${process.pid} holds it`) });
  const { stderr } = spawnSync(process.execPath, [child, 'write', path], { encoding: 'utf8' });
  assert.match(stderr, /holds it; stop it first/);
  await store.close();
  await (await openFileStore(path)).close();
});

test('file store: ten openers at once, one wins', async (t) => {
  const path = statePath(t);
  await (await openFileStore(path)).close();
  writeFileSync(`${path}.lock`, '999999999\n'); // left by the dead
  const results = await Promise.allSettled(Array.from({ length: 10 }, () => openFileStore(path)));
  const won = results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
  assert.equal(won.length, 1);
  for (const result of results) if (result.status === 'rejected') assert.equal(result.reason.code, 'busy');
  await won[0]?.close();
});

for (const [name, holder] of [
  ['of a dead process', '999999999\n'],
  ['whose pid was given to another process', `${process.pid}\n`],
  ['cut by a crash', ''],
] as const) {
  test(`file store: a lock ${name} is taken over`, async (t) => {
    const path = statePath(t);
    await (await openFileStore(path)).close();
    writeFileSync(`${path}.lock`, holder);
    const store = await openFileStore(path);
    assert.match(readFileSync(`${path}.lock`, 'utf8'), new RegExp(`^${process.pid}\\n$`));
    await store.close();
    assert.equal(existsSync(`${path}.lock`), false);
  });
}

test('file store: leftovers of a killed writer are removed, other files are not', async (t) => {
  const path = statePath(t);
  await (await openFileStore(path)).close();
  for (const name of ['state.json.tmp', 'state.json.bak', 'other.tmp']) writeFileSync(join(dirname(path), name), '{');
  await (await openFileStore(path)).close();
  assert.deepEqual(readdirSync(dirname(path)).sort(), ['other.tmp', 'state.json', 'state.json.bak']);
});

const head = '{\n  "format": 1,\n  "revision": 3,\n  "hashKey": "00112233445566778899aabbccddeeff",\n';
const damaged: [name: string, text: string, message: RegExp][] = [
  ['empty', '', /line 1 column 1/],
  ['cut short', `${head}  "services": [`, /line 5 column 16: got the end of the text/],
  ['not a state', '[]', /line 1 column 1: the document: got an array; wanted an object/],
  [
    'a later format',
    `${head.replace('1,', '2,')}  "services": [], "pools": []\n}`,
    /line 2 column 13: \/format: 2 is not supported by this version; use 1/,
  ],
  [
    'an unknown field',
    `${head}  "services": [], "pools": [], "extra": 1\n}`,
    /line 5 column 41: \/extra: unknown field "extra"/,
  ],
  [
    'no hash key',
    '{"format": 1, "revision": 1, "services": [], "pools": []}',
    /line 1 column 1: \/hashKey: "hashKey" is missing/,
  ],
  [
    'a wrong field deep down',
    `${head}  "services": [],\n  "pools": [{"name": "a", "revision": 1, "ring": {"size": 0},\n    "backends": [{"name": "b", "address": "10.0.0.300"}]}]\n}`,
    /line 7 column 43: \/pools\/0\/backends\/0\/address: "10.0.0.300" is not an IPv4 or IPv6 address/,
  ],
  [
    'a service without its pool',
    `${head}  "pools": [],\n  "services": [{"name": "s", "revision": 1, "address": "192.0.2.1", "port": 80, "protocol": "tcp", "pool": "gone"}]\n}`,
    /line 6 column 108: \/services\/0\/pool: pool "gone" does not exist/,
  ],
  [
    'a name twice',
    `${head}  "services": [],\n  "pools": [{"name": "a", "revision": 1},{"name": "a", "revision": 1}]\n}`,
    /\/pools\/1\/name: "a" is here twice/,
  ],
  [
    'a revision from the future',
    `${head}  "services": [],\n  "pools": [{"name": "a", "revision": 4}]\n}`,
    /\/pools\/0\/revision: 4 is later than the file's 3/,
  ],
];
for (const [name, text, message] of damaged) {
  test(`file store: a damaged file (${name}) is named, placed and left as it is`, async (t) => {
    const path = statePath(t);
    await (await openFileStore(path)).close();
    writeFileSync(path, text);
    await assert.rejects(openFileStore(path), (error: { code: string }) => {
      assert.equal(error.code, 'damaged');
      assert.match(messageOf(error), message);
      assert.ok(messageOf(error).includes(`"${path}"`), messageOf(error));
      return true;
    });
    assert.equal(readFileSync(path, 'utf8'), text);
    assert.deepEqual(readdirSync(dirname(path)), ['state.json']);
  });
}

test('file store: a directory in its place is refused with the reason', async (t) => {
  const path = dirname(statePath(t));
  await (await openFileStore(join(path, 'x'))).close();
  await assert.rejects(openFileStore(path), { code: 'unavailable', message: /EISDIR/ });
});

test('file store: full and read-only file systems refuse the update and change nothing', (t) => {
  if (process.getuid?.() !== 0) return t.skip('needs root for a small tmpfs in a mount namespace of its own');
  const path = statePath(t);
  const script = 'mkdir -p "$1" && mount -t tmpfs -o size=64k tmpfs "$1" && exec "$2" "$3" fill "$1/state.json"';
  const out = execFileSync('unshare', ['-m', 'sh', '-c', script, 'sh', dirname(path), process.execPath, child], {
    encoding: 'utf8',
  });
  const seen = JSON.parse(out);
  assert.equal(seen.bytes, 65536);
  const files = ['state.json', 'state.json.lock'];
  const outcome = ({ code, memory, onDisk, files }: Record<string, unknown>) => ({ code, memory, onDisk, files });
  assert.deepEqual(outcome(seen.small), { code: null, memory: 1, onDisk: 1, files });
  assert.deepEqual(outcome(seen.full), { code: 'unavailable', memory: 1, onDisk: 1, files });
  assert.match(seen.full.message, /ENOSPC/);
  assert.deepEqual(outcome(seen.again), { code: null, memory: 2, onDisk: 2, files });
  assert.deepEqual(outcome(seen.readOnly), { code: 'unavailable', memory: 2, onDisk: 2, files });
  assert.match(seen.readOnly.message, /EROFS/);
  assert.deepEqual(outcome(seen.last), { code: null, memory: 3, onDisk: 3, files });
});

test('file store: a killed writer leaves a whole state, never older than what it reported, a hundred times', async (t) => {
  const seed = chosenSeed();
  t.diagnostic(`seed ${seed}`);
  const random = randomFrom(seed);
  // A process takes longer to start than to write: each kill catches ten writers, each at a moment of its own.
  const paths = Array.from({ length: 10 }, () => statePath(t));
  const last = paths.map(() => 0);
  let midWrite = 0;
  for (let kill = 0; kill < 10; kill++) {
    const reported = await killedWriter(paths, random() * 100);
    for (const [i, path] of paths.entries()) {
      if (existsSync(`${path}.tmp`)) midWrite++;
      const store = await openFileStore(path);
      const { revision, pools } = store.read();
      await store.close();
      const floor = Math.max(last[i] ?? 0, reported[i] ?? 0);
      assert.ok(revision >= floor && revision <= floor + 1, `kill ${kill}: revision ${revision}, reported ${floor}`);
      assert.equal(pools.size, revision === 0 ? 0 : 2);
      for (const { value, revision: own } of pools.values()) {
        assert.equal(own, revision);
        assert.equal(value.backends.length, 40);
        for (const { name } of value.backends)
          assert.ok(name.startsWith(`r${revision}-`), `kill ${kill}: ${name} in ${revision}`);
      }
      last[i] = revision;
    }
  }
  t.diagnostic(`revisions ${last.join(' ')}; ${midWrite} of 100 killed between write and rename`);
  assert.ok(midWrite > 0 && Math.min(...last) > 10, 'the kills did hit writers at work');
});

// Runs a writer of these stores, kills it with SIGKILL this long after its first report, and answers the last revision reported for each.
function killedWriter(paths: readonly string[], afterMs: number): Promise<number[]> {
  return new Promise((resolve, reject) => {
    const writer = spawn(process.execPath, [child, 'write', ...paths], { stdio: ['ignore', 'pipe', 'inherit'] });
    let out = '';
    writer.stdout.setEncoding('utf8').on('data', (text: string) => {
      if (out === '') setTimeout(() => writer.kill('SIGKILL'), afterMs);
      out += text;
    });
    writer.once('close', (code, signal) => {
      const lines = out
        .split('\n')
        .slice(0, -1)
        .map((line) => line.split(' ').map(Number)); // the last may be cut
      const reports = paths.map((_, i) =>
        Math.max(0, ...lines.flatMap(([index, revision = 0]) => (index === i ? [revision] : []))),
      );
      if (signal === 'SIGKILL') resolve(reports);
      else reject(new Error(`the writer ended by itself: ${code}`));
    });
  });
}
