// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { native } from '../../src/dataplane/native.js';
import { compileFixtures, failure } from './fixture.js';

const addon = new URL('../../src/dataplane/native.js', import.meta.url).href;
const wrong = (value: unknown): never => value as never;
let fixtures: ReturnType<typeof compileFixtures>;

before(() => {
  fixtures = compileFixtures();
});
after(() => fixtures?.remove());

const inWorker = (body: string): Worker =>
  new Worker(
    `const { parentPort } = require('node:worker_threads');
     import(${JSON.stringify(addon)}).then(async ({ native }) => { ${body} });`,
    { eval: true },
  );

/** Resolves when `condition` holds; throws after ten seconds. */
async function until(condition: () => boolean): Promise<void> {
  for (const deadline = Date.now() + 10_000; !condition(); ) {
    assert.ok(Date.now() < deadline, 'the condition holds in time');
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

test('possibleCpus is what the kernel says', () => {
  const text = readFileSync('/sys/devices/system/cpu/possible', 'utf8').trim();
  const count = text.split(',').reduce((sum, range) => {
    const [first, last] = range.split('-').map(Number);
    return sum + (last ?? first ?? 0) - (first ?? 0) + 1;
  }, 0);
  assert.equal(native.possibleCpus(), count);
});

test('interfaceIndex finds an interface, and 0 for none', () => {
  assert.equal(native.interfaceIndex('lo'), Number(readFileSync('/sys/class/net/lo/ifindex', 'utf8')));
  assert.equal(native.interfaceIndex('fnat-none'), 0);
  assert.throws(() => native.interfaceIndex(wrong(1)), failure('ARGUMENT', /name is a number/));
});

test('synchronize comes back, also many at once', async () => {
  assert.equal(await native.synchronize(), undefined);
  await Promise.all(Array.from({ length: 8 }, () => native.synchronize()));
});

test('setLog hears libbpf line by line until it is taken away', async () => {
  const lines: string[] = [];
  native.setLog((level, line) => lines.push(`${level} ${line}`));
  assert.throws(() => native.openObject('/etc/passwd'));
  await until(() => lines.length > 0);
  assert.ok(
    lines.every((line) => /^(warn|info|debug) [^\n]+$/.test(line)),
    lines.join('|'),
  );
  assert.ok(
    lines.some((line) => /^warn libbpf: .*not a proper ELF/.test(line)),
    lines.join('|'),
  );

  const object = native.openObject(fixtures.refused);
  await assert.rejects(object.load());
  object.close();
  await until(() => lines.some((line) => /^warn libbpf: prog 'careless': .*load failed/.test(line)));

  native.setLog(null);
  const before = lines.length;
  assert.throws(() => native.openObject('/etc/passwd'));
  const second: string[] = [];
  native.setLog((_level, line) => second.push(line));
  assert.throws(() => native.openObject('/etc/passwd'));
  await until(() => second.length > 0);
  assert.equal(lines.length, before);
  native.setLog(null);
  assert.throws(() => native.setLog(wrong(undefined)), failure('ARGUMENT', /listener is undefined/));
});

test('a worker thread has the addon to itself and leaves the others in peace', async () => {
  const own = native.createMap('fnat_main', 2, 4, 4, 1, 0);
  const worker = inWorker(`
    const map = native.createMap('fnat_worker', 1, 4, 8, 4, 0);
    native.setLog(() => {});
    map.set(new Uint8Array(4), new Uint8Array(8).fill(3), 0);
    const memory = native.createMap('fnat_memory', 2, 4, 4, 9, 1 << 10).mmap();
    parentPort.postMessage((await map.readAll()).count + memory.byteLength);
  `);
  const ended = once(worker, 'exit'); // a worker that ended before its message was read says both in one turn
  assert.deepEqual(await once(worker, 'message'), [73]);
  assert.deepEqual(await ended, [0]);
  assert.throws(() => native.openObject('/etc/passwd'), failure('EINVAL', /not a proper ELF/));
  assert.equal(own.get(new Uint8Array(4))?.length, 4);
  own.close();
});

test('a worker thread is stopped in the middle of its work', async () => {
  for (let round = 0; round < 5; round++) {
    const worker = inWorker(`
      native.setLog(() => {});
      const map = native.createMap('fnat_worker', 1, 4, 8, 300000, 0);
      const object = native.openObject(${JSON.stringify(fixtures.core)});
      object.setMaxEntries('flows', 500000);
      const work = [object.load(), map.readAll(), native.synchronize()];
      parentPort.postMessage('busy');
      await Promise.all(work);
    `);
    await once(worker, 'message');
    await worker.terminate();
  }
  assert.equal(await native.synchronize(), undefined);
});

test('a file is locked once, until its descriptor is closed', () => {
  const directory = mkdtempSync(join(tmpdir(), 'fairlead-lock-'));
  const [first, second] = [0, 1].map(() => openSync(join(directory, 'lock'), 'a')) as [number, number];
  assert.equal(native.tryLock(first), true);
  assert.equal(native.tryLock(first), true, 'again by its holder');
  assert.equal(native.tryLock(second), false);
  closeSync(first);
  assert.equal(native.tryLock(second), true);
  closeSync(second);
  assert.throws(() => native.tryLock(second), failure('EBADF', /lock a file/));
  assert.throws(() => native.tryLock(-1), failure('ARGUMENT', /fd/));
  rmSync(directory, { recursive: true });
});

test('a tick is one of the lengths kernels are built with', () => {
  assert.ok(
    [1e6, 10e6 / 3, 4e6, 10e6].some((ns) => Math.abs(native.tickNs() - ns) < 1000),
    `${native.tickNs()}`,
  );
});
