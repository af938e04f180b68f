// SPDX-License-Identifier: Apache-2.0
// A daemon takes over from another one: of an older table layout, with a program that is broken, with somebody else's program in its place.
import assert from 'node:assert/strict';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Abi, Reason } from '../../src/dataplane/abi.gen.js';
import { type NativeMap, native } from '../../src/dataplane/native.js';
import { pinRoot } from '../../src/dataplane/pins.js';
import { spawnInside } from '../../src/lab/children.js';
import { run } from '../../src/lab/netns.js';
import { readServices } from '../../src/lab/objects.js';
import type { FlowView } from '../../src/model/node-view.js';
import { tracesOf } from '../support/lab.js';
import { openServedLab, openStream, type ServedLab, type Stream } from '../support/served-lab.js';

const name = 'fteupg';
const root = fileURLToPath(new URL('../../../', import.meta.url));
let lab: ServedLab;
let stream: Stream;
let copy: string;

before(async () => {
  lab = await openServedLab(name, 3);
  stream = await openStream(lab);
  copy = mkdtempSync(join(tmpdir(), 'fairlead-upgrade-'));
  for (const part of ['dist', 'build', 'bpf', 'package.json'])
    cpSync(join(root, part), join(copy, part), { recursive: true });
  mkdirSync(join(copy, 'native'));
  for (const part of ['node_modules', 'native/build']) symlinkSync(join(root, part), join(copy, part));
});
after(async () => {
  rmSync(copy, { recursive: true, force: true });
  await lab.close();
  assert.deepEqual(tracesOf(name), []);
});

const pins = (): string => pinRoot(`${lab.directory}/bpf`);

/** The id of the program on the balancer's interface, and its link's. */
function attached(): { link: number; program: number } {
  const link = native.openLink(`${pins()}/links/0-native-eth0`);
  const found = { link: link.id, program: link.programId };
  link.close();
  return found;
}

/** Ends the daemon, runs one from the copied tree until it ends by itself, and answers its code and what it said. */
async function startCopy(): Promise<{ code: number | null; said: string }> {
  await lab.serve().kill('SIGKILL');
  const command = [process.execPath, join(copy, 'dist/src/main.js'), 'serve', '--config', lab.config];
  const child = spawnInside(lab.topology.balancers[0].namespace, command, ['ignore', 'pipe', 'pipe']);
  let said = '';
  for (const stream of [child.stdout, child.stderr])
    stream?.setEncoding('utf8').on('data', (text: string) => {
      said += text;
    });
  const timer = setTimeout(() => child.kill('SIGKILL'), 20_000);
  const code = await new Promise<number | null>((resolve) => child.on('close', resolve));
  clearTimeout(timer);
  return { code, said };
}

test('upgrade: a program that does not load, or goes wrong, takes nobody’s place', async () => {
  stream.begin('broken', 200);
  const before = attached();
  const object = join(copy, 'build/bpf/xdp_lb.bpf.o');
  const good = readFileSync(object);
  writeFileSync(object, good.subarray(0, 3000));
  const cut = await startCopy();
  assert.equal(cut.code, 1, cut.said);
  assert.match(cut.said, /xdp_lb/);
  assert.deepEqual(attached(), before);

  // The same source with another TTL: it loads, and only a look at a packet tells.
  const header = readFileSync(join(copy, 'bpf/lib/outer.h'), 'utf8');
  const other = header.replace('#define OUTER_TTL 64', '#define OUTER_TTL 63');
  assert.notEqual(other, header);
  writeFileSync(join(copy, 'bpf/lib/outer.h'), other);
  const include = `-I/usr/include/${process.arch === 'x64' ? 'x86_64' : 'aarch64'}-linux-gnu`;
  await run('clang-19', [
    '-g',
    '-O2',
    '-mcpu=v3',
    '-target',
    'bpf',
    include,
    '-c',
    join(copy, 'bpf/xdp_lb.c'),
    '-o',
    object,
  ]);
  const wrong = await startCopy();
  assert.equal(wrong.code, 1, wrong.said);
  assert.match(wrong.said, /self-test of xdp_lb: a packet for a service: got action 3.*what runs is left as it is/);
  assert.deepEqual(attached(), before);

  await lab.start();
  await stream.more(100);
  await stream.noneFailed();
  assert.deepEqual(attached(), before);
});

test('upgrade: a program that is not ours is neither swapped nor hidden', async () => {
  const object = native.openObject(join(root, 'build/bpf/xdp_pass.bpf.o'));
  await object.load();
  const pass = object.program('xdp_pass');
  const link = native.openLink(`${pins()}/links/0-native-eth0`);
  const ours = link.program();
  await link.update(pass, ours);
  const reply = await lab.ask('PATCH', '/api/v1/services/http4?wait=applied', { forwarding: 'gue' });
  assert.equal(reply.status, 503);
  assert.match(
    JSON.stringify(reply.body),
    /swap the program of \\"eth0\\": \\"xdp_pass\\" is there, which is not ours/,
  );
  assert.equal(link.programId, pass.id);
  await link.update(ours, pass);
  await lab.api('PATCH', '/api/v1/services/http4?wait=applied', { forwarding: 'ipip' });
  for (const handle of [ours, pass, object, link]) handle.close();
});

test('upgrade: a daemon takes over the tables and links of an older layout, and no request fails', async () => {
  stream.begin('older', 200);
  await stream.more(100);
  // A packet that is dropped, so that there is a count to keep.
  const closed = { address: lab.topology.vip4, port: 5_399, protocol: 'udp', pool: 'web4', allow: ['203.0.113.1'] };
  await lab.api('PUT', '/api/v1/services/closed?wait=applied', closed);
  await lab.inClient('bash', '-c', `echo > /dev/udp/${lab.topology.vip4}/5399`);
  const drops = () => lab.api('GET', '/api/v1/drops');
  const dropped = await drops();
  assert.match(JSON.stringify(dropped), /not_allowed/);
  await lab.serve().kill('SIGKILL');
  const flowsOf = async (): Promise<FlowView[]> =>
    ((await lab.api('GET', '/api/v1/flows?limit=1000&sort=age')) as { items: FlowView[] }).items;
  const { link } = attached();
  // As version 2 left it: its directory, `pools` with entries of 8 bytes, counts of fewer reasons, shorter options.
  const older = pins().replace(/v\d+$/, 'v2');
  renameSync(pins(), older);
  const wide = native.openMap(`${older}/maps/pools`);
  const narrow = native.createMap('pools', wide.info.type, 4, 8, wide.info.maxEntries, wide.info.flags);
  const refs = new BigUint64Array(narrow.mmap());
  for (const [at, word] of new BigUint64Array(wide.mmap()).entries()) if (at % 2 === 0) refs[at / 2] = word;
  rmSync(`${older}/maps/pools`);
  narrow.pin(`${older}/maps/pools`);
  const REASONS_2 = 21;
  const key = (index: number): Uint8Array => new Uint8Array(Uint32Array.of(index).buffer);
  const replaced = [wide, narrow];
  const remake = (
    name: string,
    valueSize: number,
    entries: number,
    fill: (now: NativeMap, was: NativeMap) => void,
  ): void => {
    const now = native.openMap(`${older}/maps/${name}`);
    const was = native.createMap(name, now.info.type, 4, valueSize, entries, now.info.flags);
    fill(now, was);
    rmSync(`${older}/maps/${name}`);
    was.pin(`${older}/maps/${name}`);
    replaced.push(now, was);
  };
  remake('outcomes', 8, 16 * REASONS_2, (now, was) => {
    for (let at = 0; at < 16 * REASONS_2; at++)
      was.set(key(at), now.get(key(Math.floor(at / REASONS_2) * Reason.COUNT + (at % REASONS_2))) ?? assert.fail(), 0);
  });
  remake('service_outcomes', 8 * REASONS_2, 4096, (now, was) => {
    for (let service = 0; service < 4096; service++) {
      const counts = now.get(key(service)) ?? assert.fail();
      const cpus = counts.length / (8 * Reason.COUNT);
      const parts = Array.from({ length: cpus }, (_, cpu) =>
        counts.subarray(cpu * 8 * Reason.COUNT, cpu * 8 * Reason.COUNT + 8 * REASONS_2),
      );
      was.set(key(service), Buffer.concat(parts), 0);
    }
  });
  remake('service_options', 32, 4096, (now, was) => {
    const [from, to] = [new Uint8Array(now.mmap()), new Uint8Array(was.mmap())];
    for (let at = 0; at < 4096; at++) to.set(from.subarray(at * 40, at * 40 + 32), at * 32);
  });
  const idOf = (path: string): number => {
    const map = native.openMap(path);
    map.close();
    return map.info.id;
  };
  const kept = ['flows_hot', 'flows_cold', 'backends', 'counters', 'ring_rows'];
  const ids = kept.map((map) => idOf(`${older}/maps/${map}`));

  await lab.start();
  assert.deepEqual(
    kept.map((map) => idOf(`${pins()}/maps/${map}`)),
    ids,
  );
  assert.equal(attached().link, link);
  assert.deepEqual((await run('ls', [`${lab.directory}/bpf/fairlead`])).trim(), `v${Abi.VERSION}`);
  assert.ok((await flowsOf()).length > 50);
  const services = await readServices(lab.api, lab.topology);
  assert.ok(Object.values(services).every(({ packets }) => packets > 0));
  await stream.more(100);
  await stream.noneFailed();
  assert.deepEqual(await drops(), dropped, 'what was counted is still');
  assert.doesNotMatch(lab.serve().output(), /its content is lost/);
  for (const handle of replaced) handle.close();
});

test('upgrade: programs of a newer version are left alone', async () => {
  await lab.serve().kill('SIGKILL');
  const newer = pins().replace(/v\d+$/, `v${Abi.VERSION + 1}`);
  renameSync(pins(), newer);
  const { code, said } = await startCopy();
  assert.equal(code, 4, said); // refused
  assert.match(
    said,
    new RegExp(`a newer version of Fairlead left its programs here \\(tables of version ${Abi.VERSION + 1}`),
  );
  rmSync(pins(), { recursive: true, force: true });
  renameSync(newer, pins());
  await lab.start();
  stream.begin('newer', 200);
  await stream.more(50);
  await stream.noneFailed();
});
