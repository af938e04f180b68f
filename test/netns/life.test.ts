// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { native } from '../../src/dataplane/native.js';
import { pinRoot } from '../../src/dataplane/pins.js';
import { run } from '../../src/lab/netns.js';
import { readServices } from '../../src/lab/objects.js';
import type { FlowView } from '../../src/model/node-view.js';
import { tracesOf } from '../support/lab.js';
import { startServe } from '../support/serve.js';
import { openSender, openServedLab, openStream, type ServedLab, type Stream } from '../support/served-lab.js';

const name = 'ftelife';
const client = '10.1.0.77';
let lab: ServedLab;
let stream: Stream;

before(async () => {
  lab = await openServedLab(name, 3);
  await lab.inClient('ip', 'address', 'add', `${client}/24`, 'dev', 'eth0');
  stream = await openStream(lab);
  const send = await openSender(lab);
  const flows = Array.from({ length: 40 }, (_, index) => ({
    from: client,
    fromPort: 20_000 + index,
    size: 100,
    count: 1,
  }));
  await send(flows.map((flow) => ({ ...flow, to: lab.topology.vip4 })));
});
after(async () => {
  await lab.close();
  assert.deepEqual(tracesOf(name), []);
});

const pins = () => pinRoot(`${lab.directory}/bpf`);

/** What must outlive the daemon: ids of the pinned maps, the backends' entries by number, the flows of `client`. */
async function kept() {
  const ids: Record<string, number> = {};
  let backends = '';
  for (const map of ['services', 'pools', 'ring_rows', 'backends', 'flows_hot', 'flows_cold', 'counters', 'outcomes']) {
    const handle = native.openMap(`${pins()}/maps/${map}`);
    ids[map] = handle.info.id;
    if (map === 'backends') backends = createHash('sha256').update(new Uint8Array(handle.mmap())).digest('hex');
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

async function totals(): Promise<readonly number[]> {
  const services = Object.values(await readServices(lab.api, lab.topology));
  return services.flatMap(({ packets, bytes, connections }) => [packets, bytes, connections]);
}

test('life: kill -9 ten times under load: packets flow on, the next daemon adopts all there is', async () => {
  const before = await kept();
  assert.equal(before.flows.length, 40);
  const running = await attached();
  stream.begin('killed', 200);
  await stream.more(20);
  for (let round = 1; round <= 10; round++) {
    const counted = await totals();
    assert.equal((await lab.serve().kill('SIGKILL')).signal, 'SIGKILL');
    await Promise.all([stream.more(60), lab.start()]); // while the next one starts, nobody but the kernel is there
    assert.match(lab.serve().output(), /"interface":"eth0","mode":"native",.*"msg":"program kept"/);
    const now = await attached();
    assert.deepEqual(now, running, 'what is right already is not changed');
    const after = await kept();
    assert.deepEqual(after, before, `round ${round}`);
    for (const id of Object.values(after.ids)) assert.ok(now.maps.includes(id), `round ${round}: map ${id}`);
    const grown = (await totals()).map((count, index) => count - (counted[index] ?? 0));
    assert.ok(
      grown.every((count) => count > 0),
      `round ${round}: ${grown}`,
    );
  }
  await stream.noneFailed();
});

test('life: a daemon with other settings replaces the program, and keeps the tables', async () => {
  const before = { ...(await kept()), ...(await attached()) };
  const config = readFileSync(lab.config, 'utf8');
  for (const settings of [config.replace(/mtu: \d+/, 'mtu: 1480'), config]) {
    assert.equal((await lab.serve().kill('SIGTERM')).code, 0);
    writeFileSync(lab.config, settings);
    await lab.start();
    assert.match(lab.serve().output(), /"msg":"program replaced"/);
  }
  const after = { ...(await kept()), ...(await attached()) };
  assert.notEqual(after.program, before.program);
  assert.deepEqual(
    { ids: after.ids, backends: after.backends, flows: after.flows },
    { ids: before.ids, backends: before.backends, flows: before.flows },
  );
});

test('life: SIGTERM ends the daemon with exit code 0 and leaves the program forwarding', async () => {
  const before = await attached();
  stream.begin('terminated', 200);
  await stream.more(20);
  assert.deepEqual(await lab.serve().kill('SIGTERM'), { code: 0, signal: null });
  assert.match(lab.serve().output(), /"signal":"SIGTERM".*stay in the kernel/);
  await stream.more(200);
  await stream.noneFailed();
  assert.deepEqual(await attached(), before);
  await lab.start();
});

test('life: a second daemon on the same store is refused in one sentence and disturbs nothing', async () => {
  const before = { ...(await kept()), ...(await attached()) };
  const socket = statSync(lab.socket).ino;
  stream.begin('second', 200);
  const second = startServe(lab.topology.balancers[0].namespace, lab.config);
  const end = await second.ended;
  assert.deepEqual(end, { code: 1, signal: null });
  assert.match(second.output(), /^fairlead: lock ".*state\.json\.lock": process \d+ holds it; stop it first\n$/);
  await stream.more(100);
  await stream.noneFailed();
  assert.deepEqual({ ...(await kept()), ...(await attached()) }, before);
  assert.equal(statSync(lab.socket).ino, socket);
  assert.equal((await lab.ask('GET', '/livez')).status, 200);
});

test('life: a daemon with another store on the same socket is refused before it touches the kernel', async () => {
  const before = { ...(await kept()), ...(await attached()) };
  const config = `${lab.directory}/other.yaml`;
  writeFileSync(config, readFileSync(lab.config, 'utf8').replace('state.json', 'other.json'));
  stream.begin('other', 200);
  const other = startServe(lab.topology.balancers[0].namespace, config);
  assert.deepEqual(await other.ended, { code: 1, signal: null });
  assert.match(other.output(), /^fairlead: listen on ".*api\.sock": another process answers on it; stop it first\n$/);
  await stream.more(100);
  await stream.noneFailed();
  assert.deepEqual({ ...(await kept()), ...(await attached()) }, before);
});

test('life: what a service wants newly is loaded under load: no request fails, counts and flows go on', async () => {
  const before = { ...(await attached()), packets: await forwarded() };
  stream.begin('swapped', 200);
  await stream.more(40);
  for (const service of ['echo4', 'echo6'])
    await lab.api('PATCH', `/api/v1/services/${service}?wait=applied`, { forwarding: 'gue' });
  await stream.more(100);
  await stream.noneFailed();
  const after = await attached();
  assert.notEqual(after.program, before.program);
  const fresh = after.maps.filter((map) => !before.maps.includes(map));
  assert.ok(fresh.length <= 2, 'all but split_out and the constants are the maps there were');
  assert.ok((await forwarded()) > before.packets, 'counts go on from where they were');
});

test('life: an interface that is gone does not hold up what is asked for', async () => {
  await run('ip', ['-n', lab.topology.balancers[0].namespace, 'link', 'delete', 'eth0']);
  const wide = { deny: ['192.0.2.128/25'], rateLimit: { packetsPerSecond: 1000 } };
  await lab.api('PATCH', '/api/v1/services/echo4?wait=applied', wide);
});

/** Packets of all services. */
async function forwarded(): Promise<number> {
  const services = Object.values(await readServices(lab.api, lab.topology));
  return services.reduce((all, { packets }) => all + packets, 0);
}
