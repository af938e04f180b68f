// SPDX-License-Identifier: Apache-2.0
// tc_nat beside programs of others, by tcx and by clsact, with real traffic: what is theirs stays, what is ours is replaced and adopted without a gap.
import assert from 'node:assert/strict';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { type NativeMap, type NativeObject, native } from '../../src/dataplane/native.js';
import { spawnInside, stopChild } from '../../src/lab/children.js';
import { namespacePath, run } from '../../src/lab/netns.js';
import { natServices, putObjects } from '../../src/lab/objects.js';
import type { FlowView, NodeStatus } from '../../src/model/node-view.js';
import { compileFixtures, u32 } from '../native/fixture.js';
import { tracesOf, until } from '../support/lab.js';
import { mainFile } from '../support/serve.js';
import { openServedLab, type ServedLab } from '../support/served-lab.js';

const name = 'nb-tc';
let lab: ServedLab;
let fixtures: ReturnType<typeof compileFixtures>;
let foreign: NativeObject;
let seen: NativeMap;
let config = '';

before(async () => {
  lab = await openServedLab(name, 2);
  config = readFileSync(lab.config, 'utf8');
  fixtures = compileFixtures();
  foreign = native.openObject(fixtures.tc);
  await foreign.load();
  seen = foreign.map('packets');
  foreign.program('next').pin(`${lab.directory}/bpf/nb_next`);
});
after(async () => {
  seen?.close();
  foreign?.close();
  fixtures?.remove();
  await lab?.close();
  assert.deepEqual(tracesOf(name), []);
});

const inBalancer = (...command: string[]): Promise<string> =>
  run('nsenter', [`--net=${namespacePath(lab.topology.balancers[0].namespace)}`, ...command]);
const detach = (): Promise<string> =>
  inBalancer(process.execPath, mainFile, 'detach', '--bpffs', `${lab.directory}/bpf`);
const packetsSeen = (): number => new DataView((seen.get(u32(0)) ?? new Uint8Array(4)).buffer).getUint32(0, true);

/** Filters of an interface's hook, as the kernel lists them: priority, handle and program. */
async function filters(direction = 'ingress'): Promise<string[]> {
  const list = JSON.parse(await inBalancer('tc', '-j', 'filter', 'show', 'dev', 'eth0', direction)) as {
    pref: number;
    options?: { handle: string; bpf_name: string };
  }[];
  return list.flatMap(({ pref, options }) =>
    options ? [`${pref} ${options.handle} ${options.bpf_name.replace(/:\[.*/, '')}`] : [],
  );
}
const qdiscs = async (): Promise<string> => inBalancer('tc', 'qdisc', 'show', 'dev', 'eth0');
const idOf = async (): Promise<number> => {
  const text = await inBalancer('tc', 'filter', 'show', 'dev', 'eth0', 'ingress', 'pref', '250');
  return Number(/ id (\d+)/.exec(text)?.[1]);
};

const status = async (): Promise<NodeStatus> => (await lab.api('GET', '/api/v1/status')) as NodeStatus;
const modes = async (): Promise<(string | undefined)[]> => (await status()).nat?.programs.map(({ mode }) => mode) ?? [];

/** Starts the daemon with these programs attached so. */
async function startWith(tc: string, more = ''): Promise<void> {
  writeFileSync(lab.config, config.replace('xdp: native', `xdp: native, tc: ${tc}`) + more);
  await lab.start();
}
const stop = async (signal: 'SIGTERM' | 'SIGKILL' = 'SIGTERM'): Promise<void> => void (await lab.serve().kill(signal));

async function works(times = 6): Promise<void> {
  const { vip4, vip6, natPort } = lab.topology;
  for (let at = 0; at < times; at++)
    await lab.inClient('curl', '-gsSf', '--max-time', '5', `http://${at % 2 ? `[${vip6}]` : vip4}:${natPort}/`);
}

/** A download that outlasts any test: how much has come so far, and whether it has ended. */
function download(): {
  received(): Promise<number>;
  hasEnded(): boolean;
  stop(): Promise<void>;
} {
  const url = `http://${lab.topology.vip4}:${lab.topology.natPort}/bytes/2000000000`;
  const child = spawnInside(
    lab.topology.client,
    ['curl', '-sSf', '--limit-rate', '8M', '-o', '/dev/null', url],
    ['ignore', 'ignore', 'inherit'],
  );
  return {
    async received() {
      const { items } = (await lab.api('GET', '/api/v1/flows?service=nat4&sort=bytes&limit=1')) as {
        items: FlowView[];
      };
      return items[0]?.nat?.replyBytes ?? 0;
    },
    hasEnded: () => child.exitCode !== null || child.signalCode !== null,
    stop: () => stopChild(child, 1_000),
  };
}

test('tc: a foreign tcx program stays and sees packets, in front and behind', async () => {
  await putObjects(lab.api, lab.topology, natServices(lab.topology));
  await works();
  assert.deepEqual(await modes(), ['tcx']);
  assert.deepEqual(await filters(), []);
  const netns = namespacePath(lab.topology.balancers[0].namespace);
  const link = await native.attachTcx(foreign.program('next'), 'eth0', netns, 'ingress');
  const before = packetsSeen();
  await works();
  assert.ok(packetsSeen() >= before + 6 * 5, 'in front: all packets');
  await stop();
  assert.match(await detach(), /program taken off: eth0/);
  await lab.start(); // again in front of what is there
  await lab.api('PUT', '/api/v1/pools/nudge?wait=applied', { backends: [] });
  const behind = packetsSeen();
  await works();
  await inBalancer('ping', '-c', '1', '-W', '2', '10.9.0.1');
  assert.ok(packetsSeen() > behind, 'behind: what is not ours');
  assert.equal(link.program().name, 'next');
  link.close();
});

test('tc: by clsact beside a foreign filter; from tcx to clsact and back no byte is lost', async () => {
  await inBalancer('tc', 'qdisc', 'add', 'dev', 'eth0', 'clsact');
  const pinned = ['bpf', 'da', 'pinned', `${lab.directory}/bpf/nb_next`];
  await inBalancer('tc', 'filter', 'add', 'dev', 'eth0', 'ingress', 'pref', '10', ...pinned);
  const get = download();
  try {
    await until('it is under way', async () => (await get.received()) > 1_000_000);
    for (const [tc, wanted] of [
      ['clsact', ['10 0x1 nb_next', '250 0xfa1 tc_nat']],
      ['auto', ['10 0x1 nb_next']],
      ['clsact', ['10 0x1 nb_next', '250 0xfa1 tc_nat']],
    ] as const) {
      await stop();
      await startWith(tc);
      assert.deepEqual(await filters(), wanted);
      assert.deepEqual(await modes(), [tc === 'auto' ? 'tcx' : tc]);
      assert.equal(existsSync(`${lab.directory}/bpf/fairlead`), true);
      const sofar = await get.received();
      await until(`it goes on by ${tc}`, async () => (await get.received()) > sofar + 1_000_000);
    }
    const before = packetsSeen();
    await works();
    assert.ok(packetsSeen() >= before + 6 * 5, 'the foreign filter is in front');
    const metrics = String((await lab.ask('GET', '/metrics')).body);
    assert.match(metrics, /fairlead_bpf_program_info\{program="tc_nat",interface="eth0",mode="clsact",tag="\w+"\} 1/);
    const sofar = await get.received();
    await until('it goes on', async () => (await get.received()) > sofar + 1_000_000);
    assert.equal(get.hasEnded(), false);
  } finally {
    await get.stop();
  }
});

test('tc: a filter outlives a killed daemon; the next one adopts it, and one with another program replaces it at once', async () => {
  const get = download();
  try {
    await until('it is under way', async () => (await get.received()) > 1_000_000);
    const first = await idOf();
    await stop('SIGKILL');
    await works();
    assert.equal(await idOf(), first);
    await startWith('clsact');
    assert.equal(await idOf(), first, 'the same program stays');
    await stop('SIGKILL');
    await startWith('clsact', 'nat: { prefix: "64:ff9c::/96" }\n');
    assert.notEqual(await idOf(), first, 'another takes its place');
    assert.deepEqual(await filters(), ['10 0x1 nb_next', '250 0xfa1 tc_nat']);
    await works();
    const sofar = await get.received();
    await until('it goes on', async () => (await get.received()) > sofar + 1_000_000);
    assert.equal(get.hasEnded(), false);
  } finally {
    await get.stop();
  }
});

test('tc: detach takes our filter off, and nothing of others; the qdisc goes when it was ours and is empty', async () => {
  await stop();
  assert.match(await detach(), /program taken off: eth0\n/);
  assert.deepEqual(await filters(), ['10 0x1 nb_next'], 'theirs stays');
  assert.match(await qdiscs(), /clsact/);
  await inBalancer('tc', 'qdisc', 'del', 'dev', 'eth0', 'clsact');

  await startWith('clsact');
  await works();
  assert.deepEqual(await filters(), ['250 0xfa1 tc_nat']);
  await stop();
  await detach();
  assert.doesNotMatch(await qdiscs(), /clsact/, 'ours, and empty');

  await startWith('clsact');
  await works();
  const pinned = ['bpf', 'da', 'pinned', `${lab.directory}/bpf/nb_next`];
  await inBalancer('tc', 'filter', 'add', 'dev', 'eth0', 'egress', 'pref', '10', ...pinned);
  await stop();
  await detach();
  assert.deepEqual([await filters(), await filters('egress')], [[], ['10 0x1 nb_next']]);
  assert.match(await qdiscs(), /clsact/, 'ours, but of use to others');
});

test("tc: another's program in our place, and an ingress qdisc, are refused by name, and stay", async () => {
  const pinned = ['bpf', 'da', 'pinned', `${lab.directory}/bpf/nb_next`];
  const place = ['dev', 'eth0', 'ingress', 'pref', '250', 'handle', '0xfa1'];
  await inBalancer('tc', 'filter', 'add', ...place, ...pinned);
  writeFileSync(lab.config, config.replace('xdp: native', 'xdp: native, tc: clsact'));
  await refused(/attach tc_nat as a filter of clsact: its place has the program \W+next\W+, which is not ours/);
  assert.deepEqual(await filters(), ['250 0xfa1 nb_next']);
  await inBalancer('tc', 'qdisc', 'del', 'dev', 'eth0', 'clsact');
  await inBalancer('tc', 'qdisc', 'add', 'dev', 'eth0', 'ingress');
  await refused(
    /attach program \W+tc_nat\W+ to \W+eth0\W+: EEXIST, there is an ingress qdisc, want clsact in its place/,
  );
  assert.match(await qdiscs(), /ingress/);
});

/** Starts the daemon, which says this and does not get ready. */
async function refused(sentence: RegExp): Promise<void> {
  const starting = assert.rejects(lab.start());
  await until('it is refused', () => sentence.test(lab.serve().output()));
  await stop();
  await starting;
}
