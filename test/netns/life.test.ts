// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { native } from '../../src/dataplane/native.js';
import type { Driver } from '../../src/lab/drive.js';
import { run } from '../../src/lab/netns.js';
import { readServices } from '../../src/lab/objects.js';
import type { FlowView, NodeStatus } from '../../src/model/node-view.js';
import { tracesOf } from '../support/lab.js';
import { startServe } from '../support/serve.js';
import { driverOf, never, openServedLab, type ServedLab, sendDatagrams } from '../support/served-lab.js';

const name = 'ftelife';
const client = '10.1.0.77';
let lab: ServedLab;
let driver: Driver;

before(async () => {
  lab = await openServedLab(name, 3);
  await lab.inClient('ip', 'address', 'add', `${client}/24`, 'dev', 'eth0');
  driver = await driverOf(lab);
  lab.onClose(() => driver.stop());
  const flows = Array.from({ length: 40 }, (_, index) => ({
    from: client,
    fromPort: 20_000 + index,
    size: 100,
    count: 1,
  }));
  await sendDatagrams(
    lab,
    flows.map((flow) => ({ ...flow, to: lab.topology.vip4 })),
  );
});
after(async () => {
  await lab.close();
  assert.deepEqual(tracesOf(name), []);
});

const pins = () => `${lab.directory}/bpf/fairlead/v1`;

/** What must outlive the daemon: ids of the pinned maps, the backends' entries by number, the flows of `client`. */
async function kept() {
  const ids: Record<string, number> = {};
  let backends = '';
  for (const map of ['services', 'pools', 'ring_rows', 'backends', 'flows_hot', 'flows_cold', 'counters', 'outcomes']) {
    const handle = native.openMap(`${pins()}/maps/${map}`);
    ids[map] = handle.info.id;
    if (map === 'backends') backends = Buffer.from(handle.mmap()).toString('base64');
    handle.close();
  }
  const { items } = (await lab.api('GET', `/api/v1/flows?client=${client}`)) as { items: FlowView[] };
  const flows = items.map((flow) => `${flow.client} ${flow.backend} ${flow.packets} ${flow.bytes}`).sort();
  return { ids, backends, flows };
}

/** Id of the attached program and the ids of its maps, as the kernel tells. */
async function attached(): Promise<{ program: number; maps: readonly number[] }> {
  const link = native.openLink(`${pins()}/links/0-native-eth0`);
  const program = link.programId;
  link.close();
  const { map_ids: maps } = JSON.parse(await run('bpftool', ['-j', 'prog', 'show', 'id', `${program}`]));
  return { program, maps };
}

const requests = () => Object.values(driver.report().phases).reduce((sum, phase) => sum + phase.requests, 0);

/** Resolves when `count` requests more have come to their end. */
async function more(count: number): Promise<void> {
  const goal = requests() + count;
  await driver.until(() => requests() >= goal, 15_000, never);
}

/** Lets the stream come to its end; no request of it failed. */
async function noneFailed(): Promise<void> {
  driver.command({ kind: 'stop' });
  const { phases, errors } = await driver.until(({ idle }) => idle, 15_000, never);
  assert.deepEqual(errors, []);
  for (const { failed } of Object.values(phases)) assert.equal(failed, 0);
}

async function totals(): Promise<readonly number[]> {
  const services = Object.values(await readServices(lab.api, lab.topology));
  return services.flatMap(({ packets, bytes, connections }) => [packets, bytes, connections]);
}

test('life: kill -9 ten times under load: packets flow on, the next daemon adopts all there is', async () => {
  const before = await kept();
  assert.equal(before.flows.length, 40);
  let { program } = await attached();
  driver.command({ kind: 'run', phase: 'killed', rate: 200, count: null });
  await more(20);
  for (let round = 1; round <= 10; round++) {
    const counted = await totals();
    assert.equal((await lab.serve().kill('SIGKILL')).signal, 'SIGKILL');
    await more(60); // nobody but the kernel is there
    await lab.start();
    assert.match(lab.serve().output(), /"interface":"eth0","mode":"native",.*"msg":"program replaced"/);
    const now = await attached();
    assert.notEqual(now.program, program, 'the program is the one of the daemon before');
    program = now.program;
    const after = await kept();
    assert.deepEqual(after, before, `round ${round}`);
    for (const id of Object.values(after.ids)) assert.ok(now.maps.includes(id), `round ${round}: map ${id}`);
    const grown = (await totals()).map((count, index) => count - (counted[index] ?? 0));
    assert.ok(
      grown.every((count) => count > 0),
      `round ${round}: ${grown}`,
    );
  }
  await noneFailed();
});

test('life: SIGTERM ends the daemon with exit code 0 and leaves the program forwarding', async () => {
  const before = await attached();
  driver.command({ kind: 'run', phase: 'terminated', rate: 200, count: null });
  await more(20);
  assert.deepEqual(await lab.serve().kill('SIGTERM'), { code: 0, signal: null });
  assert.match(lab.serve().output(), /"signal":"SIGTERM".*stay in the kernel/);
  await more(200);
  await noneFailed();
  assert.deepEqual(await attached(), before);
  await lab.start();
});

test('life: a second daemon on the same store is refused in one sentence and disturbs nothing', async () => {
  const before = { ...(await kept()), ...(await attached()) };
  const socket = statSync(lab.socket).ino;
  driver.command({ kind: 'run', phase: 'second', rate: 200, count: null });
  const second = startServe(lab.topology.lb, lab.config);
  const end = await second.ended;
  assert.deepEqual(end, { code: 1, signal: null });
  assert.match(second.output(), /^fairlead: lock ".*state\.json\.lock": process \d+ holds it; stop it first\n$/);
  await more(100);
  await noneFailed();
  assert.deepEqual({ ...(await kept()), ...(await attached()) }, before);
  assert.equal(statSync(lab.socket).ino, socket);
  assert.equal((await lab.ask('GET', '/livez')).status, 200);
});

test('life: a daemon with another store on the same socket is refused before it touches the kernel', async () => {
  const before = { ...(await kept()), ...(await attached()) };
  const config = `${lab.directory}/other.yaml`;
  writeFileSync(config, readFileSync(lab.config, 'utf8').replace('state.json', 'other.json'));
  driver.command({ kind: 'run', phase: 'other', rate: 200, count: null });
  const other = startServe(lab.topology.lb, config);
  assert.deepEqual(await other.ended, { code: 1, signal: null });
  assert.match(other.output(), /^fairlead: listen on ".*api\.sock": another process answers on it; stop it first\n$/);
  await more(100);
  await noneFailed();
  assert.deepEqual({ ...(await kept()), ...(await attached()) }, before);
});

test('life: drain, undrain and weights under load fail no request', async () => {
  driver.command({ kind: 'run', phase: 'changing', rate: 300, count: null });
  await more(50);
  for (const [method, path, body] of [
    ['POST', 'backends/be1/drain'],
    ['PATCH', 'backends/be2', { weight: 10 }],
    ['POST', 'backends/be1/undrain'],
    ['PATCH', 'backends/be3', { weight: 0 }],
    ['PATCH', 'backends/be3', { weight: 256 }],
    ['PATCH', 'backends/be2', { weight: 100 }],
    ['PATCH', 'backends/be3', { weight: 100 }],
  ] as const) {
    for (const pool of ['web4', 'web6']) await lab.api(method, `/api/v1/pools/${pool}/${path}?wait=applied`, body);
    await more(60);
  }
  await noneFailed();
});

test('life: 50 weight changes within 10 s under load fail no request, and the last one holds', async () => {
  driver.command({ kind: 'run', phase: 'weights', rate: 300, count: null });
  const weights = Array.from({ length: 50 }, (_, index) => (index % 5 === 4 ? 0 : 1 + ((index * 37) % 256)));
  const started = Date.now();
  for (const [index, weight] of weights.entries()) {
    const change = { weight: index === 49 ? 200 : weight };
    await lab.api('PATCH', `/api/v1/pools/web4/backends/be${1 + (index % 3)}`, change);
    await pause(150); // the pace of the changes, not a wait for something
  }
  console.log(`# 50 changes in ${Date.now() - started} ms`);
  await more(20);
  await noneFailed();
  const last = (member: number) => (member === 2 ? 200 : weights.findLast((_, index) => index % 3 === member - 1));
  const answer = await lab.api('PATCH', '/api/v1/pools/web4/backends/be2?wait=applied', { weight: 200 });
  assert.equal((answer as { weight: number }).weight, 200);
  const pool = (await lab.api('GET', '/api/v1/pools/web4')) as {
    backends: { name: string; weight: number }[];
    status: { backends: Record<string, { shareWanted: number; shareReal: number }> };
  };
  const wanted = [1, 2, 3].map((member) => last(member) ?? 0);
  assert.deepEqual(
    pool.backends.map(({ weight }) => weight),
    wanted,
  );
  const total = wanted.reduce((sum, weight) => sum + weight, 0);
  for (const [index, weight] of wanted.entries()) {
    const status = pool.status.backends[`be${index + 1}`];
    assert.ok(Math.abs((status?.shareWanted ?? -1) - weight / total) < 1e-9);
    assert.ok(Math.abs((status?.shareReal ?? -1) - weight / total) < 0.01, `be${index + 1}: ${status?.shareReal}`);
  }
  const stored = JSON.parse(readFileSync(`${lab.directory}/state.json`, 'utf8'));
  assert.deepEqual(
    stored.pools
      .find((each: { name: string }) => each.name === 'web4')
      .backends.map((each: { weight: number }) => each.weight),
    wanted,
  );
});

test('life: the next daemon changes to generic XDP and back, and forwards right in both', async () => {
  const native = readFileSync(lab.config, 'utf8');
  for (const mode of ['generic', 'native']) {
    await lab.serve().kill('SIGTERM');
    writeFileSync(lab.config, native.replace('xdp: native', `xdp: ${mode}`));
    await lab.start();
    const { interfaces } = (await lab.api('GET', '/api/v1/status')) as NodeStatus;
    assert.deepEqual(
      interfaces.map((each) => each.mode),
      [mode],
    );
    driver.command({ kind: 'run', phase: mode, rate: 300, count: 200 });
    const { phases, errors } = await driver.until(({ idle }) => idle, 15_000, never);
    assert.deepEqual(errors, []);
    assert.equal(phases[mode]?.requests, 200);
    const url = `http://${lab.topology.vip4}/bytes/3000000`;
    assert.equal(await lab.inClient('curl', '-sSf', '-o', '/dev/null', '-w', '%{size_download}', url), '3000000');
  }
});
