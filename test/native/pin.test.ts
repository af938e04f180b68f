// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { type NativeObject, native } from '../../src/dataplane/native.js';
import { cleanUp, compileFixtures, deleteNamespace, failure, loaded, u32, u64 } from './fixture.js';

const bpffs = mkdtempSync(join(tmpdir(), 'fnat-bpffs-'));
const name = `fnatp${process.pid}`;
const addon = new URL('../../src/dataplane/native.js', import.meta.url).href;
const wrong = (value: unknown): never => value as never;
let fixtures: ReturnType<typeof compileFixtures>;
let core: NativeObject;
let mounted = false;

before(async () => {
  mounted = native.mountBpffs(bpffs);
  fixtures = compileFixtures();
  core = await loaded(fixtures.core);
});
after(() =>
  cleanUp(
    () => core?.close(),
    () => mounted && execFileSync('umount', [bpffs]),
    () => rmdirSync(bpffs),
    () => fixtures?.remove(),
    () => deleteNamespace(name),
  ),
);

test('mountBpffs mounts once', () => {
  assert.equal(mounted, true);
  assert.equal(native.mountBpffs(bpffs), false);
  assert.throws(() => native.mountBpffs(join(bpffs, 'none')), failure('ENOENT', /mount bpffs at ".*none": ENOENT/));
  assert.throws(() => native.mountBpffs(wrong(null)), failure('ARGUMENT', /path is null/));
});

test('pinned map and program are opened again as what they are', () => {
  const [mapPin, programPin] = [join(bpffs, 'map'), join(bpffs, 'program')];
  const [flows, pass] = [core.map('flows'), core.program('pass')];
  flows.pin(mapPin);
  pass.pin(programPin);
  flows.set(u32(9), u64(99), 0);
  const [map, program] = [native.openMap(mapPin), native.openProgram(programPin)];
  assert.deepEqual(map.info, flows.info);
  assert.deepEqual(map.get(u32(9)), u64(99));
  assert.deepEqual([program.id, program.tag, program.name], [pass.id, pass.tag, 'pass']);
  for (const handle of [flows, pass, map, program]) handle.close();
  rmSync(mapPin);
  rmSync(programPin);
});

test('a pin that is missing, of another kind, or no pin is refused', () => {
  const pin = join(bpffs, 'kind');
  core.map('flows').pin(pin);
  assert.throws(
    () => native.openProgram(pin),
    failure('EINVAL', /open program ".*kind": EINVAL, the pin is a map, want a program/),
  );
  assert.throws(() => native.openLink(pin), failure('EINVAL', /the pin is a map, want a link/));
  assert.throws(
    () => native.openMap(join(bpffs, 'none')),
    failure('ENOENT', /open map ".*none": ENOENT, no such file/),
  );
  assert.throws(() => native.openMap(fixtures.core), failure('EACCES', /open map/));
  assert.throws(() => native.openLink(wrong(7)), failure('ARGUMENT', /pin is a number/));
  rmSync(pin);
});

test('pinning onto a taken path, in a missing directory or off bpffs is refused in words', () => {
  const pin = join(bpffs, 'taken');
  const flows = core.map('flows');
  flows.pin(pin);
  assert.throws(
    () => flows.pin(pin),
    failure('EEXIST', /pin map "flows" at ".*taken": EEXIST, the path is taken already/),
  );
  assert.throws(() => flows.pin(join(bpffs, 'none', 'x')), failure('ENOENT', /the directory does not exist/));
  assert.throws(() => flows.pin(join(fixtures.directory, 'x')), failure('EPERM', /the directory is not on a bpffs/));
  assert.throws(() => flows.pin(wrong(undefined)), failure('ARGUMENT', /path is undefined/));
  rmSync(pin);
});

test('another process adopts what a killed one has pinned, with the program on its interface all along', async () => {
  const run = (...args: string[]): void => void execFileSync('ip', args);
  run('netns', 'add', name);
  run('-n', name, 'link', 'add', 'fnat0', 'type', 'veth', 'peer', 'name', 'fnat1');
  const script = `
    const { native } = await import(${JSON.stringify(addon)});
    const object = native.openObject(${JSON.stringify(fixtures.core)});
    await object.load();
    const program = object.program('count');
    const link = await native.attachXdp(program, 'fnat0', '/run/netns/${name}', 'native');
    link.pin('${bpffs}/link');
    program.pin('${bpffs}/program');
    object.map('flows').pin('${bpffs}/flows');
    object.map('flows').set(new Uint8Array(4), new Uint8Array(8).fill(1), 0);
    process.kill(process.pid, 'SIGKILL');
  `;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: 'inherit' });
  const [, signal] = await once(child, 'exit');
  assert.equal(signal, 'SIGKILL');

  const link = native.openLink(join(bpffs, 'link'));
  const program = native.openProgram(join(bpffs, 'program'));
  const flows = native.openMap(join(bpffs, 'flows'));
  assert.equal(link.programId, program.id);
  assert.ok(link.interfaceIndex > 0);
  assert.deepEqual(flows.get(new Uint8Array(4)), new Uint8Array(8).fill(1));
  const pass = core.program('pass');
  await link.update(pass, program);
  assert.equal(link.programId, pass.id);
  link.detach();
  assert.equal(link.interfaceIndex, 0);
  for (const handle of [link, program, flows, pass]) handle.close();
  for (const pin of ['link', 'program', 'flows']) rmSync(join(bpffs, pin));
});
