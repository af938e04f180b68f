// SPDX-License-Identifier: Apache-2.0
// A balancer's namespace and a backend's, with one link, and `fairlead agent` on the backend.
import assert from 'node:assert/strict';
import { chmodSync, existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { native } from '../../src/dataplane/native.js';
import { destroyNamespaces, namespacePath, run, unmount } from '../../src/lab/netns.js';
import { until } from './lab.js';
import { mainFile, type Serve, startServe } from './serve.js';

export const VIP = '198.51.100.1';
export const VIP6 = '2001:db8:99::1';
export const STRANGE_VIP = '198.51.100.2'; // leads through a tunnel that no balancer has
export const KEY = Buffer.from('00112233445566778899aabbccddeeff', 'hex');

/** The keys of the agent's configuration, as YAML. */
export const whole = {
  interfaces: '[{ name: eth0 }]',
  balancers: '[10.9.0.1, "fd00:9::1"]',
  key: `"${KEY.toString('hex')}"`,
  vips: `[${VIP}, ${STRANGE_VIP}, "${VIP6}"]`,
  metrics: '{ listen: "10.9.0.10:7081" }',
};

/** What of the agent is on the backend. */
export interface Traces {
  readonly xdp: readonly string[]; // interface and program
  readonly tc: readonly string[]; // pin and program
  readonly addresses: readonly string[]; // on lo
  readonly pins: readonly string[];
}

export interface AgentNode {
  readonly balancer: string; // namespaces; the clients live in the balancer's
  readonly backend: string;
  readonly root: string; // of the agent's pins
  /** Starts the agent with this configuration, `whole` where it says nothing; `prefix` is what to run it under. */
  start(changes?: Partial<typeof whole>, prefix?: readonly string[]): Serve;
  /** The same, when it is ready. */
  started(changes?: Partial<typeof whole>): Promise<Serve>;
  /** Runs `fairlead detach`; what it said. */
  detach(): Promise<string>;
  /** An answer of the agent's listener. */
  scrape(path?: string): Promise<{ readonly status: number; readonly text: string }>;
  /** Packets by result, those that were none left out. */
  results(): Promise<Record<string, number>>;
  traces(): Promise<Traces>;
  /** Back to nothing, after each test. */
  reset(): Promise<void>;
  close(): Promise<void>;
}

/** `lab` is the prefix of the namespaces. */
export async function openAgentNode(lab: string): Promise<AgentNode> {
  const balancer = `${lab}-lb1`;
  const backend = `${lab}-be1`;
  await destroyNamespaces(lab); // of a run that was killed
  const directory = mkdtempSync(`${tmpdir()}/${lab}-`);
  const root = `${directory}/bpf/fairlead-agent`;
  const running = new Set<Serve>();
  chmodSync(directory, 0o755);
  await link(balancer, backend);

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

  async function scrape(path = '/metrics'): Promise<{ status: number; text: string }> {
    const script = `fetch('http://10.9.0.10:7081${path}').then(async (r) => process.stdout.write(JSON.stringify({ status: r.status, text: await r.text() })))`;
    return JSON.parse(await run('nsenter', [`--net=${namespacePath(backend)}`, process.execPath, '-e', script]));
  }

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

  async function traces(): Promise<Traces> {
    const json = async (...args: string[]) => JSON.parse(await run('ip', ['-n', backend, '-j', ...args]));
    const links: { ifname: string; xdp?: { prog: { id: number } } }[] = await json('link', 'show');
    const [lo]: { addr_info: { local: string; prefixlen: number }[] }[] = await json('address', 'show', 'lo');
    const pins = existsSync(root) ? readdirSync(root, { recursive: true, withFileTypes: true }) : [];
    return {
      xdp: links.flatMap(({ ifname, xdp }) => (xdp ? [`${ifname} ${xdp.prog.id}`] : [])),
      tc: tcLinks().map((pin) => `${pin} ${heldBy(pin)}`),
      addresses: lo?.addr_info.map(({ local, prefixlen }) => `${local}/${prefixlen}`) ?? [],
      pins: pins.filter((entry) => !entry.isDirectory()).map((entry) => entry.name),
    };
  }

  return {
    balancer,
    backend,
    root,
    start,
    started,
    detach,
    scrape,
    results,
    traces,
    async reset() {
      for (const agent of running) await agent.kill('SIGKILL'); // of a test that failed
      await detach();
    },
    async close() {
      await destroyNamespaces(lab);
      await unmount(`${directory}/bpf`);
      rmSync(directory, { recursive: true });
    },
  };
}

async function link(balancer: string, backend: string): Promise<void> {
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
  // What the backend sends on has a source that is the balancer's own.
  const accept = [
    'net.ipv4.conf.eth0.accept_local=1',
    'net.ipv4.conf.all.rp_filter=0',
    'net.ipv4.conf.eth0.rp_filter=0',
  ];
  await run('nsenter', [`--net=${namespacePath(balancer)}`, 'sysctl', ...accept]);
  // Native XDP loses the mark of a checksum left to the hardware.
  for (const name of [balancer, backend])
    await run('nsenter', [`--net=${namespacePath(name)}`, 'ethtool', '-K', 'eth0', 'tx', 'off']);
}
