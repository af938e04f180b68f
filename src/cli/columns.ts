// SPDX-License-Identifier: Apache-2.0
import type { BackendHealth, ServiceStatus } from '../model/node-view.js';
import type { ShownBackend, ShownDrop, ShownFlow, ShownNode, ShownPool, ShownService } from './shapes.js';
import { backendsOf } from './shapes.js';
import type { Colour, Column } from './table.js';
import { formatBytes, formatDuration, formatShare } from './units.js';

const unknown = '-'; // the node has not applied the object

const hostText = (address: string): string => (address.includes(':') ? `[${address}]` : address);

export const serviceColumns: readonly Column<ShownService>[] = [
  { title: 'NAME', text: ({ name }) => name },
  {
    title: 'ADDRESS',
    text: ({ address, port }) => `${hostText(address)}:${port || '*'}`,
  },
  { title: 'PROTOCOL', text: ({ protocol }) => protocol },
  { title: 'POOL', text: ({ pool }) => pool },
  number('FLOWS', (status) => `${status.flows}`),
  { ...number<ServiceStatus>('CONNECTIONS', (status) => `${status.connections}`), spare: true },
  number('PACKETS', (status) => `${status.packets}`),
  number('BYTES', (status) => formatBytes(status.bytes)),
];

/** LIVE: the backends that can take a new flow now, with rows of the ring and a next hop. */
export const poolColumns: readonly Column<ShownPool>[] = [
  { title: 'NAME', text: ({ name }) => name },
  { title: 'BACKENDS', kind: 'number', text: ({ backends }) => `${backends.length}` },
  {
    title: 'LIVE',
    kind: 'number',
    text: (pool) => (pool.status === null ? unknown : `${liveCount(pool)}`),
    colour: (pool) => (pool.status !== null && pool.backends.length > 0 && liveCount(pool) === 0 ? 'red' : null),
  },
  number('ROWS', (status) => `${status.ringRows}`),
];

const allBackendColumns: readonly Column<ShownBackend>[] = [
  { title: 'POOL', text: ({ pool }) => pool },
  { title: 'NAME', text: ({ name }) => name },
  { title: 'ADDRESS', text: ({ address, port }) => (port === undefined ? address : `${hostText(address)}:${port}`) },
  { title: 'WEIGHT', kind: 'number', text: ({ weight }) => `${weight}` },
  { title: 'STATE', text: ({ state }) => state, colour: ({ state }) => stateColours[state] },
  number('WANTED', (status) => formatShare(status.shareWanted)),
  number('GOT', (status) => formatShare(status.shareReal)),
  number('FLOWS', (status) => `${status.flows}`),
  number('PACKETS', (status) => `${status.packets}`),
  number('BYTES', (status) => formatBytes(status.bytes)),
  { title: 'DRAIN', spare: true, text: (backend) => (backend.status?.drain ? drainText(backend, Date.now()) : '') },
  {
    title: 'NEXT HOP',
    spare: true,
    text: ({ status }) => nextHopText(status),
    colour: ({ status }) => (status !== null && status.nextHop.state !== 'resolved' ? 'red' : null),
  },
];

/** Their health where anybody looks after it. */
export function backendColumns(backends: readonly ShownBackend[]): readonly Column<ShownBackend>[] {
  if (backends.every(({ status }) => (status?.health?.state ?? 'off') === 'off')) return allBackendColumns;
  const at = allBackendColumns.findIndex(({ title }) => title === 'STATE') + 1;
  const spared = allBackendColumns.map((each) => (each.title === 'PACKETS' ? { ...each, spare: true } : each));
  return spared.toSpliced(at, 0, healthColumn);
}

const healthColumn: Column<ShownBackend> = {
  title: 'HEALTH',
  text: ({ status }) => (status?.health ? healthText(status.health) : unknown),
  colour: ({ status }) => (status?.health?.state === 'down' ? 'red' : status?.health?.slowStart ? 'yellow' : null),
};

/** 'up', or 'up 25%' on the way back. */
const healthText = ({ state, slowStart }: BackendHealth): string =>
  state === 'off' ? unknown : slowStart === undefined ? state : `${state} ${Math.round(slowStart * 100)}%`;

/** How far a backend's drain is, in a few words. `now`: Unix ms. */
export function drainText({ drain, status }: ShownBackend, now: number): string {
  const seen = status?.drain;
  if (!seen) return `flows left: ${status?.flows ?? unknown}`;
  if (seen.done) return seen.flowsLeft === 0 ? 'drained: no flows left' : `over: ${seen.flowsLeft} flows were cut off`;
  const span = (seconds: number): string => formatDuration(seconds * 1000);
  const ages = seen.ages ? ` (median ${span(seen.ages.median)}, oldest ${span(seen.ages.oldest)})` : '';
  const cut = drain?.deadline === undefined ? '' : `, deadline in ${span((Date.parse(drain.deadline) - now) / 1000)}`;
  return `flows left: ${seen.flowsLeft}${ages}, about ${span(seen.etaSeconds)} to go${cut}`;
}

/** The columns of flows, their ages counted to `now` (Unix milliseconds); those of NAT where it has any. */
export function flowColumns(now: number, flows: readonly ShownFlow[]): readonly Column<ShownFlow>[] {
  return [
    { title: 'CLIENT', text: ({ client }) => client },
    { title: 'VIP', spare: true, text: ({ vip, protocol }) => (protocol === null ? vip : `${vip}/${protocol}`) },
    { title: 'SERVICE', text: ({ service }) => service ?? unknown },
    { title: 'BACKEND', text: ({ backend }) => backend ?? unknown },
    { title: 'STATE', text: ({ state }) => state },
    { title: 'PACKETS', kind: 'number', text: ({ packets }) => `${packets}` },
    { title: 'BYTES', kind: 'number', text: ({ bytes }) => formatBytes(bytes) },
    { title: 'AGE', kind: 'number', text: ({ firstSeen }) => formatDuration(now - firstSeen) },
    { title: 'IDLE', kind: 'number', text: ({ lastSeen }) => formatDuration(now - lastSeen) },
    ...(flows.some(({ nat }) => nat) ? natColumns : []),
  ];
}

const milliseconds = (ns: number | null): string => (ns === null ? unknown : (ns / 1e6).toFixed(2));

/** Spare, the first of them last: SOURCE is what the backend sees the client as; MS is the handshake's halves, to the backend and to the client. */
const natColumns: readonly Column<ShownFlow>[] = [
  { title: 'REPLIES', kind: 'number', spare: true, text: ({ nat }) => (nat ? `${nat.replyPackets}` : '') },
  { title: 'REPLY BYTES', kind: 'number', spare: true, text: ({ nat }) => (nat ? formatBytes(nat.replyBytes) : '') },
  { title: 'SOURCE', spare: true, text: ({ nat }) => nat?.source ?? '' },
  { title: 'DESTINATION', spare: true, text: ({ nat }) => nat?.destination ?? '' },
  {
    title: 'MS',
    kind: 'number',
    spare: true,
    text: ({ nat }) => (nat ? `${milliseconds(nat.handshake.backendNs)}+${milliseconds(nat.handshake.clientNs)}` : ''),
  },
];

export const dropColumns: readonly Column<ShownDrop>[] = [
  { title: 'SERVICE', text: ({ service }) => service ?? unknown },
  { title: 'REASON', text: ({ reason }) => reason },
  { title: 'PACKETS', kind: 'number', text: ({ packets }) => `${packets}` },
];

/** RINGS: how many there are, and one digest over all of them. */
export const nodeColumns: readonly Column<ShownNode>[] = [
  { title: 'NAME', text: ({ name, self }) => (self ? `${name} *` : name) },
  { title: 'STATE', text: ({ state }) => state, colour: ({ state }) => (state === 'ok' ? null : 'red') },
  { title: 'READY', text: ({ ready }) => (ready ? 'yes' : 'no'), colour: ({ ready }) => (ready ? null : 'red') },
  { title: 'APPLIED', kind: 'number', text: ({ appliedRevision: at }) => `${at ?? unknown}` },
  { title: 'VIPS', kind: 'number', text: ({ announcing }) => `${announcing ?? unknown}` },
  { title: 'RINGS', text: ({ rings }) => ringsText(rings) },
  { title: 'HOST', spare: true, text: ({ host }) => host ?? unknown },
  { title: 'VERSION', spare: true, text: ({ version }) => version ?? unknown },
  { title: 'WHY', text: ({ detail, notReady }) => detail ?? notReady[0] ?? '' },
];

/** Short: equal on two nodes when all digests are. */
function ringsText(rings: ShownNode['rings']): string {
  const names = Object.keys(rings).sort();
  let mixed = 0n;
  for (const name of names) mixed = (mixed * 31n + BigInt(`0x${rings[name]?.digest ?? '0'}`)) & 0xffff_ffffn;
  return names.length === 0 ? '0' : `${names.length}, ${mixed.toString(16).padStart(8, '0')}`;
}

const stateColours: Record<ShownBackend['state'], Colour | null> = { active: null, drain: 'yellow', disabled: 'red' };

function number<S>(title: string, text: (status: S) => string): Column<{ readonly status: S | null }> {
  return { title, kind: 'number', text: ({ status }) => (status === null ? unknown : text(status)) };
}

function liveCount(pool: ShownPool): number {
  const live = backendsOf(pool).filter(
    ({ status }) => status !== null && status.shareReal > 0 && status.nextHop.state === 'resolved',
  );
  return live.length;
}

function nextHopText(status: ShownBackend['status']): string {
  if (status === null) return unknown;
  const { state, interface: device, mac } = status.nextHop;
  if (state === 'off_link') return 'off link: l2 cannot reach it';
  return state === 'resolved' ? [device, mac].filter((part) => part !== null).join(' ') : state;
}
