// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { type NativeMap, type NativeObject, native } from '../../src/dataplane/native.js';
import { compileFixtures, failure, loaded, numbers, turnsDuring, u32, u64 } from './fixture.js';

const HASH = 1;
const ARRAY = 2;
const LPM_TRIE = 11;
const packet = new Uint8Array(64);
const cpus = native.possibleCpus();
const wrong = (value: unknown): never => value as never;
let fixtures: ReturnType<typeof compileFixtures>;
let core: NativeObject;

before(async () => {
  fixtures = compileFixtures();
  core = await loaded(fixtures.core);
});
after(() => {
  core?.close();
  fixtures?.remove();
});

const hash = (maxEntries: number): NativeMap => native.createMap('fnat_hash', HASH, 4, 8, maxEntries, 0);
const upTo = (count: number): number[] => Array.from({ length: count }, (_, i) => i);

async function entries(map: NativeMap): Promise<[number, number[]][]> {
  const { count, keys, values } = await map.readAll();
  assert.equal(keys.length, count * map.info.keySize);
  assert.equal(values.length, count * map.slotSize);
  const value = (i: number) => numbers(values.subarray(i * map.slotSize, (i + 1) * map.slotSize));
  return numbers(keys)
    .map((key, i): [number, number[]] => [key, value(i)])
    .sort((a, b) => a[0] - b[0]);
}

test('a hash map sets, gets, deletes and walks its keys', () => {
  const map = hash(4);
  assert.deepEqual(
    { ...map.info, id: 0 },
    { id: 0, type: HASH, keySize: 4, valueSize: 8, maxEntries: 4, flags: 0, name: 'fnat_hash' },
  );
  assert.equal(map.slotSize, 8);
  assert.equal(map.get(u32(1)), null);
  assert.equal(map.nextKey(null), null);
  map.set(u32(1), u64(10), 0);
  map.set(u32(2), u64(20), 0);
  assert.deepEqual(map.get(u32(1)), u64(10));
  const [first] = numbers(map.nextKey(null));
  const [second] = numbers(map.nextKey(u32(first ?? 0)));
  assert.deepEqual(new Set([first, second]), new Set([1, 2]));
  assert.equal(map.nextKey(u32(second ?? 0)), null);
  assert.equal(map.delete(u32(1)), true);
  assert.equal(map.delete(u32(1)), false);
  assert.equal(map.get(u32(1)), null);
  map.close();
});

test('set keeps to its flags and says when the map is full', () => {
  const map = hash(2);
  assert.throws(() => map.set(u32(1), u64(1), 2), failure('ENOENT', /the key is not there/));
  map.set(u32(1), u64(1), 1);
  assert.throws(() => map.set(u32(1), u64(1), 1), failure('EEXIST', /"fnat_hash": EEXIST, the key is there already/));
  map.set(u32(1), u64(2), 2);
  map.set(u32(2), u64(2), 0);
  assert.throws(() => map.set(u32(3), u64(3), 0), failure('E2BIG', /the map is full, it holds 2/));
  map.close();
});

test('an array has all its elements, and only them', async () => {
  const map = native.createMap('fnat_array', ARRAY, 4, 4, 3, 0);
  assert.deepEqual(numbers(map.get(u32(2))), [0]);
  map.set(u32(2), u32(22), 0);
  assert.equal(map.get(u32(3)), null);
  assert.throws(() => map.set(u32(3), u32(0), 0), failure('E2BIG', /index is not below 3/));
  assert.throws(() => map.delete(u32(0)), failure('EINVAL', /an array keeps its elements/));
  assert.deepEqual(await entries(map), [
    [0, [0]],
    [1, [0]],
    [2, [22]],
  ]);
  map.close();
});

test('a per-CPU map has one slot of 8 bytes or more for each possible CPU', async () => {
  const table = core.map('cpu_table');
  assert.equal(table.info.valueSize, 4);
  assert.equal(table.slotSize, 8 * cpus);
  const slots = upTo(cpus).map((cpu) => cpu + 100);
  table.set(u32(1), u64(...slots), 0);
  assert.deepEqual(table.get(u32(1)), u64(...slots));
  assert.throws(
    () => table.set(u32(1), u32(1), 0),
    failure('ARGUMENT', new RegExp(`value is 4 bytes, want ${8 * cpus}`)),
  );
  assert.deepEqual((await entries(table))[1], [1, slots.flatMap((slot) => [slot, 0])]);

  const flows = core.map('cpu_flows');
  await flows.setBatch(2, u32(7, 8), u64(...slots, ...slots));
  assert.deepEqual(
    (await entries(flows)).map(([key]) => key),
    [7, 8],
  );
  assert.deepEqual(flows.get(u32(8)), u64(...slots));
  table.close();
  flows.close();
});

test('batches store and delete many elements; keys already gone do not stop a delete', async () => {
  const map = hash(1000);
  const keys = u32(...upTo(1000));
  await map.setBatch(1000, keys, u64(...upTo(1000)));
  assert.deepEqual(map.get(u32(999)), u64(999));
  await map.deleteBatch(4, u32(5, 77777, 6, 5));
  assert.equal(map.get(u32(5)), null);
  assert.equal(map.get(u32(6)), null);
  assert.equal((await map.readAll()).count, 998);
  await map.deleteBatch(1000, keys);
  await map.setBatch(0, new Uint8Array(0), new Uint8Array(0));
  await map.deleteBatch(0, new Uint8Array(0));
  assert.deepEqual(await map.readAll(), { count: 0, keys: new Uint8Array(0), values: new Uint8Array(0) });
  map.close();
});

test('a batch that does not fit says how far it came', async () => {
  const map = hash(2);
  const batch = map.setBatch(3, u32(1, 2, 3), u64(1, 2, 3));
  await assert.rejects(batch, failure('E2BIG', /store \(stopped after 2 of 3\).*"fnat_hash": E2BIG, the map is full/));
  assert.equal((await map.readAll()).count, 2);
  map.close();
});

test('a batch takes a copy: the caller may reuse its arrays at once', async () => {
  const map = hash(10);
  const keys = u32(1, 2);
  const stored = map.setBatch(2, keys, u64(1, 2));
  keys.fill(0xff);
  await stored;
  assert.deepEqual(
    (await entries(map)).map(([key]) => key),
    [1, 2],
  );
  map.close();
});

test('readAll reads a map many times larger than one system call takes', async () => {
  const count = 100_000;
  const map = hash(count);
  await map.setBatch(count, u32(...upTo(count)), u64(...upTo(count)));
  const all = await entries(map);
  assert.equal(all.length, count);
  assert.ok(all.every(([key, value], i) => key === i && value[0] === i));
  map.close();
});

test('readAll reads a map type that has no batch', async () => {
  const devices = core.map('devices');
  devices.set(u32(3), u32(native.interfaceIndex('lo')), 0);
  assert.deepEqual(await entries(devices), [[3, [native.interfaceIndex('lo')]]]);
  await devices.setBatch(1, u32(5), u32(native.interfaceIndex('lo')));
  await devices.deleteBatch(2, u32(3, 4));
  assert.deepEqual(
    (await entries(devices)).map(([key]) => key),
    [5],
  );
  devices.close();
});

test('readAll reads a prefix tree', async () => {
  const tree = native.createMap('fnat_tree', LPM_TRIE, 8, 4, 16, 1);
  tree.set(u32(8, 10), u32(1), 0);
  tree.set(u32(32, 11), u32(2), 0);
  const { count, values } = await tree.readAll();
  assert.equal(count, 2);
  assert.deepEqual(numbers(values).sort(), [1, 2]);
  tree.close();
});

test('a store in mapped memory is seen by BPF, and the reverse', () => {
  const shared = core.map('shared');
  const memory = new Uint32Array(shared.mmap());
  assert.equal(memory.byteLength, 1000 * 8);
  memory[3 * 2] = 41;
  assert.equal(core.program('answer').run(packet, null).retval, 41);
  assert.equal(memory[4 * 2], 42);
  shared.close();
  memory[3 * 2] = 77; // valid after close
  assert.equal(core.program('answer').run(packet, null).retval, 77);
});

test('a map without BPF_F_MMAPABLE has no memory to map', () => {
  assert.throws(
    () => core.map('table').mmap(),
    failure('EINVAL', /"table": EINVAL, it is not an array with BPF_F_MMAPABLE/),
  );
  assert.throws(() => core.map('flows').mmap(), failure('EINVAL', /not an array/));
});

test('a map the kernel does not make is refused', () => {
  assert.throws(() => native.createMap('odd', ARRAY, 3, 4, 1, 0), failure('EINVAL', /create map "odd": EINVAL/));
});

test('arguments of the wrong type or size are refused by name', async () => {
  const map = hash(1);
  assert.throws(
    () => map.get(u64(1)),
    failure('ARGUMENT', /get element of map "fnat_hash": ARGUMENT, key is 8 bytes, want 4/),
  );
  assert.throws(() => map.get(wrong('abcd')), failure('ARGUMENT', /key is a string, want a Uint8Array/));
  assert.throws(() => map.get(wrong(new Uint32Array(1))), failure('ARGUMENT', /key is another typed array/));
  assert.throws(() => map.set(u32(1), wrong(undefined), 0), failure('ARGUMENT', /value is undefined/));
  assert.throws(() => map.set(u32(1), u64(1), 3), failure('ARGUMENT', /flags is 3, want an integer from 0 to 2/));
  assert.throws(() => map.set(u32(1), u64(1), 0.5), failure('ARGUMENT', /flags is 0.5/));
  assert.throws(() => map.nextKey(u64(1)), failure('ARGUMENT', /key is 8 bytes/));
  await assert.rejects(map.setBatch(2, u32(1), u64(1, 2)), failure('ARGUMENT', /keys is 4 bytes, want 8/));
  await assert.rejects(map.setBatch(1, u32(1), u64(1, 2)), failure('ARGUMENT', /values is 16 bytes, want 8/));
  await assert.rejects(map.deleteBatch(wrong(null), u32(1)), failure('ARGUMENT', /count is null/));
  assert.throws(() => native.createMap('', HASH, 4, 4, 1, 0), failure('ARGUMENT', /name is/));
  assert.throws(() => native.createMap('x', HASH, 4, 4, 2 ** 32, 0), failure('ARGUMENT', /maxEntries is 4294967296/));
  assert.throws(() => map.get.call(wrong(core), u32(1)), TypeError);
  assert.throws(() => new (map.constructor as new () => unknown)(), TypeError);
  map.close();
});

test('every use of a closed map throws CLOSED, a second close does not', async () => {
  const map = hash(1);
  map.close();
  map.close();
  const closed = failure('CLOSED', /map "fnat_hash": CLOSED, the map was closed before/);
  assert.throws(() => map.get(u32(1)), closed);
  assert.throws(() => map.set(u32(1), u64(1), 0), closed);
  assert.throws(() => map.delete(u32(1)), closed);
  assert.throws(() => map.nextKey(null), closed);
  assert.throws(() => map.mmap(), closed);
  assert.throws(() => map.pin('/nowhere'), closed);
  await assert.rejects(map.readAll(), closed);
  await assert.rejects(map.setBatch(0, u32(), u64()), closed);
  await assert.rejects(map.deleteBatch(0, u32()), closed);
});

test('readAll leaves the event loop free and survives close', async () => {
  const count = 400_000;
  const map = hash(count);
  const numbersUpTo = Uint32Array.from({ length: count }, (_, i) => i);
  await map.setBatch(count, new Uint8Array(numbersUpTo.buffer), new Uint8Array(8 * count));
  let read = 0;
  const turns = await turnsDuring(async () => {
    const all = map.readAll();
    map.close();
    read = (await all).count;
  });
  assert.equal(read, count);
  assert.ok(turns > 2, `${turns} turns`);
});
