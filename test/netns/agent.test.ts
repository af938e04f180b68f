// SPDX-License-Identifier: Apache-2.0
// `fairlead agent` on a backend behind one link: what it takes in and from whom, and what outlives it.
import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { after, afterEach, before, test } from 'node:test';
import { type NativeLink, native } from '../../src/dataplane/native.js';
import { objectPath } from '../../src/dataplane/program.js';
import { startInside, stopChild } from '../../src/lab/children.js';
import { namespacePath, run } from '../../src/lab/netns.js';
import { parseAddress } from '../../src/model/address.js';
import { ownersList } from '../model/outer.js';
import { type AgentNode, KEY, openAgentNode, STRANGE_VIP, VIP, VIP6 } from '../support/agent-node.js';
import type { Parcel } from '../support/gue-client.js';
import { until } from '../support/lab.js';
import { packet } from '../support/packets.js';
import type { Echoes } from '../support/served-lab.js';
import { openTunnels } from '../support/tunnel.js';

const ECHO_PORT = 7000;
const NEXT_OWNER = '10.9.0.2'; // in the balancer's namespace
let node: AgentNode;
let tunnels: NativeLink;
let client: ChildProcess; // sends into them
let gue: ChildProcess;
let server: ChildProcess | null = null;

before(async () => {
  node = await openAgentNode('fag');
  const { balancer } = node;
  tunnels = await openTunnels(balancer, 'eth0', [
    { vip: VIP, from: '10.9.0.1', to: '10.9.0.10' },
    { vip: STRANGE_VIP, from: '10.9.0.2', to: '10.9.0.10' },
    { vip: VIP6, from: 'fd00:9::1', to: 'fd00:9::10' },
  ]);
  client = await startInside(balancer, '../../test/support/udp-client.js', [`${ECHO_PORT}`]);
  gue = await startInside(balancer, '../../test/support/gue-client.js', []);
});
afterEach(async () => {
  if (server) await stopChild(server, 1_000);
  server = null;
  await node.reset();
});
after(async () => {
  for (const child of [client, gue]) if (child) await stopChild(child, 1_000);
  tunnels?.close();
  await node.close();
});

const inBackend = ({ backend }: AgentNode, ...command: string[]): Promise<string> =>
  run('nsenter', [`--net=${namespacePath(backend)}`, ...command]);

const serveEcho = async (...vips: readonly string[]): Promise<void> => {
  server = await startInside(node.backend, 'echo-server.js', ['be1', '80', `${ECHO_PORT}`, ...vips]);
};

/** Datagrams to the VIP through its tunnel, one after the other; rejects when one is not echoed. */
async function exchange(to: string, count = 1): Promise<void> {
  const answered = once(client, 'message');
  client.send([{ from: to.includes(':') ? 'fd00:8::1' : '10.8.0.1', fromPort: 0, to, size: 32, count }]);
  const [answer] = (await answered) as [Echoes];
  if ('error' in answer) throw new Error(answer.error);
  assert.deepEqual(answer.backends, [['be1']]);
}

/** What arrives at `listen`, of the client's or of another backend's, when this is sent in GUE. */
async function sendGue(parcel: Omit<Parcel, 'to' | 'payload'> & { payload: Buffer }): Promise<Buffer | null> {
  const answered = once(gue, 'message');
  gue.send({ ...parcel, payload: parcel.payload.toString('hex'), to: '10.9.0.10' });
  const [{ arrived }] = (await answered) as [{ arrived: string | null }];
  return arrived === null ? null : Buffer.from(arrived, 'hex');
}

/** Who echoes a datagram in GUE from this outer address; null when nobody does. */
async function byGue(from: string, timeoutMs: number): Promise<string | null> {
  const listen = { address: '10.8.0.1', port: 40_000 };
  const inner = { from: listen.address, fromPort: listen.port, to: VIP, toPort: ECHO_PORT, payload: 8 };
  const payload = packet({ ...inner, protocol: 'udp' }).subarray(14);
  return (await sendGue({ payload, from, listen, timeoutMs }))?.toString().split(' ')[0] ?? null;
}

for (const mode of ['native', 'generic'])
  test(`agent: takes in what balancers send by IPIP, IPv6 and GUE, on VIPs it put on lo; ${mode}`, async () => {
    const agent = await node.started({ interfaces: `[{ name: eth0, xdp: ${mode} }]` });
    await serveEcho(VIP, VIP6);
    await exchange(VIP, 10);
    await exchange(VIP6, 10);
    assert.equal(await byGue('10.9.0.1', 5_000), 'be1');
    assert.deepEqual(await node.results(), { plain: 21 });
    await agent.kill('SIGTERM');
  });

for (const [xdp, tc] of [
  ['native', 'auto'],
  ['generic', 'auto'],
  ['native', 'clsact'],
])
  test(`agent: what has no socket here goes on to the next owner, if the list was made under the configured key; ${xdp}, ${tc}`, async () => {
    const inner = { from: '10.8.0.1', to: VIP, fromPort: 40_001, toPort: 9 };
    const bytes = (address: string): Buffer => Buffer.from(parseAddress(address).bytes);
    const inside = { ...inner, from: bytes(inner.from), to: bytes(inner.to), v6: false };
    const list = ownersList(new Uint32Array(Uint8Array.from(KEY).buffer), inside, [bytes(NEXT_OWNER)]);
    const tcp = packet({ ...inner, protocol: 'tcp', payload: 5 }).subarray(14);
    const payload = Buffer.concat([list, tcp]);
    const send = (timeoutMs: number): Promise<Buffer | null> =>
      sendGue({ payload, from: '10.9.0.1', listen: { address: NEXT_OWNER, port: 6080 }, timeoutMs });
    const interfaces = `[{ name: eth0, xdp: ${xdp}, tc: ${tc} }]`;
    const agent = await node.started({ interfaces });
    const onward = Buffer.from(payload);
    onward.writeUInt8(1, 5); // the next one is behind the list: there is none
    assert.deepEqual(await send(5_000), onward);
    assert.deepEqual(await node.results(), { forwarded: 1 });
    await agent.kill('SIGTERM');
    const other = await node.started({ interfaces, key: `"${'0'.repeat(32)}"` });
    assert.equal(await send(300), null);
    assert.deepEqual(await node.results(), { forwarded: 1, bad_tag: 1 });
    await other.kill('SIGTERM');
  });

test('agent: what others send in a tunnel is left as it came, and counted', async () => {
  const agent = await node.started();
  await serveEcho(VIP, STRANGE_VIP);
  await exchange(VIP); // the way back works
  await assert.rejects(exchange(STRANGE_VIP), /no echo/);
  assert.equal(await byGue('10.9.0.2', 300), null);
  const { stranger, plain } = await node.results();
  assert.deepEqual([stranger, plain], [2, 1]);
  await agent.kill('SIGTERM');
});

test('agent: a kill and the next start lose no packet; programs are replaced and counters go on', async () => {
  const first = await node.started();
  await serveEcho(VIP);
  let sent = 0;
  let over = false;
  const stream = (async () => {
    for (; !over; sent += 50) await exchange(VIP, 50);
  })();
  const sending = async (): Promise<void> => {
    const before = sent;
    await Promise.race([stream, until('more is echoed', async () => sent > before + 200)]);
  };
  await sending();
  const held = await node.traces();
  assert.equal((await first.kill('SIGKILL')).signal, 'SIGKILL');
  await sending();
  assert.deepEqual(await node.traces(), held, 'everything is still there');
  const second = await node.started();
  assert.match(second.output(), /"msg":"programs replaced"/);
  await sending();
  const now = await node.traces();
  assert.notDeepEqual(now.xdp, held.xdp, 'another program');
  assert.deepEqual({ ...now, xdp: null }, { ...held, xdp: null });
  assert.deepEqual(await second.kill('SIGTERM'), { code: 0, signal: null });
  await sending();
  over = true;
  await stream;
  const third = await node.started();
  assert.deepEqual(await node.results(), { plain: sent });
  await third.kill('SIGTERM');
});

test('agent: a start with another configuration takes away what that no longer names', async () => {
  const first = await node.started({ interfaces: '[{ name: eth0 }, { name: eth1, xdp: generic }]' });
  await serveEcho(VIP);
  await exchange(VIP);
  await first.kill('SIGKILL');
  const second = await node.started({ balancers: '[10.9.0.2]', vips: `[${VIP}]` });
  await assert.rejects(exchange(VIP), /no echo/);
  const { xdp, tc, addresses } = await node.traces();
  assert.deepEqual([xdp.length, tc], [1, ['0-native-eth0 tc_agent']]);
  assert.deepEqual(addresses, ['127.0.0.1/8', `${VIP}/32`, '::1/128']);
  await second.kill('SIGTERM');
});

test('agent: detach takes everything off; an address that was there before stays', async () => {
  await run('ip', ['-n', node.backend, 'address', 'add', `${STRANGE_VIP}/32`, 'dev', 'lo']);
  try {
    const before = await node.traces();
    const agent = await node.started();
    await agent.kill('SIGTERM');
    const { addresses } = await node.traces();
    assert.deepEqual(
      addresses.toSorted(),
      ['127.0.0.1/8', `${VIP}/32`, `${STRANGE_VIP}/32`, `${VIP6}/128`, '::1/128'].toSorted(),
    );
    const link = native.openLink(`${node.root}/links/tc/0-native-eth0`);
    assert.notEqual(link.interfaceIndex, 0);
    assert.equal(
      await node.detach(),
      `program of the agent taken off: eth0\naddresses taken off lo: ${[VIP, VIP6].join(', ')}\n`,
    );
    assert.equal(link.interfaceIndex, 0);
    link.close();
    assert.deepEqual(await node.traces(), before);
    assert.equal(await node.detach(), 'nothing of Fairlead was attached\n');
  } finally {
    await run('ip', ['-n', node.backend, 'address', 'del', `${STRANGE_VIP}/32`, 'dev', 'lo']);
  }
});

test('agent: by clsact a filter stays, is replaced, gives way to tcx and comes back, and leaves with its qdisc', async () => {
  const qdiscs = (): Promise<string> => inBackend(node, 'tc', 'qdisc', 'show', 'dev', 'eth0');
  const filter = async (): Promise<string | undefined> =>
    / handle 0xfa2 tc_agent.* id (\d+)/.exec(
      await inBackend(node, 'tc', 'filter', 'show', 'dev', 'eth0', 'ingress'),
    )?.[1];
  const clsact = { interfaces: '[{ name: eth0, tc: clsact }]' };
  const first = await node.started(clsact);
  const id = await filter();
  assert.ok(id !== undefined && (await node.traces()).tc.length === 0);
  await first.kill('SIGKILL');
  assert.equal(await filter(), id);
  await serveEcho(VIP);
  const second = await node.started(clsact);
  const replaced = await filter();
  assert.ok(replaced !== undefined && replaced !== id);
  await exchange(VIP, 5);
  await second.kill('SIGTERM');
  const third = await node.started({ interfaces: '[{ name: eth0, tc: tcx }]' });
  assert.deepEqual([await filter(), (await node.traces()).tc], [undefined, ['0-native-eth0 tc_agent']]);
  assert.doesNotMatch(await qdiscs(), /clsact/);
  await third.kill('SIGTERM');
  const fourth = await node.started(clsact);
  assert.ok((await filter()) !== undefined);
  assert.deepEqual((await node.traces()).tc, []);
  await exchange(VIP, 5);
  await fourth.kill('SIGTERM');
  assert.match(await node.detach(), /program of the agent taken off: eth0/);
  assert.equal(await filter(), undefined);
  assert.doesNotMatch(await qdiscs(), /clsact/);
});

test('agent: a start that fails takes its filter and its qdisc away again', async () => {
  const interfaces = '[{ name: eth0, tc: clsact }, { name: eth1 }]';
  const object = native.openObject(objectPath('xdp_pass'));
  await object.load();
  const link = await native.attachXdp(object.program('xdp_pass'), 'eth1', namespacePath(node.backend), 'generic');
  try {
    const agent = node.start({ interfaces });
    assert.notEqual((await agent.ended).code, 0);
    assert.doesNotMatch(await inBackend(node, 'tc', 'qdisc', 'show', 'dev', 'eth0'), /clsact/);
    assert.equal(existsSync(node.root), false);
  } finally {
    link.close();
    object.close();
  }
});

test('agent: an IPv6 VIP is there at once, and the metrics are at /metrics alone', async () => {
  const agent = await node.started();
  const shown = await run('ip', ['-n', node.backend, '-6', 'address', 'show', 'dev', 'lo', 'tentative']);
  assert.equal(shown, '');
  assert.match((await node.scrape()).text, /^fairlead_build_info\{version="\d+\.\d+\.\d+[^"]*",node="[^"]+"\} 1$/m);
  assert.match((await node.scrape()).text, /^fairlead_process_cpu_seconds_total /m);
  assert.equal((await node.scrape('/')).status, 404);
  await agent.kill('SIGTERM');
});
