// SPDX-License-Identifier: Apache-2.0
// From the numbers of a flow record to the names people know.
import { fieldText, serviceKeyId } from '../controlplane/kernel-state.js';
import type { Applied } from '../controlplane/reconciler.js';
import { Family, FlowState } from '../dataplane/abi.gen.js';
import type { FlowFilter, FlowRecord, NatEnds } from '../dataplane/flow-record.js';
import { type FlowPlace, flowsAfter } from '../dataplane/flows.js';
import type { Maps } from '../dataplane/maps.js';
import type { NatTables } from '../dataplane/nat.js';
import { parseAddress } from '../model/address.js';
import type { FlowPage, FlowQuery, FlowView } from '../model/node-view.js';
import type { Service } from '../model/objects.js';

const STATES: readonly FlowView['state'][] = Object.entries(FlowState)
  .sort((a, b) => a[1] - b[1])
  .map(([name]) => name.toLowerCase() as FlowView['state']);

export interface Names {
  readonly services: ReadonlyMap<number, Service>;
  readonly backends: ReadonlyMap<number, string>;
}

/** Objects by the numbers that flow records have. */
export function namesOf({ snapshot, numbering }: Applied): Names {
  const services = new Map<number, Service>();
  for (const { value } of snapshot.services.values()) {
    const numbers = numbering.services.get(serviceKeyId(value));
    if (numbers) services.set(numbers.number, value);
  }
  const backends = new Map<number, string>();
  for (const [name, { value: pool }] of snapshot.pools) {
    const members = numbering.pools.get(name)?.members;
    for (const backend of pool.backends) {
      const number = members?.get(backend.address)?.number;
      if (number) backends.set(number, backend.name);
    }
  }
  return { services, backends };
}

const endpoint = (address: string, port: number): string =>
  address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;

/** Monotonic nanoseconds to Unix milliseconds. */
const wallOf = (ns: number): number => Math.round(Date.now() - (Number(process.hrtime.bigint()) - ns) / 1e6);

/** Of a flow whose service is gone, or which goes out and has none. */
function vipText({ service, family, nat }: FlowRecord): string {
  if (service === 0 && nat) return fieldText(nat.destination, nat.family);
  return family === Family.IPV6 ? '::' : '0.0.0.0';
}

const natView = (nat: NatEnds): NonNullable<FlowView['nat']> => ({
  source: endpoint(fieldText(nat.source, nat.family), nat.sourcePort),
  destination: endpoint(fieldText(nat.destination, nat.family), nat.destinationPort),
  replyPackets: nat.replyPackets,
  replyBytes: nat.replyBytes,
  handshake: { backendNs: nat.backendNs, clientNs: nat.clientNs },
});

function viewOf(record: FlowRecord, names: Names): FlowView {
  const service = names.services.get(record.service);
  const firstSeen = wallOf(record.firstNs);
  return {
    service: service?.name ?? null,
    backend: names.backends.get(record.backend) ?? null,
    protocol: record.protocol === 6 ? 'tcp' : record.protocol === 17 ? 'udp' : null,
    client: endpoint(fieldText(record.client, record.family), record.clientPort),
    vip: endpoint(service?.address ?? vipText(record), record.vipPort),
    packets: record.packets,
    bytes: record.bytes,
    state: STATES[record.state] ?? 'new',
    firstSeen,
    // Coarser than the first: it may seem to lie before it.
    lastSeen: Math.max(firstSeen, Math.round(Date.now() - record.idleNs / 1e6)),
    handshakeNs: record.handshakeNs,
    ...(record.nat && { nat: natView(record.nat) }),
  };
}

/** The flows a query asks for; none when it names a service or backend that does not exist. */
export async function queryFlows(
  maps: Maps,
  nat: NatTables | null,
  applied: Applied,
  query: FlowQuery,
  after: FlowPlace | null = null,
): Promise<FlowPage> {
  const names = namesOf(applied);
  const filter: { -readonly [K in keyof FlowFilter]: FlowFilter[K] } = {};
  if (query.service !== undefined) {
    const number = [...names.services].find(([, service]) => service.name === query.service)?.[0];
    if (number === undefined) return { items: [], last: null };
    filter.service = number;
  }
  if (query.backend !== undefined) {
    filter.backends = new Set(
      [...names.backends].filter(([, name]) => name === query.backend).map(([number]) => number),
    );
  }
  if (query.client !== undefined) {
    const client = new Uint8Array(16);
    client.set(parseAddress(query.client).bytes);
    filter.client = client;
  }
  const { flows, last } = await flowsAfter(maps, filter, query.sort, query.limit, nat, after);
  return { items: flows.map((record) => viewOf(record, names)), last };
}
