// SPDX-License-Identifier: Apache-2.0
import type { BackendStatus, ServiceStatus } from '../model/node-view.js';
import type { HealthCheck } from '../model/objects.js';
import type { Api } from './api.js';
import type { Topology } from './topology.js';
import type { Target } from './traffic.js';

/** A service of the lab: where the driver sends, and the pool behind it. */
export interface LabService extends Target {
  readonly pool: string;
  readonly forwarding: 'ipip' | 'nat';
}

/** The pools of the lab: one per family of backend address. */
export const labPools = ['web4', 'web6'] as const;

/** What the API says of a pool's backend. */
export type BackendView = { readonly name: string; readonly status: BackendStatus };

type PoolAnswer = { readonly status: { readonly backends: Readonly<Record<string, BackendStatus>> } };

/** HTTP and UDP echo with direct return, each on the IPv4 and the IPv6 VIP. */
export function labServices(topology: Topology): readonly LabService[] {
  const { vip4, vip6, httpPort, echoPort } = topology;
  return [
    { service: 'http4', protocol: 'http', address: vip4, port: httpPort, pool: 'web4', forwarding: 'ipip' },
    { service: 'http6', protocol: 'http', address: vip6, port: httpPort, pool: 'web6', forwarding: 'ipip' },
    { service: 'echo4', protocol: 'udp', address: vip4, port: echoPort, pool: 'web4', forwarding: 'ipip' },
    { service: 'echo6', protocol: 'udp', address: vip6, port: echoPort, pool: 'web6', forwarding: 'ipip' },
  ];
}

/** HTTP by NAT to the same backends. */
export function natServices({ vip4, vip6, natPort }: Topology): readonly LabService[] {
  return [
    { service: 'nat4', protocol: 'http', address: vip4, port: natPort, pool: 'web4', forwarding: 'nat' },
    { service: 'nat6', protocol: 'http', address: vip6, port: natPort, pool: 'web6', forwarding: 'nat' },
  ];
}

/** All of both. */
export const allServices = (topology: Topology): readonly LabService[] => [
  ...labServices(topology),
  ...natServices(topology),
];

/** How the lab's backends are looked after: by HTTP on addresses of their own. */
export const labHealthCheck = ({ natBackendPort: port }: Topology): Partial<HealthCheck> => ({
  ...{ type: 'http', port, interval: 1, timeout: 0.5, rise: 2, fall: 2 },
});

/** Puts the lab's pools and these services of it into the daemon, and returns when the kernel has them. */
export async function putObjects(
  api: Api,
  topology: Topology,
  services: readonly LabService[] = labServices(topology),
  healthCheck?: Partial<HealthCheck>,
): Promise<void> {
  const port = services.some(({ forwarding }) => forwarding === 'nat') ? topology.natBackendPort : undefined;
  for (const pool of labPools) {
    const backends = topology.backends.map(({ name, address4, address6 }) => ({
      name,
      address: pool === 'web4' ? address4 : address6,
      port,
      weight: 100,
      state: 'active',
    }));
    await api('PUT', `/api/v1/pools/${pool}?wait=applied`, { backends, healthCheck });
  }
  for (const { service, protocol, address, port, pool, forwarding } of services)
    await api('PUT', `/api/v1/services/${service}?wait=applied`, {
      address,
      port,
      protocol: protocol === 'http' ? 'tcp' : 'udp',
      pool,
      forwarding,
    });
}

/** The backends of every pool of the lab with what the kernel counted, by pool name. */
export async function readPools(api: Api): Promise<Readonly<Record<string, readonly BackendView[]>>> {
  const entries = labPools.map(async (name) => {
    const { status } = (await api('GET', `/api/v1/pools/${name}`)) as PoolAnswer;
    return [name, Object.entries(status.backends).map(([backend, view]) => ({ name: backend, status: view }))] as const;
  });
  return Object.fromEntries(await Promise.all(entries));
}

/** What the kernel counted per service of the lab, by service name. */
export async function readServices(
  api: Api,
  topology: Topology,
  services: readonly LabService[] = labServices(topology),
): Promise<Readonly<Record<string, ServiceStatus>>> {
  const entries = services.map(async ({ service }) => {
    const { status } = (await api('GET', `/api/v1/services/${service}`)) as { readonly status: ServiceStatus };
    return [service, status] as const;
  });
  return Object.fromEntries(await Promise.all(entries));
}
