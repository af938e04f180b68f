// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { type NativeFailure, native } from '../../src/dataplane/native.js';
import { compileFixtures, failure, loaded, numbers, turnsDuring, u32, u64 } from './fixture.js';

let fixtures: ReturnType<typeof compileFixtures>;
const defaultPin = '/sys/fs/bpf/fnat_named';
const packet = new Uint8Array(64);
const wrong = (value: unknown): never => value as never;

before(() => {
  fixtures = compileFixtures();
});
after(() => {
  rmSync(defaultPin, { force: true });
  fixtures?.remove();
});

test('an open object lists its maps, programs and variables', () => {
  const object = native.openObject(fixtures.core);
  const maps = [
    'flows',
    'table',
    'cpu_table',
    'cpu_flows',
    'devices',
    'shared',
    'fnat_named',
    '.rodata',
    '.data',
    '.bss',
  ];
  assert.deepEqual([...object.maps].sort(), [...maps].sort());
  assert.deepEqual(object.programs, ['report', 'answer', 'rewrite', 'metadata', 'count', 'pass']);
  const byName = (name: string) => object.variables.find((variable) => variable.name === name);
  assert.deepEqual(byName('limit'), { name: 'limit', section: '.rodata', size: 4 });
  assert.deepEqual(byName('settings'), { name: 'settings', section: '.rodata', size: 16 });
  assert.deepEqual(byName('start'), { name: 'start', section: '.data', size: 4 });
  assert.deepEqual(byName('seen'), { name: 'seen', section: '.bss', size: 8 });
  object.close();
});

test('variables set before load are seen by the program', async () => {
  const object = native.openObject(fixtures.core);
  object.setVariable('limit', u32(1000));
  const settings = new Uint8Array(16);
  settings.set(u32(30), 8);
  object.setVariable('settings', settings);
  object.setVariable('start', u32(2));
  await object.load();
  assert.equal(object.program('report').run(packet, null).retval, 1032);
  object.close();
  const untouched = await loaded(fixtures.core);
  assert.equal(untouched.program('report').run(packet, null).retval, 107);
  untouched.close();
});

test('a variable is refused with the wrong size, an unknown name, or after load', async () => {
  const object = native.openObject(fixtures.core);
  assert.throws(() => object.setVariable('limit', u64(1)), failure('ARGUMENT', /"limit".*value is 8 bytes, want 4/));
  assert.throws(() => object.setVariable('nowhere', u32(1)), failure('ENOENT', /variable "nowhere"/));
  await object.load();
  assert.throws(() => object.setVariable('limit', u32(1)), failure('EBUSY', /load\(\) was called before/));
  object.close();
});

test('setMaxEntries and setAutoload decide what is made', async () => {
  const object = native.openObject(fixtures.core);
  object.setMaxEntries('flows', 77);
  object.setAutoload('rewrite', false);
  assert.throws(() => object.setMaxEntries('nowhere', 1), failure('ENOENT', /map "nowhere"/));
  assert.throws(() => object.setAutoload('nowhere', true), failure('ENOENT', /program "nowhere"/));
  await object.load();
  assert.equal(object.map('flows').info.maxEntries, 77);
  assert.throws(() => object.program('rewrite'), failure('EINVAL', /program "rewrite".*not loaded/));
  assert.equal(object.program('pass').run(packet, null).retval, 2);
  object.close();
});

test('a map with a pinning attribute is not pinned by itself', async () => {
  const object = await loaded(fixtures.core); // fails when libbpf tries to pin and there is no bpffs at its default path
  assert.equal(existsSync(defaultPin), false);
  object.close();
});

test('the verifier refusing a program rejects load with its last useful line', async () => {
  const object = native.openObject(fixtures.refused);
  await assert.rejects(object.load(), (error: Error & NativeFailure) => {
    failure('VERIFIER', /^load program "careless": VERIFIER, R1 .*packet.* \(\d+ lines left out\)$/)(error);
    assert.equal(error.object, 'careless');
    assert.equal(error.errno, 13);
    assert.match(
      error.log ?? '',
      /R1=ctx\(\)[\s\S]*invalid access to packet[\s\S]*R1 .*packet[\s\S]*processed \d+ insns/,
    );
    return true;
  });
  await assert.rejects(object.load(), failure('EBUSY', /load\(\) was called before/));
  assert.throws(() => object.map('.rodata'), failure('EINVAL', /not loaded/));
  object.close();
});

test('a map the kernel refuses is named when load rejects', async () => {
  const object = native.openObject(fixtures.core);
  object.setMaxEntries('flows', 0xffffffff);
  await assert.rejects(object.load(), failure('E2BIG', /core\.bpf\.o": E2BIG, map 'flows': failed to create/));
  object.close();
});

test('a missing file and a file that is no object are refused', () => {
  const missing = join(fixtures.directory, 'missing.o');
  assert.throws(
    () => native.openObject(missing),
    failure('ENOENT', /open object ".*missing\.o": ENOENT, no such file/),
  );
  assert.throws(() => native.openObject('/etc/passwd'), failure('EINVAL', /not a proper ELF/));
});

test('reuseMap takes a map over, with what is in it', async () => {
  const first = await loaded(fixtures.core);
  const flows = first.map('flows');
  flows.set(u32(5), u64(55), 0);
  first.close();
  const second = native.openObject(fixtures.core);
  second.reuseMap('flows', flows);
  await second.load();
  assert.equal(second.map('flows').info.id, flows.info.id);
  assert.deepEqual(numbers(second.map('flows').get(u32(5))), [55, 0]);
  second.close();
  flows.close();
});

test('reuseMap refuses another layout and names the field', () => {
  const object = native.openObject(fixtures.core);
  const cases: [number, number, number, number, number, RegExp][] = [
    [9, 4, 8, 4, 0, /"flows": LAYOUT, type is 9, want 1$/],
    [1, 8, 8, 4, 0, /key size is 8, want 4$/],
    [1, 4, 16, 4, 0, /value size is 16, want 8$/],
    [1, 4, 8, 5, 0, /max entries is 5, want 4$/],
    [1, 4, 8, 4, 1, /flags is 1, want 0$/],
  ];
  for (const [type, keySize, valueSize, maxEntries, flags, text] of cases) {
    const other = native.createMap('other', type, keySize, valueSize, maxEntries, flags);
    assert.throws(() => object.reuseMap('flows', other), failure('LAYOUT', text));
    other.close();
  }
  const larger = native.createMap('larger', 1, 4, 8, 5, 0);
  object.setMaxEntries('flows', 5);
  object.reuseMap('flows', larger);
  larger.close();
  object.close();
});

test('what an object handed out lives on after it is closed', async () => {
  const object = await loaded(fixtures.core);
  const [flows, report] = [object.map('flows'), object.program('report')];
  object.close();
  flows.set(u32(1), u64(1), 0);
  assert.equal(report.run(packet, null).retval, 107);
  flows.close();
  report.close();
});

test('every use of a closed object throws CLOSED, a second close does not', async () => {
  const object = native.openObject(fixtures.core);
  object.close();
  object.close();
  assert.throws(() => object.setVariable('limit', u32(1)), failure('CLOSED', /"limit": CLOSED/));
  assert.throws(() => object.setMaxEntries('flows', 1), failure('CLOSED', /object was closed/));
  assert.throws(() => object.setAutoload('pass', true), failure('CLOSED', /object was closed/));
  assert.throws(() => object.map('flows'), failure('CLOSED', /object was closed/));
  assert.throws(() => object.program('pass'), failure('CLOSED', /object was closed/));
  await assert.rejects(object.load(), failure('CLOSED', /object was closed/));
});

test('closing an object during load lets the load end well', async () => {
  const object = native.openObject(fixtures.core);
  const load = object.load();
  assert.throws(() => object.map('flows'), failure('EINVAL', /not loaded/));
  assert.throws(() => object.setMaxEntries('flows', 9), failure('EBUSY', /load\(\) was called before/));
  object.close();
  await load;
});

test('load leaves the event loop free', async () => {
  const object = native.openObject(fixtures.core);
  object.setMaxEntries('flows', 2_000_000); // preallocated, so this takes a while
  assert.ok((await turnsDuring(() => object.load())) > 2);
  object.close();
});

test('arguments of the wrong type are refused by name', async () => {
  assert.throws(() => native.openObject(wrong(7)), failure('ARGUMENT', /path is a number, want a non-empty string/));
  assert.throws(() => native.openObject('a\0b'), failure('ARGUMENT', /path is/));
  const object = native.openObject(fixtures.core);
  assert.throws(() => object.setVariable(wrong(null), u32(1)), failure('ARGUMENT', /name is null/));
  assert.throws(() => object.setMaxEntries('flows', -1), failure('ARGUMENT', /count is -1, want an integer from 1/));
  assert.throws(
    () => object.setAutoload('pass', wrong('yes')),
    failure('ARGUMENT', /load is a string, want a boolean/),
  );
  assert.throws(() => object.reuseMap('flows', wrong({})), failure('ARGUMENT', /existing is .* want a map handle/));
  assert.throws(() => object.reuseMap('flows', wrong(object)), failure('ARGUMENT', /existing is/));
  object.close();
});
