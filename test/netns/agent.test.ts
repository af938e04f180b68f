// SPDX-License-Identifier: Apache-2.0
// `fairlead agent` on a backend behind one link: what it takes in and from whom, what outlives it, and starts that must fail.
import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { after, afterEach, before, test } from 'node:test';
import { type NativeLink, native } from '../../src/dataplane/native.js';
import { objectPath } from '../../src/dataplane/program.js';
import { startInside, stopChild } from '../../src/lab/children.js';
import { destroyNamespaces, namespacePath, run, unmount } from '../../src/lab/netns.js';
import type { Parcel } from '../support/gue-client.js';
import { until } from '../support/lab.js';
import { packet } from '../support/packets.js';
import { mainFile, type Serve, startServe } from '../support/serve.js';
import type { Echoes } from '../support/served-lab.js';
import { openTunnels } from '../support/tunnel.js';

const lab = 'fag';
const balancer = `${lab}-lb1`; // the clients live there, too
const backend = `${lab}-be1`;
const VIP = '198.51.100.1';
const VIP6 = '2001:db8:99::1';
const STRANGE_VIP = '198.51.100.2'; // leads through a tunnel that no balancer has
const ECHO_PORT = 7000;
let directory: string;
let root: string; // of the agent's pins
const running = new Set<Serve>();
let tunnels: NativeLink;
let client: ChildProcess; // sends into them
let gue: ChildProcess;
let server: ChildProcess | null = null;

before(async () => {
  await destroyNamespaces(lab); // of a run that was killed
  directory = mkdtempSync(`${tmpdir()}/${lab}-`);
  root = `${directory}/bpf/fairlead-agent`;
  chmodSync(directory, 0o755);
  for (const name of [balancer, backend]) await run('ip', ['netns', 'add', name]);
  const here = [
    `link add eth0 type veth peer name eth0 netns ${backend}`,
    'link set lo up',
    'link set eth0 up',
    'address add 10.9.0.1/24 dev eth0',
    'address add 10.9.0.2/24 dev eth0',
    'address add fd00:9::1/64 dev eth0 nodad',
    'address add 10.8.0.1/32 dev lo',
    'address add fd00:8::1/128 dev lo nodad',
    'route add 198.51.100.0/24 via 10.9.0.10',
    'route add 2001:db8:99::/64 via fd00:9::10',
  ];
  const there = [
    'link set lo up',
    'link set eth0 up',
    'link add eth1 type veth peer name peer1',
    'link set eth1 up',
    'address add 10.9.0.10/24 dev eth0',
    'address add fd00:9::10/64 dev eth0 nodad',
    'route add 10.8.0.0/24 via 10.9.0.1',
    'route add fd00:8::/64 via fd00:9::1',
  ];
  await run('ip', ['-n', balancer, '-batch', '-'], here.join('\n'));
  await run('ip', ['-n', backend, '-batch', '-'], there.join('\n'));
  // Native XDP loses the mark of a checksum left to the hardware.
  for (const name of [balancer, backend])
    await run('nsenter', [`--net=${namespacePath(name)}`, 'ethtool', '-K', 'eth0', 'tx', 'off']);
  tunnels = await openTunnels(balancer, 'eth0', [
    { vip: VIP, from: '10.9.0.1', to: '10.9.0.10' },
    { vip: STRANGE_VIP, from: '10.9.0.2', to: '10.9.0.10' },
    { vip: VIP6, from: 'fd00:9::1', to: 'fd00:9::10' },
  ]);
  client = await startInside(balancer, '../../test/support/udp-client.js', [`${ECHO_PORT}`]);
  gue = await startInside(balancer, '../../test/support/gue-client.js', []);
});
afterEach(async () => {
  for (const agent of running) await agent.kill('SIGKILL'); // of a test that failed
  if (server) await stopChild(server, 1_000);
  server = null;
  await detach();
});
after(async () => {
  for (const child of [client, gue]) if (child) await stopChild(child, 1_000);
  tunnels?.close();
  await destroyNamespaces(lab);
  await unmount(`${directory}/bpf`);
  rmSync(directory, { recursive: true });
});

const whole = {
  interfaces: '[{ name: eth0 }]',
  balancers: '[10.9.0.1, "fd00:9::1"]',
  key: '"00112233445566778899aabbccddeeff"',
  vips: `[${VIP}, ${STRANGE_VIP}, "${VIP6}"]`,
  metrics: '{ listen: "10.9.0.10:7081" }',
};

/** Starts the agent with this configuration, `whole` where it says nothing. */
function start(changes: Partial<typeof whole> = {}, prefix: readonly string[] = []): Serve {
  const path = `${directory}/agent.yaml`;
  const keys = Object.entries({ ...whole, ...changes }).map(([key, value]) => `${key}: ${value}\n`);
  writeFileSync(path, `bpffs: ${directory}/bpf\n${keys.join('')}`);
  const agent = startServe(backend, path, prefix, 'agent');
  running.add(agent);
  agent.ended.then(() => running.delete(agent));
  return agent;
}

async function started(changes: Partial<typeof whole> = {}): Promise<Serve> {
  const agent = start(changes);
  let ended = false;
  agent.ended.then(() => {
    ended = true;
  });
  await until('the agent is ready', async () => {
    if (ended) assert.fail(`the agent ended: ${agent.output()}`);
    return agent.output().includes('taking tunnel packets in');
  });
  return agent;
}

const detach = (): Promise<string> =>
  run('nsenter', [
    `--net=${namespacePath(backend)}`,
    process.execPath,
    mainFile,
    'detach',
    '--bpffs',
    `${directory}/bpf`,
  ]);

const serveEcho = async (...vips: readonly string[]): Promise<void> => {
  server = await startInside(backend, 'echo-server.js', ['be1', '80', `${ECHO_PORT}`, ...vips]);
};

/** Datagrams to the VIP through its tunnel, one after the other; rejects when one is not echoed. */
async function exchange(to: string, count = 1): Promise<void> {
  const answered = once(client, 'message');
  client.send([{ from: to.includes(':') ? 'fd00:8::1' : '10.8.0.1', fromPort: 0, to, size: 32, count }]);
  const [answer] = (await answered) as [Echoes];
  if ('error' in answer) throw new Error(answer.error);
  assert.deepEqual(answer.backends, [['be1']]);
}

/** Who echoes a datagram in GUE from this outer address; null when nobody does. */
async function byGue(from: string, timeoutMs: number): Promise<string | null> {
  const inner = {
    from: '10.8.0.1',
    fromPort: 40_000,
    to: VIP,
    toPort: ECHO_PORT,
    protocol: 'udp',
    payload: 8,
  } as const;
  const hex = packet(inner).subarray(14).toString('hex');
  const answered = once(gue, 'message');
  const parcel: Parcel = {
    packet: hex,
    from,
    to: '10.9.0.10',
    client: { address: inner.from, port: inner.fromPort },
    timeoutMs,
  };
  gue.send(parcel);
  const [{ answer }] = (await answered) as [{ answer: string | null }];
  return answer;
}

/** An answer of the agent's listener. */
async function scrape(path = '/metrics'): Promise<{ status: number; text: string }> {
  const script = `fetch('http://10.9.0.10:7081${path}').then(async (r) => process.stdout.write(JSON.stringify({ status: r.status, text: await r.text() })))`;
  return JSON.parse(await run('nsenter', [`--net=${namespacePath(backend)}`, process.execPath, '-e', script]));
}

/** Packets by result, those that were none left out. */
async function results(): Promise<Record<string, number>> {
  const { text } = await scrape();
  const found = [...text.matchAll(/^fairlead_second_chance_total\{result="(\w+)"\} (\d+)$/gm)];
  assert.deepEqual(
    found.map(([, name]) => name),
    ['plain', 'socket', 'cookie', 'forwarded', 'last', 'stranger', 'bad_tag', 'malformed'],
  );
  return Object.fromEntries(found.flatMap(([, name, count]) => (count === '0' ? [] : [[name, Number(count)]])));
}

/** The agent's links of type tcx, by pin. */
function tcLinks(): readonly string[] {
  return existsSync(`${root}/links/tc`) ? readdirSync(`${root}/links/tc`) : [];
}

/** The program of such a link; null when it is on no interface. */
function heldBy(pin: string): string | null {
  const link = native.openLink(`${root}/links/tc/${pin}`);
  const program = link.program();
  const name = link.interfaceIndex === 0 ? null : program.name;
  program.close();
  link.close();
  return name;
}

/** What of the agent is on the backend: XDP programs, tcx programs, addresses on lo, pins. */
async function traces(): Promise<object> {
  const json = async (...args: string[]) => JSON.parse(await run('ip', ['-n', backend, '-j', ...args]));
  const links: { ifname: string; xdp?: { prog: { id: number } } }[] = await json('link', 'show');
  const [lo]: { addr_info: { local: string; prefixlen: number }[] }[] = await json('address', 'show', 'lo');
  const pins = existsSync(root) ? readdirSync(root, { recursive: true, withFileTypes: true }) : [];
  return {
    xdp: links.flatMap(({ ifname, xdp }) => (xdp ? [`${ifname} ${xdp.prog.id}`] : [])),
    tc: tcLinks().map((pin) => `${pin} ${heldBy(pin)}`),
    addresses: lo?.addr_info.map(({ local, prefixlen }) => `${local}/${prefixlen}`),
    pins: pins.filter((entry) => !entry.isDirectory()).map((entry) => entry.name),
  };
}

for (const mode of ['native', 'generic'])
  test(`agent: takes in what balancers send by IPIP, IPv6 and GUE, on VIPs it put on lo; ${mode}`, async () => {
    const agent = await started({ interfaces: `[{ name: eth0, xdp: ${mode} }]` });
    await serveEcho(VIP, VIP6);
    await exchange(VIP, 10);
    await exchange(VIP6, 10);
    assert.equal(await byGue('10.9.0.1', 5_000), 'be1');
    assert.deepEqual(await results(), { plain: 21 });
    await agent.kill('SIGTERM');
  });

test('agent: what others send in a tunnel is left as it came, and counted', async () => {
  const agent = await started();
  await serveEcho(VIP, STRANGE_VIP);
  await exchange(VIP); // the way back works
  await assert.rejects(exchange(STRANGE_VIP), /no echo/);
  assert.equal(await byGue('10.9.0.2', 300), null);
  const { stranger, plain } = await results();
  assert.deepEqual([stranger, plain], [2, 1]);
  await agent.kill('SIGTERM');
});

test('agent: a kill and the next start lose no packet; programs are replaced and counters go on', async () => {
  const first = await started();
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
  const held = await traces();
  assert.equal((await first.kill('SIGKILL')).signal, 'SIGKILL');
  await sending();
  assert.deepEqual(await traces(), held, 'everything is still there');
  const second = await started();
  assert.match(second.output(), /"msg":"programs replaced"/);
  await sending();
  const now = (await traces()) as { xdp: string[] };
  assert.notDeepEqual(now.xdp, (held as { xdp: string[] }).xdp, 'another program');
  assert.deepEqual({ ...now, xdp: null }, { ...held, xdp: null });
  assert.deepEqual(await second.kill('SIGTERM'), { code: 0, signal: null });
  await sending();
  over = true;
  await stream;
  const third = await started();
  assert.deepEqual(await results(), { plain: sent });
  await third.kill('SIGTERM');
});

test('agent: a start with another configuration takes away what that no longer names', async () => {
  const first = await started({ interfaces: '[{ name: eth0 }, { name: eth1, xdp: generic }]' });
  await serveEcho(VIP);
  await exchange(VIP);
  await first.kill('SIGKILL');
  const second = await started({ balancers: '[10.9.0.2]', vips: `[${VIP}]` });
  await assert.rejects(exchange(VIP), /no echo/);
  const { xdp, tc, addresses } = (await traces()) as { xdp: string[]; tc: string[]; addresses: string[] };
  assert.deepEqual([xdp.length, tc], [1, ['0-native-eth0 tc_agent']]);
  assert.deepEqual(addresses, ['127.0.0.1/8', `${VIP}/32`, '::1/128']);
  await second.kill('SIGTERM');
});

test('agent: detach takes everything off; an address that was there before stays', async () => {
  await run('ip', ['-n', backend, 'address', 'add', `${STRANGE_VIP}/32`, 'dev', 'lo']);
  try {
    const before = await traces();
    const agent = await started();
    await agent.kill('SIGTERM');
    const { addresses } = (await traces()) as { addresses: string[] };
    assert.deepEqual(
      addresses.toSorted(),
      ['127.0.0.1/8', `${VIP}/32`, `${STRANGE_VIP}/32`, `${VIP6}/128`, '::1/128'].toSorted(),
    );
    const link = native.openLink(`${root}/links/tc/${tcLinks()[0]}`);
    assert.notEqual(link.interfaceIndex, 0);
    assert.equal(
      await detach(),
      `program of the agent taken off: eth0\naddresses taken off lo: ${[VIP, VIP6].join(', ')}\n`,
    );
    assert.equal(link.interfaceIndex, 0);
    link.close();
    assert.deepEqual(await traces(), before);
    assert.equal(await detach(), 'nothing of Fairlead was attached\n');
  } finally {
    await run('ip', ['-n', backend, 'address', 'del', `${STRANGE_VIP}/32`, 'dev', 'lo']);
  }
});

test('agent: an interface that would answer ARP for the VIPs is warned of', async () => {
  const warning = /interface \\"eth0\\" answers ARP for the VIPs: set net\.ipv4\.conf\.eth0\.arp_ignore to 1/;
  const set = (value: number): Promise<string> =>
    run('nsenter', [`--net=${namespacePath(backend)}`, 'sysctl', `net.ipv4.conf.eth0.arp_ignore=${value}`]);
  await run('nsenter', [`--net=${namespacePath(backend)}`, 'sysctl', 'net.ipv4.conf.all.arp_ignore=0']);
  for (const [value, vips, warned] of [
    [0, whole.vips, true],
    [1, whole.vips, false],
    [0, `["${VIP6}"]`, false],
  ] as const) {
    await set(value);
    const agent = await started({ vips });
    assert.equal(warning.test(agent.output()), warned, agent.output());
    await agent.kill('SIGTERM');
  }
});

test('agent: an IPv6 VIP is there at once, and the metrics are at /metrics alone', async () => {
  const agent = await started();
  const shown = await run('ip', ['-n', backend, '-6', 'address', 'show', 'dev', 'lo', 'tentative']);
  assert.equal(shown, '');
  assert.match((await scrape()).text, /^fairlead_build_info\{version="\d+\.\d+\.\d+[^"]*",node="[^"]+"\} 1$/m);
  assert.match((await scrape()).text, /^fairlead_process_cpu_seconds_total /m);
  assert.equal((await scrape('/')).status, 404);
  await agent.kill('SIGTERM');
});

/** Starts the agent, which must end by itself with this exit code, one sentence on its output, and nothing changed. */
async function refused(
  changes: Partial<typeof whole>,
  code: number,
  sentence: RegExp,
  prefix: readonly string[] = [],
): Promise<void> {
  const before = await traces();
  const agent = start(changes, prefix);
  const timer = setTimeout(() => void agent.kill('SIGKILL'), 15_000);
  const end = await agent.ended;
  clearTimeout(timer);
  const output = agent.output();
  assert.match(output, sentence);
  const said = output.split('\n').filter((line) => line !== '' && !line.startsWith('{'));
  assert.equal(said.length, 1, output);
  assert.deepEqual(end, { code, signal: null }, output);
  assert.deepEqual(await traces(), before);
  assert.equal(existsSync(root), false, 'no empty directories either');
}

test('agent: an interface that is missing, and one with a foreign program, are refused by name', async () => {
  await refused({ interfaces: '[{ name: eth7 }]' }, 4, /^fairlead: attach xdp_agent to "eth7": no such interface/);
  const object = native.openObject(objectPath('xdp_pass'));
  await object.load();
  const link = await native.attachXdp(object.program('xdp_pass'), 'eth1', namespacePath(backend), 'generic');
  try {
    const interfaces = '[{ name: eth0 }, { name: eth1 }]';
    await refused({ interfaces }, 4, /^fairlead: attach program "xdp_agent" to "eth1": E\w+, another XDP program/);
  } finally {
    link.close();
    object.close();
  }
});

test('agent: without privileges, and on a port in use, it ends with one sentence', async () => {
  const nobody = ['setpriv', '--reuid', 'nobody', '--regid', 'nogroup', '--clear-groups', '--inh-caps=-all', '--'];
  await refused({}, 4, /^fairlead: .*(EPERM|EACCES)/, nobody);
  const holder = await startInside(backend, 'echo-server.js', ['holder', '7081', '7082', '10.9.0.10']);
  await refused({}, 1, /^fairlead: listen on "10\.9\.0\.10:7081": .*EADDRINUSE/);
  await stopChild(holder, 1_000);
});

test('agent: a mistake in the configuration is named with its line, and touches nothing', async () => {
  const before = await traces();
  const agent = start({ balancers: '[10.9.0.1/24]', key: '"12"' });
  assert.deepEqual(await agent.ended, { code: 4, signal: null });
  assert.match(
    agent.output(),
    /agent\.yaml:3:\d+: balancers\[0\]: .*write 10\.9\.0\.0\/24\n.*agent\.yaml:4:\d+: key: /,
  );
  assert.deepEqual(await traces(), before);
});

test('agent: a second one is told that another runs, and leaves it alone', async () => {
  const agent = await started();
  const before = await traces();
  const other = start({ metrics: '{ listen: "10.9.0.10:7083" }' });
  assert.equal((await other.ended).code, 1);
  assert.match(other.output(), /^fairlead: lock ".*fairlead-agent": another agent runs with it; stop it first\n/);
  assert.deepEqual(await traces(), before);
  await agent.kill('SIGTERM');
});
