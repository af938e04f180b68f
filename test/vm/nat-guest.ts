// SPDX-License-Identifier: Apache-2.0
// Runs inside the machine of clsact.test.ts: a balancer with its packet path, a client and a backend in namespaces. Says on stdout,
// one line each, what happened.
import { execFile, execFileSync, spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { promisify } from 'node:util';
import { addressField, serviceKey, vipMarker } from '../../src/controlplane/kernel-state.js';
import { BackendFlag, ServiceFlag } from '../../src/dataplane/abi.gen.js';
import { type Dataplane, type DataplaneConfig, detachAll, openDataplane } from '../../src/dataplane/dataplane.js';
import type { Maps } from '../../src/dataplane/maps.js';
import { type NatTables, openNat, writeNatService, writePool } from '../../src/dataplane/nat.js';
import { MapShape, NatLimit } from '../../src/dataplane/nat-abi.gen.js';
import { native } from '../../src/dataplane/native.js';
import { objectPath } from '../../src/dataplane/program.js';
import { writeService, writeVipFilter } from '../../src/dataplane/services.js';
import { ROW_WORDS, writeBackend, writeRingRef, writeRingRows } from '../../src/dataplane/tables.js';
import { parseAddress } from '../../src/model/address.js';
import { writePrefix } from '../../src/model/prefix.js';

const say = (line: string): void => void process.stdout.write(`guest ${line}\n`);
const sh = (command: string): string => execFileSync('/bin/sh', ['-c', command], { encoding: 'utf8' });
const VIP = '192.0.2.10';
const BACKEND = '10.9.0.21';
const LEAVING = '10.9.0.50';
const BPFFS = '/run/bpf';
const FOREIGN = 7; // handle of a filter that is not ours

const config: DataplaneConfig = {
  interfaces: [{ name: 'cl', xdp: 'auto' }],
  bpffs: BPFFS,
  flowsPerCpu: 1024,
  newFlowsPerSecond: 65_536,
  ringKey: new Uint8Array(16),
  tunnelSource: parseAddress('10.9.0.1').bytes,
  tunnelSource6: new Uint8Array(16),
  tunnelMtu: 1500,
  features: ServiceFlag.NAT,
  nat: {
    connections: 1024,
    timeouts: { tcpNew: 60, tcpEstablished: 60, tcpClosing: 60, tcpClosed: 10, udpNew: 30, udpEstablished: 30 },
    prefix: parseAddress('64:ff9b::').bytes.subarray(0, 12),
    egress: ['be'],
  },
};
const MAC = {
  cl: '02:00:00:00:01:01',
  client: '02:00:00:00:01:02',
  be: '02:00:00:00:02:01',
  backend: '02:00:00:00:02:02',
};
const macOf = (text: string): Uint8Array => Buffer.from(text.replaceAll(':', ''), 'hex');

/** Few processes: each takes a second here. */
function network(): void {
  sh('mkdir -p /run && mount -t tmpfs run /run && mkdir /run/netns && ip netns add client && ip netns add backend');
  const batch = [
    `link add cl address ${MAC.cl} type veth peer name eth0 address ${MAC.client} netns client`,
    `link add be address ${MAC.be} type veth peer name eth0 address ${MAC.backend} netns backend`,
    ...['address add 10.1.0.1/24 dev cl', 'address add 10.9.0.1/24 dev be', `address add ${LEAVING}/32 dev be`],
    ...['link set lo up', 'link set cl up', 'link set be up'],
  ];
  const host = (address: string, gateway: string): string[] => [
    `address add ${address}/24 dev eth0`,
    'link set eth0 up',
    `route add default via ${gateway}`,
  ];
  for (const [options, lines] of [
    ['', batch],
    ['-n client', host('10.1.0.2', '10.1.0.1')],
    ['-n backend', host(BACKEND, '10.9.0.1')],
  ] as const)
    execFileSync('/bin/sh', ['-c', `ip ${options} -batch -`], { input: `${lines.join('\n')}\n` });
  writeFileSync('/proc/sys/net/ipv4/ip_forward', '1');
}

/** What the reconciler would write: one backend, the service before it, and what leaves. */
function fill({ maps }: Dataplane, tables: NatTables): void {
  writeBackend(maps, 1, {
    ...{ address: addressField(BACKEND), nextHopMac: macOf(MAC.backend), sourceMac: macOf(MAC.be) },
    ...{ flags: BackendFlag.VALID, slot: 1, interface: native.interfaceIndex('be'), pool: 1, mtu: 1500 },
    ...{ tagCount: 0, tag: new Uint8Array(8), port: 8080 },
  });
  const rows = new Uint16Array(251 * ROW_WORDS).fill(1);
  writeRingRows(maps, 0, rows);
  writeRingRef(maps, 1, { start: 0, rows: 251, generation: 1 });
  for (const [number, address] of ['10.9.0.1', LEAVING].entries())
    writePool(tables, number + 1, {
      start: config.nat.connections + number * 65536,
      size: 65536,
      address: [addressField(address)],
    });
  const mss = NatLimit.MSS_AUTO;
  writeNatService(tables, 1, { address: addressField(VIP), pool: 1, mss, poolOther: 0, gone: 0 });
  const key = serviceKey({ address: VIP, port: 80, protocol: 'tcp' });
  writeService(maps, vipMarker(key), { number: 0, pool: 0, countersStart: 0, flags: 0 });
  writeService(maps, key, { number: 1, pool: 1, countersStart: 8, flags: ServiceFlag.NAT });
  writeVipFilter(maps, [key]);
  const prefix = new Uint8Array(MapShape.nat_egress4.keySize);
  new Uint32Array(prefix.buffer, 0, 1)[0] = writePrefix('10.1.0.0/24', prefix, 4);
  tables.handle.nat_egress4.set(prefix, new Uint8Array(Uint32Array.of(2).buffer), 0);
}

/** Answers with who asks. */
async function serve(): Promise<() => void> {
  const child = spawn('ip', ['netns', 'exec', 'backend', 'talk', 'serve', '8080', '100000'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await new Promise((resolve) => child.stdout.once('data', resolve));
  return () => void child.kill();
}

/** A connection from the client: who the backend says asked, and how many bytes came. */
async function ask(address: string, port: number): Promise<string> {
  const { stdout } = await promisify(execFile)('ip', ['netns', 'exec', 'client', 'talk', 'ask', address, `${port}`]);
  return stdout.trim();
}

const idsNow = (): string =>
  (
    [
      ['cl', 'ingress'],
      ['be', 'ingress'],
      ['be', 'egress'],
    ] as const
  )
    .map(([name, direction]) => native.clsactProgram(native.interfaceIndex(name), direction, 0xfa1))
    .map((program) => {
      const text = program ? `${program.name}:${program.id}` : '-';
      program?.close();
      return text;
    })
    .join(' ');

/** As the next daemon does. */
async function again(maps: Maps, prefix: string): Promise<void> {
  const nat = { ...config.nat, prefix: parseAddress(prefix).bytes.subarray(0, 12) };
  (await openNat(nat, config, maps, [])).close();
}

network();
const stop = await serve();
const object = native.openObject(objectPath('tc_nat'));
await object.load();
const foreign = object.program('tc_nat_out'); // apart from ours: with empty tables it leaves packets alone
const cl = native.interfaceIndex('cl');
native.attachClsact(foreign, cl, 'egress', FOREIGN, false);
const dataplane = await openDataplane(config);
const tables = await dataplane.setFeatures(ServiceFlag.NAT);
if (tables === null) throw new Error('no NAT');
fill(dataplane, tables);
say(`modes ${tables.programs.map((each) => `${each.interface}/${each.program}/${each.mode}`).join(' ')}`);
const first = idsNow();
say(`filters ${first.replaceAll(/:\d+/g, '')}`);
say(`service ${await ask(VIP, 80)}`);
say(`egress ${await ask(BACKEND, 8080)}`);
await again(dataplane.maps, '64:ff9b::');
say(`adopted ${idsNow() === first}`);
await again(dataplane.maps, '64:ff9c::');
const now = idsNow().split(' ');
say(`replaced ${first.split(' ').every((each, at) => each !== now[at])}`);
say(`after ${await ask(VIP, 80)}`);
dataplane.close();
say(`without ${await ask(VIP, 80)}`);
say(
  `detached ${detachAll(BPFFS)
    .filter((line) => line.startsWith('program'))
    .sort()
    .join(', ')}`,
);
say(`left ${idsNow()} ${native.clsactProgram(cl, 'egress', FOREIGN)?.name}`);
say(`empty ${native.removeClsact(native.interfaceIndex('be'))} ${native.removeClsact(cl)}`);
stop();
process.exit(0);
