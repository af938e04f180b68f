// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { type NativeObject, native } from '../../src/dataplane/native.js';
import { compileFixtures, failure, loaded, numbers, u32 } from './fixture.js';

const XDP_DROP = 1;
const XDP_PASS = 2;
const XDP_TX = 3;
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

/** struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex. */
const context = (data: number, dataEnd: number): Uint8Array => u32(data, dataEnd, 0, 1, 0, 0);
const seen = (): number => numbers(core.map('.bss').get(u32(0)))[0] ?? -1;

test('a program says who it is', () => {
  const pass = core.program('pass');
  assert.equal(pass.name, 'pass');
  assert.ok(pass.id > 0);
  assert.match(pass.tag, /^[0-9a-f]{16}$/);
  assert.notEqual(pass.tag, core.program('report').tag);
});

test('run gives the action and the packet as it left', () => {
  const packet = Uint8Array.from({ length: 64 }, (_, i) => i);
  const run = core.program('rewrite').run(packet, null);
  assert.equal(run.retval, XDP_TX);
  assert.deepEqual(run.data, Uint8Array.from([0xab, ...packet.subarray(1, 60)]));
  assert.equal(packet[0], 0);
  assert.equal(typeof run.durationNs, 'number');
});

test('run passes metadata in front of the packet through the context', () => {
  const packet = Uint8Array.from({ length: 68 }, (_, i) => (i < 4 ? 0x11 : i));
  const run = core.program('metadata').run(packet, context(4, 68));
  assert.equal(run.retval, 0x11111111);
  assert.deepEqual(run.data, Uint8Array.from([0x55, 0x55, 0x55, 0x55, ...packet.subarray(4)]));
  assert.equal(core.program('metadata').run(packet, null).retval, 0xffffffff);
});

test('run gives a packet back as long as it came', () => {
  const run = core.program('pass').run(new Uint8Array(3000).fill(7), null);
  assert.deepEqual(run.data, new Uint8Array(3000).fill(7));
});

test('run refuses what the kernel refuses', () => {
  const text = /run program "pass": EINVAL/;
  assert.throws(() => core.program('pass').run(new Uint8Array(4), null), failure('EINVAL', text));
  assert.throws(() => core.program('pass').run(new Uint8Array(64), context(128, 64)), failure('EINVAL', text));
});

test('runMany runs as often as asked', async () => {
  const before = seen();
  const run = await core.program('count').runMany(new Uint8Array(64), null, 5000, false);
  assert.equal(run.retval, XDP_DROP);
  assert.equal(run.data.length, 64);
  assert.equal(seen() - before, 5000);
});

test('runMany sends live frames', async () => {
  const before = seen();
  const run = await core.program('count').runMany(new Uint8Array(64), null, 10_000, true);
  assert.equal(run.retval, 0); // frames that left have no action to report
  assert.equal(run.data.length, 0);
  assert.equal(seen() - before, 10_000);
});

test('counters of a program are read per CPU', () => {
  const table = core.map('cpu_table');
  table.set(u32(0), new Uint8Array(table.slotSize), 0);
  for (let i = 0; i < 10; i++) core.program('count').run(new Uint8Array(64), null);
  const sum = numbers(table.get(u32(0))).reduce((a, b) => a + b, 0);
  assert.equal(sum, 10);
  table.close();
});

test('arguments of the wrong type are refused by name', async () => {
  const pass = core.program('pass');
  const packet = new Uint8Array(64);
  assert.throws(
    () => pass.run(wrong([1, 2]), null),
    failure('ARGUMENT', /run program "pass": ARGUMENT, data is another object/),
  );
  assert.throws(() => pass.run(packet, wrong(undefined)), failure('ARGUMENT', /context is undefined/));
  await assert.rejects(
    pass.runMany(packet, null, 0, false),
    failure('ARGUMENT', /repeat is 0, want an integer from 1/),
  );
  await assert.rejects(pass.runMany(packet, null, 1, wrong(1)), failure('ARGUMENT', /liveFrames is a number/));
});

test('every use of a closed program throws CLOSED, a run under way ends well', async () => {
  const program = core.program('pass');
  const packet = new Uint8Array(64);
  const running = program.runMany(packet, null, 1000, false);
  program.close();
  program.close();
  assert.equal((await running).retval, XDP_PASS);
  const closed = failure('CLOSED', /program "pass": CLOSED, the program was closed before/);
  assert.throws(() => program.run(packet, null), closed);
  assert.throws(() => program.pin('/nowhere'), closed);
  await assert.rejects(program.runMany(packet, null, 1, false), closed);
  await assert.rejects(native.attachXdp(program, 'lo', null, 'generic'), failure('CLOSED', /program was closed/));
});
