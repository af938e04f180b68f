// SPDX-License-Identifier: Apache-2.0
// Three network namespaces in a row, client - node - backends, for the bench of NAT; and what may stand in the node: nothing of
// ours but nftables, or xdp_lb and tc_nat.
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { type NativeLink, type NativeProgram, native } from '../src/dataplane/native.js';
import type { NatPath } from '../test/support/nat-path.js';
import { BACKENDS, HTTP_PORT, SOURCES, STREAM_PORT, VIP } from './nat-path.js';

const RUN = '/run/netns';
const NODE_MAC = '02:00:00:00:00:01'; // where frames of packet() go to, and SOURCE_MAC
const CLIENT_MAC = '02:00:00:00:00:02';
const BACKEND_MAC = '02:00:00:00:00:09'; // NEXT_HOP_MAC

export interface World {
  readonly client: string;
  readonly node: string;
  readonly backend: string;
}

/** Named after the process that answers for them. */
export const worldOf = (pid: number): World => ({ client: `fnbc${pid}`, node: `fnbn${pid}`, backend: `fnbb${pid}` });

export function within(name: string, command: string, args: readonly string[], input = ''): string {
  return execFileSync('ip', ['netns', 'exec', name, command, ...args], { encoding: 'utf8', input, timeout: 60_000 });
}

export function makeWorld({ client, node, backend }: World): void {
  const ip = (line: string): void => void execFileSync('ip', line.split(' '));
  for (const name of [client, node, backend]) {
    ip(`netns add ${name}`);
    ip(`-n ${name} link set lo up`);
  }
  ip(`-n ${client} link add c0 address ${CLIENT_MAC} type veth peer name n0 address ${NODE_MAC} netns ${node}`);
  ip(`-n ${backend} link add b0 address ${BACKEND_MAC} type veth peer name n1 address ${NODE_MAC} netns ${node}`);
  for (const [name, device] of [
    [client, 'c0'],
    [node, 'n0'],
    [node, 'n1'],
    [backend, 'b0'],
  ] as const) {
    ip(`-n ${name} link set ${device} addrgenmode none up`);
    // With GRO a veth polls as a NIC does; without, frames of XDP_TX would not get in.
    within(name, 'ethtool', ['-K', device, 'gro', 'on']);
  }
  ip(`-n ${client} address add 10.1.0.2/16 dev c0`);
  ip(`-n ${node} address add 10.1.0.1/16 dev n0`);
  ip(`-n ${node} address add 10.9.0.1/24 dev n1`);
  ip(`-n ${client} route add default via 10.1.0.1`);
  for (const address of BACKENDS) {
    ip(`-n ${backend} address add ${address}/24 dev b0`);
    ip(`-n ${node} neighbour add ${address} lladdr ${BACKEND_MAC} dev n1`); // the sink answers no ARP
  }
  ip(`-n ${backend} route add default via 10.9.0.1`);
  within(node, 'sysctl', ['-qw', 'net.ipv4.ip_forward=1', 'net.ipv4.conf.all.rp_filter=0']);
  // A translated port may come again before a minute is over.
  within(backend, 'sysctl', ['-qw', 'net.ipv4.tcp_max_tw_buckets=0']);
}

/** Ends what runs in the namespaces, and the namespaces. */
export function endWorld(world: World): void {
  for (const name of Object.values(world)) {
    if (!existsSync(`${RUN}/${name}`)) continue;
    for (const pid of execFileSync('ip', ['netns', 'pids', name], { encoding: 'utf8' }).split('\n').filter(Boolean)) {
      try {
        process.kill(Number(pid), 'SIGKILL');
      } catch {
        // it has ended by itself
      }
    }
    execFileSync('ip', ['netns', 'delete', name]);
  }
}

/** Namespaces of earlier runs whose process is gone. */
export function endOldWorlds(): void {
  const names = existsSync(RUN) ? readdirSync(RUN) : [];
  for (const pid of new Set(names.map((name) => /^fnb[cnb](\d+)$/.exec(name)?.[1])))
    if (pid !== undefined && !existsSync(`/proc/${pid}`)) endWorld(worldOf(Number(pid)));
}

export const MODES = ['ours', 'nftables'] as const;
export type Mode = (typeof MODES)[number];

function ruleset(): string {
  const map = BACKENDS.map((address, at) => `${at} : ${address}`).join(', ');
  const rules = [
    ['tcp', HTTP_PORT],
    ['udp', HTTP_PORT],
    ['tcp', STREAM_PORT],
  ]
    .map(
      ([protocol, port]) =>
        `ip daddr ${VIP} ${protocol} dport ${port} dnat to jhash ip saddr . ${protocol} sport mod ${BACKENDS.length} map { ${map} }`,
    )
    .join('\n');
  return `table ip fnb {
    chain requests { type nat hook prerouting priority dstnat; ${rules}
    }
    chain sources { type nat hook postrouting priority srcnat; oifname n1 snat to ${SOURCES[0]}-${SOURCES.at(-1)}
    }
  }`;
}

/**
 * Has the node do its work this way; the result ends that. `xdp`: with xdp_lb, or for nftables a program that passes everything,
 * on both interfaces in native mode; without, tc_nat or nftables alone.
 */
export async function standIn(
  mode: Mode,
  xdp: boolean,
  { node }: World,
  { path, pass }: { path: NatPath; pass: NativeProgram },
): Promise<() => void> {
  const links: NativeLink[] = [];
  for (const device of ['n0', 'n1']) {
    if (xdp)
      links.push(await native.attachXdp(mode === 'ours' ? path.program : pass, device, `${RUN}/${node}`, 'native'));
    if (mode === 'ours') links.push(await native.attachTcx(path.translator, device, `${RUN}/${node}`, 'ingress'));
  }
  if (mode === 'nftables') within(node, 'nft', ['-f', '-'], ruleset());
  return () => {
    if (mode === 'nftables') within(node, 'nft', ['flush', 'ruleset']);
    for (const link of links) link.close();
  };
}
