// SPDX-License-Identifier: Apache-2.0
import { availableParallelism } from 'node:os';
import { FairleadError } from '../model/errors.js';

/** One backend of the lab: the namespace it lives in, its name in the pools, the router's port towards it. */
export interface LabBackend {
  readonly namespace: string;
  readonly name: string; // be1, be2, ...; also the router's port
  readonly address4: string;
  readonly address6: string;
}

/** A balancer: its namespace; its name (lb1, lb2), also the router's port towards it. */
export interface LabBalancer {
  readonly namespace: string;
  readonly name: string;
  readonly address4: string;
  readonly address6: string;
}

/** The lab as plain values; nothing here touches the machine. */
export interface Topology {
  readonly name: string;
  readonly client: string;
  readonly router: string;
  /** Towards balancers and backends. */
  readonly routerAddress4: string;
  readonly routerAddress6: string;
  /** The router learns the VIPs by BGP, and has no route of its own to them. */
  readonly bgp: boolean;
  /** Several share the VIPs: the router spreads flows over them (ECMP). */
  readonly balancers: readonly [LabBalancer, ...LabBalancer[]];
  readonly vip4: string;
  readonly vip6: string;
  readonly httpPort: number;
  readonly echoPort: number;
  /** Of a VIP's HTTP service by NAT, and where backends listen for it, on their own addresses. */
  readonly natPort: number;
  readonly natBackendPort: number;
  readonly backends: readonly LabBackend[];
}

/** What one namespace is given, in this order: settings under /proc/sys/net, then lines for `ip -batch`. */
export interface NamespaceSetup {
  readonly namespace: string;
  readonly settings: readonly string[]; // 'ipv4/ip_forward=1'
  readonly batch: readonly string[];
}

/** The interface every namespace but the router's has. */
export const labInterface = 'eth0';

/** MTU of every link, as on most networks: a client's full packet does not fit the tunnel, and the balancer has to say so. */
export const labMtu = 1500;

/**
 * Plans the lab `name` with `backendCount` (1..64) backends and `balancerCount` (1 or 2) balancers. Throws 'invalid' on a name that is no short identifier
 * (it prefixes namespace names) or a count out of range.
 */
export function planTopology(name: string, backendCount: number, balancerCount = 1, bgp = false): Topology {
  checkLabName(name);
  if (!Number.isInteger(backendCount) || backendCount < 1 || backendCount > 64)
    throw new FairleadError('invalid', `lab: got ${backendCount} backends, want 1 to 64`);
  if (balancerCount !== 1 && balancerCount !== 2)
    throw new FairleadError('invalid', `lab: got ${balancerCount} balancers, want 1 or 2`);
  const balancer = (number: number): LabBalancer => ({
    namespace: `${name}-lb${number}`,
    name: `lb${number}`,
    address4: `10.9.0.${9 + number}`,
    address6: `fd00:9::${9 + number}`, // the same digits as in IPv4, for the reader
  });
  return {
    name,
    client: `${name}-client`,
    router: `${name}-router`,
    routerAddress4: '10.9.0.1',
    routerAddress6: 'fd00:9::1',
    bgp,
    balancers: balancerCount === 1 ? [balancer(1)] : [balancer(1), balancer(2)],
    vip4: '192.0.2.10',
    vip6: '2001:db8::10',
    httpPort: 80,
    echoPort: 5300,
    natPort: 8000,
    natBackendPort: 8080,
    backends: Array.from({ length: backendCount }, (_, index) => ({
      namespace: `${name}-be${index + 1}`,
      name: `be${index + 1}`,
      address4: `10.9.0.${21 + index}`,
      address6: `fd00:9::${21 + index}`,
    })),
  };
}

/** Throws 'invalid' unless `name` may name a lab: it becomes part of namespace names and of paths. */
export function checkLabName(name: string): void {
  if (!/^[a-z][a-z0-9-]{0,15}$/.test(name))
    throw new FairleadError('invalid', `lab: name "${name}": want 1 to 16 of a-z, 0-9 and -, a letter first`);
}

/** Whether a namespace belongs to the lab `name`, whatever its number of backends. */
export function isLabNamespace(name: string, namespace: string): boolean {
  return namespace.startsWith(`${name}-`) && /^(client|router|lb\d+|be\d+)$/.test(namespace.slice(name.length + 1));
}

/** All namespaces of the lab. */
export function namespacesOf(topology: Topology): readonly string[] {
  const others = [...topology.balancers, ...topology.backends].map(({ namespace }) => namespace);
  return [topology.client, topology.router, ...others];
}

/** Queues of the balancer's interface: one per CPU, as a NIC has them. */
export function lbQueues(): number {
  return Math.min(32, availableParallelism()); // 32: one word of a CPU mask
}

/** Lines for `ip -batch` inside the router's namespace that make every link of the lab. */
export function linkBatch(topology: Topology): readonly string[] {
  const port = (name: string, namespace: string, queues = 1) => {
    const common = `mtu ${labMtu} numtxqueues ${queues} numrxqueues ${queues}`;
    return `link add ${name} ${common} type veth peer name ${labInterface} ${common} netns ${namespace}`;
  };
  return [
    `link add br0 mtu ${labMtu} type bridge`,
    port('client', topology.client),
    ...topology.balancers.map(({ name, namespace }) => port(name, namespace, lbQueues())),
    ...topology.backends.map((backend) => port(backend.name, backend.namespace)),
  ];
}

/** Lines for `ip -batch` in the router's namespace: the VIPs by way of these balancers, in place of those before. */
export function vipRoutes({ vip4, vip6 }: Topology, balancers: readonly LabBalancer[]): readonly string[] {
  const via = (address: 'address4' | 'address6') =>
    balancers.length === 1
      ? `via ${balancers[0]?.[address]}`
      : balancers.map((each) => `nexthop via ${each[address]} dev br0`).join(' ');
  return [`route replace ${vip4}/32 ${via('address4')}`, `route replace ${vip6}/128 ${via('address6')}`];
}

/** What each namespace is given once the links are there. */
export function namespaceSetups(topology: Topology): readonly NamespaceSetup[] {
  const { vip4, vip6, balancers } = topology;
  const underlayHost = (address4: string, address6: string) => [
    'link set lo up',
    `address add ${address4}/24 dev ${labInterface}`,
    `address add ${address6}/64 dev ${labInterface} nodad`,
    `link set ${labInterface} up`,
    `route add default via ${topology.routerAddress4} dev ${labInterface}`,
    `route add default via ${topology.routerAddress6} dev ${labInterface}`,
  ];
  const router: NamespaceSetup = {
    namespace: topology.router,
    settings: [
      ...hostSettings(['client', 'br0']),
      ...['ipv4/ip_forward=1', 'ipv6/conf/all/forwarding=1'],
      // By ports too, as routers do: else a client has one balancer.
      ...['ipv4/fib_multipath_hash_policy=1', 'ipv6/fib_multipath_hash_policy=1'],
    ],
    batch: [
      'link set lo up',
      'address add 10.1.0.1/24 dev client',
      'address add fd00:1::1/64 dev client nodad',
      'link set client up',
      ...[...balancers, ...topology.backends].flatMap(({ name: port }) => [
        `link set ${port} addrgenmode none`,
        `link set ${port} master br0`,
        `link set ${port} up`,
      ]),
      `address add ${topology.routerAddress4}/24 dev br0`,
      `address add ${topology.routerAddress6}/64 dev br0 nodad`,
      'link set br0 up',
      ...(topology.bgp ? [] : vipRoutes(topology, balancers)),
    ],
  };
  const client: NamespaceSetup = {
    namespace: topology.client,
    // The router would go by a hash that a socket brings along, and changes after a timeout; a router of metal goes by what is in the packet.
    settings: [...hostSettings([labInterface]), 'core/txrehash=0'],
    batch: [
      'link set lo up',
      `address add 10.1.0.2/24 dev ${labInterface}`,
      `address add fd00:1::2/64 dev ${labInterface} nodad`,
      `link set ${labInterface} up`,
      'route add default via 10.1.0.1',
      'route add default via fd00:1::1',
    ],
  };
  const lbs = balancers.map(
    ({ namespace, address4, address6 }): NamespaceSetup => ({
      namespace,
      // A balancer that has nothing attached must not send packets for a VIP back to the router.
      settings: [...hostSettings([labInterface]), 'ipv4/ip_forward=0'],
      batch: underlayHost(address4, address6),
    }),
  );
  const backends = topology.backends.map((backend) => ({
    namespace: backend.namespace,
    // The VIP is on every backend: none may answer ARP for it.
    settings: [...hostSettings([labInterface]), 'ipv4/conf/all/arp_ignore=1', 'ipv4/conf/all/arp_announce=2'],
    batch: [
      ...underlayHost(backend.address4, backend.address6),
      `address add ${vip4}/32 dev lo`,
      `address add ${vip6}/128 dev lo nodad`,
    ],
  }));
  return [router, client, ...lbs, ...backends];
}

/** Settings of every namespace; the kernel combines `all` with the interface's own, so both are set. */
function hostSettings(interfaces: readonly string[]): readonly string[] {
  return ['all', ...interfaces].flatMap((name) => [
    `ipv4/conf/${name}/rp_filter=0`,
    `ipv4/conf/${name}/send_redirects=0`,
    `ipv6/conf/${name}/accept_dad=0`,
  ]);
}
