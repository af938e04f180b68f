// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readlinkSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { type NativeObject, native } from '../../src/dataplane/native.js';
import { cleanUp, compileFixtures, deleteNamespace, failure, loaded, numbers, u32 } from './fixture.js';

const name = `fnat${process.pid}`;
const netns = `/run/netns/${name}`;
const wrong = (value: unknown): never => value as never;
const ip = (...args: string[]): string =>
  execFileSync('ip', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
let fixtures: ReturnType<typeof compileFixtures>;
let core: NativeObject;

before(async () => {
  fixtures = compileFixtures();
  core = await loaded(fixtures.core);
  ip('netns', 'add', name);
  ip('-n', name, 'link', 'add', 'fnat0', 'type', 'veth', 'peer', 'name', 'fnat1');
});
after(() =>
  cleanUp(
    () => core?.close(),
    () => fixtures?.remove(),
    () => deleteNamespace(name),
  ),
);

/** Id and mode (1 native, 2 generic) of the XDP program on an interface of the namespace, null for none. */
function attached(interfaceName: string): { id: number; mode: number } | null {
  const [link] = JSON.parse(ip('-n', name, '-j', 'link', 'show', interfaceName));
  return link.xdp ? { id: link.xdp.prog.id, mode: link.xdp.mode } : null;
}

for (const [mode, number] of [
  ['native', 1],
  ['generic', 2],
] as const) {
  test(`${mode}: a program goes onto an interface of another namespace and leaves with the link`, async () => {
    const here = readlinkSync('/proc/self/ns/net');
    const pass = core.program('pass');
    const link = await native.attachXdp(pass, 'fnat0', netns, mode);
    assert.deepEqual(attached('fnat0'), { id: pass.id, mode: number });
    assert.ok(link.id > 0);
    assert.equal(link.programId, pass.id);
    const [{ ifindex }] = JSON.parse(ip('-n', name, '-j', 'link', 'show', 'fnat0'));
    assert.equal(link.interfaceIndex, ifindex);
    link.close();
    assert.equal(attached('fnat0'), null);
    assert.equal(readlinkSync('/proc/self/ns/net'), here);
    pass.close();
  });
}

test('a second program is refused in words that say what is there', async () => {
  const pass = core.program('pass');
  const first = await native.attachXdp(pass, 'fnat0', netns, 'native');
  const text = new RegExp(
    `attach program "count" to "fnat0": EBUSY, another XDP program is attached already \\(id ${pass.id}\\)`,
  );
  await assert.rejects(native.attachXdp(core.program('count'), 'fnat0', netns, 'native'), failure('EBUSY', text));
  const other = native.attachXdp(pass, 'fnat0', netns, 'generic');
  await assert.rejects(other, failure('EEXIST', /attached already \(id \d+\), in the other mode/));
  first.close();
});

test('update swaps the program; with an expected one only if that is there', async () => {
  const [pass, count, answer] = [core.program('pass'), core.program('count'), core.program('answer')];
  const link = await native.attachXdp(pass, 'fnat0', netns, 'native');
  await link.update(count, null);
  assert.equal(link.programId, count.id);
  const text = new RegExp(
    `update link "fnat0" to program "answer": EPERM, the current program is not "pass" with id ${pass.id}`,
  );
  await assert.rejects(link.update(answer, pass), failure('EPERM', text));
  assert.equal(link.programId, count.id);
  await link.update(answer, count);
  assert.deepEqual(attached('fnat0'), { id: answer.id, mode: 1 });
  link.close();
});

test('detach takes the program off while the handle lives', async () => {
  const link = await native.attachXdp(core.program('pass'), 'fnat1', netns, 'generic');
  link.detach();
  assert.equal(attached('fnat1'), null);
  assert.equal(link.interfaceIndex, 0);
  link.close();
});

test('a link outlives its interface and says so', async () => {
  ip('-n', name, 'link', 'add', 'fnat2', 'type', 'veth', 'peer', 'name', 'fnat3');
  const link = await native.attachXdp(core.program('pass'), 'fnat2', netns, 'native');
  ip('-n', name, 'link', 'del', 'fnat2');
  assert.equal(link.interfaceIndex, 0);
  link.close();
});

test('tcx: a new program is in front of those that are there; links update, detach and end as those of XDP do', async () => {
  const tc = await loaded(fixtures.tc);
  const [next, last, packets] = [tc.program('next'), tc.program('last'), tc.map('packets')];
  ip('-n', name, 'link', 'add', 'fnat4', 'type', 'veth', 'peer', 'name', 'fnat5');
  ip('-n', name, 'address', 'add', '10.99.0.1/24', 'dev', 'fnat5');
  for (const side of ['fnat4', 'fnat5']) ip('-n', name, 'link', 'set', side, 'up');
  const counts = (): number[] => [0, 1].flatMap((which) => numbers(packets.get(u32(which))));
  /** Which of the two see packets, after this one has: the ARP requests for an address nobody has. */
  const seen = async (wanted: number): Promise<boolean[]> => {
    const before = counts();
    const grown = (): boolean[] => counts().map((count, at) => count > (before[at] ?? 0));
    const deadline = Date.now() + 5_000;
    for (let host = 2; !grown()[wanted] && Date.now() < deadline; host++)
      ip('netns', 'exec', name, 'bash', '-c', `echo > /dev/udp/10.99.0.${host % 250}/9`);
    return grown();
  };
  const first = await native.attachTcx(last, 'fnat4', netns, 'ingress');
  const second = await native.attachTcx(next, 'fnat4', netns, 'ingress');
  const [{ ifindex }] = JSON.parse(ip('-n', name, '-j', 'link', 'show', 'fnat4'));
  assert.deepEqual([second.interfaceIndex, second.programId], [ifindex, next.id]);
  assert.deepEqual(await seen(1), [true, true]);
  await assert.rejects(second.update(last, last), failure('EPERM', /the current program is not "last"/));
  first.detach();
  assert.equal(first.interfaceIndex, 0);
  assert.deepEqual(await seen(0), [true, false]);
  await second.update(last, next);
  assert.deepEqual(await seen(1), [false, true]);
  for (const handle of [first, second, tc]) handle.close();
});

test('tcx: a program of another type, a missing interface and a wrong direction are refused in words', async () => {
  const pass = core.program('pass');
  const type = native.attachTcx(pass, 'fnat0', netns, 'ingress');
  await assert.rejects(
    type,
    failure('EINVAL', /attach program "pass" to "fnat0": EINVAL, the program is not of type tc/),
  );
  const gone = native.attachTcx(pass, 'fnat9', netns, 'egress');
  await assert.rejects(gone, failure('ENODEV', /there is no such interface/));
  const direction = native.attachTcx(pass, 'fnat0', netns, wrong('in'));
  await assert.rejects(direction, failure('ARGUMENT', /direction is "in", want "ingress" or "egress"/));
});

test('a missing interface or namespace is refused and no thread stays elsewhere', async () => {
  const pass = core.program('pass');
  const gone = native.attachXdp(pass, 'fnat9', netns, 'native');
  await assert.rejects(gone, failure('ENODEV', /attach program "pass" to "fnat9": ENODEV, there is no such interface/));
  const nowhere = native.attachXdp(pass, 'fnat0', '/run/netns/fnat-none', 'native');
  await assert.rejects(nowhere, failure('ENOENT', /in network namespace "\/run\/netns\/fnat-none": ENOENT/));
  await assert.rejects(native.attachXdp(pass, 'fnat0', '/proc/self/ns/uts', 'native'), failure('EINVAL', /EINVAL/));
  // More than there are threads in the pool: none of them may have stayed in the other namespace.
  const refused = (): Promise<void> =>
    assert.rejects(native.attachXdp(pass, 'fnat0', null, 'native'), failure('ENODEV', /no such interface/));
  await Promise.all(Array.from({ length: 16 }, refused));
});

test('too large an MTU for native XDP is said in words', async () => {
  ip('-n', name, 'link', 'set', 'fnat0', 'mtu', '9000');
  ip('-n', name, 'link', 'set', 'fnat1', 'mtu', '9000');
  const attach = native.attachXdp(core.program('pass'), 'fnat0', netns, 'native');
  await assert.rejects(attach, failure('ERANGE', /the MTU is too large for native XDP/));
});

test('every use of a closed link throws CLOSED, a second close does not', async () => {
  const link = await native.attachXdp(core.program('pass'), 'fnat1', netns, 'generic');
  link.close();
  link.close();
  const closed = failure('CLOSED', /link "fnat1": CLOSED, the link was closed before/);
  assert.throws(() => link.interfaceIndex, closed);
  assert.throws(() => link.programId, closed);
  assert.throws(() => link.detach(), closed);
  assert.throws(() => link.pin('/nowhere'), closed);
  await assert.rejects(link.update(core.program('pass'), null), closed);
});

test('arguments of the wrong type are refused by name', async () => {
  const pass = core.program('pass');
  const link = await native.attachXdp(pass, 'fnat1', netns, 'generic');
  await assert.rejects(
    link.update(wrong(core.map('flows')), null),
    failure('ARGUMENT', /program is .* want a program handle/),
  );
  await assert.rejects(link.update(pass, wrong(undefined)), failure('ARGUMENT', /expected is undefined/));
  const getter = Object.getOwnPropertyDescriptor(Object.getPrototypeOf(link), 'programId')?.get;
  assert.throws(() => getter?.call(pass), TypeError);
  link.close();
  await assert.rejects(native.attachXdp(wrong(null), 'lo', null, 'native'), failure('ARGUMENT', /program is null/));
  await assert.rejects(
    native.attachXdp(pass, wrong(1), null, 'native'),
    failure('ARGUMENT', /interfaceName is a number/),
  );
  await assert.rejects(native.attachXdp(pass, 'lo', wrong(1), 'native'), failure('ARGUMENT', /netns is a number/));
  const mode = native.attachXdp(pass, 'lo', null, wrong('fast'));
  await assert.rejects(mode, failure('ARGUMENT', /mode is "fast", want "native" or "generic"/));
});
