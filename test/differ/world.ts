// SPDX-License-Identifier: Apache-2.0
// Three namespaces in a row, client - node - backends, whose ends are nothing but wires; in the node either Fairlead or nftables.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { type NativeLink, native } from '../../src/dataplane/native.js';
import { objectPath } from '../../src/dataplane/program.js';
import { apiAt } from '../../src/lab/api.js';
import { kill, namespacePath, processesIn, run, unmount } from '../../src/lab/netns.js';
import { startServe, untilReady } from '../support/serve.js';
import { compileWire, openWire, type Wire } from './wire.js';

export const WORLDS = ['fairlead', 'nftables'] as const;
export type WorldName = (typeof WORLDS)[number];
/** Ends of the row. */
export const SIDES = ['client', 'backend'] as const;
export type Side = (typeof SIDES)[number];
export type Family = 4 | 6;

export const VIP = { 4: '192.0.2.10', 6: '2001:db8::10' } as const;
export const BACKENDS = { 4: ['10.9.0.21', '10.9.0.22'], 6: ['fd00:9::21', 'fd00:9::22'] } as const;
export const BACKEND_PORT = 9000;
/** Services by what becomes of the client's address. */
export const SERVICE_PORT = { none: 8001, auto: 8002, pool: 8003 } as const;
export type Snat = keyof typeof SERVICE_PORT;
export const NODE = { 4: '10.9.0.1', 6: 'fd00:9::1' } as const;
export const POOL = { 4: ['10.9.0.98', '10.9.0.99'], 6: ['fd00:9::98', 'fd00:9::99'] } as const;
/** Hosts behind the node whose sources are translated on their way out, and to what. */
export const PRIVATE = { 4: '10.20.0.0/16', 6: 'fd20::/64' } as const;
export const EGRESS = { 4: ['192.0.2.200', '192.0.2.201'], 6: ['2001:db8::200', '2001:db8::201'] } as const;
/** Routers on either side, which send ICMP errors. */
export const ROUTER = {
  client: { 4: '10.1.0.77', 6: 'fd00:1::77' },
  backend: { 4: '10.9.0.77', 6: 'fd00:9::77' },
} as const;

const MAC = { node: '020000000001', client: '020000000002', backend: '020000000009' };
const colons = (mac: string): string => mac.replace(/..(?=.)/g, '$&:');
/** The Ethernet addresses of a frame that this side sends. */
export const macsOf = (side: Side): Buffer => Buffer.from(MAC.node + MAC[side], 'hex');

export interface World {
  readonly name: WorldName;
  readonly wire: Readonly<Record<Side, Wire>>;
  close(): Promise<void>;
}

const SETTINGS = [
  ...['net.ipv4.ip_forward=1', 'net.ipv6.conf.all.forwarding=1', 'net.ipv4.icmp_ratelimit=0'],
  ...['net.ipv4.conf.all.rp_filter=0', 'net.ipv4.conf.default.rp_filter=0', 'net.ipv6.conf.default.accept_dad=0'],
  ...['net.ipv4.conf.all.send_redirects=0', 'net.ipv4.conf.default.send_redirects=0'],
];
// What has begun elsewhere is nobody's, windows and wrong checksums are the ends' business: as with us.
const TRACKING = ['nf_conntrack_tcp_loose=0', 'nf_conntrack_tcp_be_liberal=1', 'nf_conntrack_checksum=0'];

const services = (family: Family) => Object.entries(SERVICE_PORT).map(([snat, port]) => ({ snat, port, family }));

function rules(): string {
  const both = (line: (family: Family, ip: string) => string): string =>
    ([4, 6] as const).map((family) => line(family, family === 4 ? 'ip' : 'ip6')).join('\n');
  const range = (list: readonly string[]): string => `${list[0]}-${list.at(-1)}`;
  const backends = (family: Family): string =>
    BACKENDS[family].map((address, at) => `${at} : ${address} . ${BACKEND_PORT}`).join(', ');
  return `table inet nc {
    chain requests { type nat hook prerouting priority dstnat;
    ${both((family, ip) => `${ip} daddr ${VIP[family]} meta l4proto { tcp, udp } th dport 8001-8003 dnat ${ip} addr . port to numgen random mod 2 map { ${backends(family)} }`)}
    }
    chain sources { type nat hook postrouting priority srcnat;
    ${both((family, ip) => `meta l4proto { tcp, udp } ct original ${ip} daddr ${VIP[family]} ct original proto-dst ${SERVICE_PORT.auto} snat ${ip} to ${NODE[family]}`)}
    ${both((family, ip) => `meta l4proto { tcp, udp } ct original ${ip} daddr ${VIP[family]} ct original proto-dst ${SERVICE_PORT.pool} snat ${ip} to ${range(POOL[family])}`)}
    ${both((family, ip) => `oifname n0 ${ip} saddr ${PRIVATE[family]} snat ${ip} to ${range(EGRESS[family])}`)}
    }
    chain passing { type filter hook forward priority filter;
    ct state invalid ip saddr ${PRIVATE[4]} drop
    ct state invalid ip6 saddr ${PRIVATE[6]} drop
    }
    chain own { type filter hook input priority filter;
    ip daddr ${VIP[4]} icmp type != echo-request drop
    ip daddr ${VIP[4]} meta l4proto != icmp drop
    ip6 daddr ${VIP[6]} icmpv6 type != echo-request drop
    ip6 daddr ${VIP[6]} meta l4proto != icmpv6 drop
    }
  }`;
}

/** `prefix` begins the namespaces' names. `gro`: whether the node's interfaces may make super-packets. */
export async function openWorld(name: WorldName, prefix: string, gro: boolean): Promise<World> {
  const [client, node, backend] = ['c', 'n', 'b'].map((letter) => `${prefix}${name.charAt(0)}${letter}`) as [
    string,
    string,
    string,
  ];
  const directory = mkdtempSync(`/run/${prefix}${name.charAt(0)}-`);
  const undo: (() => unknown)[] = [() => rmSync(directory, { recursive: true })];
  const close = async (): Promise<void> => {
    for (let step = undo.pop(); step; step = undo.pop()) await step();
  };
  const inside = (namespace: string, ...command: readonly string[]): Promise<string> =>
    run('nsenter', [`--net=${namespacePath(namespace)}`, ...command]);
  try {
    for (const namespace of [client, node, backend]) {
      await run('ip', ['netns', 'add', namespace]);
      undo.push(() => run('ip', ['netns', 'delete', namespace]));
    }
    undo.push(() => {
      for (const pid of processesIn([client, node, backend])) kill(pid, 'SIGKILL');
    });
    await inside(node, 'sysctl', '-qw', ...SETTINGS);
    const link = (namespace: string, own: string, device: string, mac: string): string =>
      `link add ${device} address ${colons(MAC.node)} type veth peer name ${own} address ${colons(mac)} netns ${namespace}`;
    await run(
      'ip',
      ['-n', node, '-batch', '-'],
      [
        link(client, 'c0', 'n0', MAC.client),
        link(backend, 'b0', 'n1', MAC.backend),
        ...['lo', 'n0', 'n1'].map((device) => `link set ${device} addrgenmode none up`),
        'address add 10.1.0.1/24 dev n0',
        'address add fd00:1::1/64 dev n0 nodad',
        `address add ${NODE[4]}/24 dev n1`,
        `address add ${NODE[6]}/64 dev n1 nodad`,
        ...['10.1.0.254', 'fd00:1::fe'].map(
          (at) => `neighbour add ${at} lladdr ${colons(MAC.client)} dev n0 nud permanent`,
        ),
        ...[...BACKENDS[4], ...BACKENDS[6], '10.9.0.254', 'fd00:9::fe', ROUTER.backend[4], ROUTER.backend[6]].map(
          (at) => `neighbour add ${at} lladdr ${colons(MAC.backend)} dev n1 nud permanent`,
        ),
        'route add default via 10.1.0.254',
        'route add default via fd00:1::fe',
        ...['10.20.0.0/15 via 10.9.0.254', 'fd20::/15 via fd00:9::fe'].map((way) => `route add ${way}`),
        ...(name === 'fairlead'
          ? [`route add blackhole ${VIP[4]}`, `route add blackhole ${VIP[6]}`]
          : [`address add ${VIP[4]}/32 dev lo`, `address add ${VIP[6]}/128 dev lo nodad`]),
      ].join('\n'),
    );
    const pass = native.openObject(objectPath('xdp_pass'));
    await pass.load();
    undo.push(() => pass.close());
    const attach = async (namespace: string, device: string): Promise<void> => {
      await inside(namespace, 'ip', 'link', 'set', device, 'addrgenmode', 'none', 'up');
      const link: NativeLink = await native.attachXdp(
        pass.program('xdp_pass'),
        device,
        namespacePath(namespace),
        'native',
      );
      undo.push(() => link.close());
    };
    await attach(client, 'c0');
    await attach(backend, 'b0');
    if (name === 'nftables') {
      await attach(node, 'n0');
      await attach(node, 'n1');
      await run('nsenter', [`--net=${namespacePath(node)}`, 'nft', '-f', '-'], rules());
      await inside(node, 'sysctl', '-qw', ...TRACKING.map((setting) => `net.netfilter.${setting}`));
    } else undo.push(await startFairlead(node, directory));
    const offloads = ['tx', 'off', 'tso', 'off', 'gso', 'off', 'gro'];
    for (const [namespace, device] of [
      [client, 'c0'],
      [backend, 'b0'],
    ] as const)
      await inside(namespace, 'ethtool', '-K', device, ...offloads, 'off');
    for (const device of ['n0', 'n1']) await inside(node, 'ethtool', '-K', device, ...offloads, gro ? 'on' : 'off');
    const program = compileWire(directory);
    const wire = { client: await openWire(program, client, 'c0'), backend: await openWire(program, backend, 'b0') };
    undo.push(() => Promise.all([wire.client.close(), wire.backend.close()]));
    return { name, wire, close };
  } catch (error) {
    await close();
    throw error;
  }
}

async function startFairlead(node: string, directory: string): Promise<() => Promise<void>> {
  const egress = ([4, 6] as const).map(
    (family) => `    - { from: ["${PRIVATE[family]}"], interface: n0, to: ["${EGRESS[family].join('", "')}"] }\n`,
  );
  const socket = `${directory}/api.sock`;
  writeFileSync(
    `${directory}/config.yaml`,
    `node: nc
interfaces: [{ name: n0, xdp: native }, { name: n1, xdp: native }]
store: { type: file, path: ${directory}/state.json }
api: { socket: ${socket} }
tunnel: { source: ${NODE[4]}, source6: "${NODE[6]}", mtu: 1500 }
bpffs: ${directory}/bpf
nat:
  connections: 65536
  egress:
${egress.join('')}`,
  );
  const serve = startServe(node, `${directory}/config.yaml`);
  const end = async (): Promise<void> => {
    await serve.kill('SIGKILL');
    await unmount(`${directory}/bpf`);
  };
  try {
    await untilReady(serve, socket);
    const api = apiAt(socket);
    for (const family of [4, 6] as const) {
      const backends = BACKENDS[family].map((address, at) => ({ name: `be${at}`, address, port: BACKEND_PORT }));
      await api('PUT', `/api/v1/pools/pool${family}?wait=applied`, { backends });
      for (const { snat, port } of services(family))
        for (const protocol of ['tcp', 'udp'])
          await api('PUT', `/api/v1/services/${snat}${protocol}${family}?wait=applied`, {
            ...{ address: VIP[family], port, protocol, pool: `pool${family}`, forwarding: 'nat' },
            snat: snat === 'pool' ? POOL[family] : snat,
          });
    }
  } catch (error) {
    await end();
    throw error;
  }
  return end;
}
