// SPDX-License-Identifier: Apache-2.0
// NAT's connections as flows: mapped memory, walked in slices like the flow table.
import { setImmediate as nextTurn } from 'node:timers/promises';
import { FlowState } from './abi.gen.js';
import type { FlowFilter, FlowOrder, FlowRecord } from './flow-record.js';
import type { NatTables } from './nat.js';
import { NatConnection, NatCounts, NatDetail, NatPool, NatState } from './nat-abi.gen.js';
import { native } from './native.js';

const SLICE_MS = 3; // as in flow-table.ts
const STEP = 256; // connections between looks at the clock
const SIZE = NatConnection.size / 4; // words
const DETAIL_SIZE = NatDetail.size / 4;
const { field } = NatConnection;
const { field: detail } = NatDetail;
const STATE_WORD = field.state.offset >> 2;
const STATE_SHIFT = (field.state.offset & 3) * 8;
const SEEN = field.seen.offset >> 2;
const OWNER = field.service.offset >> 2; // service, backend
const BYTES = field.bytes.offset >> 2;
const PACKETS = field.packets.offset >> 2;
const BEGUN = detail.begun.offset >> 2;
const PACKETS_HIGH = detail.packetsHigh.offset >> 2;
const CLIENT = detail.client.offset >> 2;
/** Of a connection as long as it is this one; and of its detail. */
const IDENTITY = [0, 1, OWNER];
const DETAIL_IDENTITY = [BEGUN, CLIENT, CLIENT + 1, CLIENT + 2, CLIENT + 3];

const wordsOf = (bytes: Uint8Array): Uint32Array =>
  new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);

const stateOf = (word: number): number => (word >>> STATE_SHIFT) & 0xff;
const lives = (state: number): boolean => state > NatState.FREE && state < NatState.GONE;
const pair = (low = 0, high = 0): number => low + high * 2 ** 32;

/** Ticks a packet may have come after `now` was read, as SWEEP_AHEAD of nat_sweep.h. */
const AHEAD = 2 ** 16;

/** Ticks from `then` to `now`, low halves: less than 2^32, which is 198 days at HZ=250; 0 for a packet that came after `now` was read. */
export function ticksSince(now: number, then: number): number {
  const ticks = (now - then) >>> 0;
  return ticks >= 2 ** 32 - AHEAD ? 0 : ticks;
}

/** Connections that have ever been one: those behind it are empty. */
const usedOf = ({ counts, room }: NatTables): number => Math.min(room, counts[NatCounts.field.used.offset >> 2] ?? 0);

/** Connections that take up room: those that have just ended do for a while. */
export function natEntries(tables: NatTables): number {
  const { head, tail } = NatPool.decode(tables.pools.subarray(0, NatPool.size)); // ids to be had again
  return Math.max(0, usedOf(tables) - Number(tail - head));
}

function walkPart(words: Uint32Array, begin: number, end: number, visit: (at: number, id: number) => void): void {
  for (let id = begin; id < end; id++) {
    const at = id * SIZE;
    if (lives(stateOf(words[at + STATE_WORD] ?? 0))) visit(at, id);
  }
}

/** Calls `visit` with each connection's first word, leaving the event loop a turn every few milliseconds. */
async function walk(tables: NatTables, words: Uint32Array, visit: (at: number, id: number) => void): Promise<void> {
  const used = usedOf(tables);
  let until = performance.now() + SLICE_MS;
  for (let id = 0; id < used; id += STEP) {
    walkPart(words, id, Math.min(id + STEP, used), visit);
    if (performance.now() > until) {
      await nextTurn();
      until = performance.now() + SLICE_MS;
    }
  }
}

/** Offers each connection that the filter lets through: its value, as that of a flow, and its id. */
export async function offerNat(
  tables: NatTables,
  { service, backends, client }: FlowFilter,
  order: FlowOrder,
  offer: (value: number, id: number) => void,
): Promise<void> {
  const words = wordsOf(tables.connections);
  const details = wordsOf(tables.details);
  const wanted = client ? new Uint32Array(client.slice().buffer) : null;
  const now = tables.now();
  const nowNs = Number(process.hrtime.bigint());
  // As flowValue of flow-table.ts. `nowNs` and `now`: the same moment, CLOCK_MONOTONIC and ticks.
  const valueAt = (at: number, more: number): number => {
    if (order === 'age') return ticksSince(now, details[more + BEGUN] ?? 0) * native.tickNs() - nowNs;
    if (order === 'bytes') return pair(words[at + BYTES], words[at + BYTES + 1]);
    return pair(words[at + PACKETS], (details[more + PACKETS_HIGH] ?? 0) & 0xffff);
  };
  await walk(tables, words, (at, id) => {
    const owner = words[at + OWNER] ?? 0;
    if (service !== undefined && (owner & 0xffff) !== service) return;
    if (backends && !backends.has(owner >>> 16)) return;
    const more = id * DETAIL_SIZE;
    for (let word = 0; wanted && word < 4; word++) if (details[more + CLIENT + word] !== wanted[word]) return;
    offer(valueAt(at, more), id);
  });
}

/** Whole u64s: the halves of a count do not come apart. */
function copyOf(bytes: Uint8Array, id: number, size: number): Uint8Array {
  const copy = new BigUint64Array(size / 8);
  const wide = new BigUint64Array(bytes.buffer, bytes.byteOffset + id * size, size / 8);
  for (const [word, value] of wide.entries()) copy[word] = value;
  return new Uint8Array(copy.buffer);
}

/** A connection whole, or null when it has ended: what it was before and what it was after is the same connection, not ended. */
function readWhole({ connections, details }: NatTables, id: number): (NatConnection & NatDetail) | null {
  const words = wordsOf(connections);
  const more = wordsOf(details);
  // Atomics: loads that the compiler may not merge.
  const identity = (): number[] => [
    ...IDENTITY.map((word) => Atomics.load(words, id * SIZE + word)),
    ...DETAIL_IDENTITY.map((word) => Atomics.load(more, id * DETAIL_SIZE + word)),
  ];
  for (let attempt = 0; attempt < 4; attempt++) {
    const before = identity();
    const one = copyOf(connections, id, NatConnection.size);
    const other = copyOf(details, id, NatDetail.size);
    const state = stateOf(Atomics.load(words, id * SIZE + STATE_WORD));
    if (!lives(one[field.state.offset] ?? 0) || !lives(state)) return null;
    if (identity().every((word, index) => word === before[index]))
      return { ...NatConnection.decode(one), ...NatDetail.decode(other) };
  }
  return null;
}

/** A connection's record; null when it has ended. */
export function readNat(tables: NatTables, id: number): FlowRecord | null {
  const raw = readWhole(tables, id);
  if (!raw) return null;
  const now = tables.now();
  const tickNs = native.tickNs();
  const [requestBytes = 0n, replyBytes = 0n] = new BigUint64Array(raw.bytes.buffer);
  const [requests = 0, replies = 0] = new Uint32Array(raw.packets.buffer);
  const [requestsHigh = 0, repliesHigh = 0] = new Uint16Array(raw.packetsHigh.buffer);
  const [backendUs = 0, clientUs = 0] = new Uint32Array(raw.handshakeUs.buffer);
  const backendNs = backendUs === 0 ? null : backendUs * 1000;
  // As long as there was no ACK its place holds something else.
  const clientNs = clientUs === 0 || raw.state === NatState.NEW ? null : clientUs * 1000;
  return {
    service: raw.service,
    backend: raw.backend,
    protocol: raw.protocol,
    family: raw.clientFamily,
    client: raw.client,
    clientPort: raw.clientPort,
    vipPort: raw.vipPort,
    packets: pair(requests, requestsHigh),
    bytes: Number(requestBytes),
    state: raw.state - NatState.NEW + FlowState.NEW,
    firstNs: Number(process.hrtime.bigint()) - ticksSince(now, raw.begun) * tickNs,
    idleNs: ticksSince(now, raw.seen) * tickNs,
    handshakeNs: backendNs !== null && clientNs !== null ? backendNs + clientNs : null,
    nat: {
      source: raw.source,
      sourcePort: raw.sourcePort,
      destination: raw.backendAddress,
      destinationPort: raw.backendPort,
      family: raw.backendFamily,
      replyPackets: pair(replies, repliesHigh),
      replyBytes: Number(replyBytes),
      backendNs,
      clientNs,
    },
  };
}

/** Calls `visit` with what each connection has had of requests: where its client's address (16 bytes) is in the details, and the rest as numbers. */
export async function eachNat(
  tables: NatTables,
  idleMs: number,
  visit: (
    at: number,
    family: number,
    service: number,
    backend: number,
    isLive: boolean,
    packets: number,
    bytes: number,
  ) => void,
): Promise<void> {
  const words = wordsOf(tables.connections);
  const details = wordsOf(tables.details);
  const limit = (idleMs * 1e6) / native.tickNs();
  const now = tables.now();
  await walk(tables, words, (at, id) => {
    const more = id * DETAIL_SIZE;
    const owner = words[at + OWNER] ?? 0;
    const isLive =
      stateOf(words[at + STATE_WORD] ?? 0) < NatState.CLOSING && ticksSince(now, words[at + SEEN] ?? 0) <= limit;
    const packets = pair(words[at + PACKETS], (details[more + PACKETS_HIGH] ?? 0) & 0xffff);
    visit(
      (more + CLIENT) * 4,
      tables.connections[at * 4 + field.clientFamily.offset] ?? 0,
      owner & 0xffff,
      owner >>> 16,
      isLive,
      packets,
      pair(words[at + BYTES], words[at + BYTES + 1]),
    );
  });
}

/** Calls `count` with the backend and the service of each connection that is not closing or closed and had a packet in the last `idleMs`. */
export async function countNat(
  tables: NatTables,
  idleMs: number,
  count: (backend: number, service: number) => void,
): Promise<void> {
  const words = wordsOf(tables.connections);
  const limit = (idleMs * 1e6) / native.tickNs();
  const now = tables.now();
  await walk(tables, words, (at) => {
    if (stateOf(words[at + STATE_WORD] ?? 0) >= NatState.CLOSING) return;
    if (ticksSince(now, words[at + SEEN] ?? 0) > limit) return;
    const owner = words[at + OWNER] ?? 0;
    count(owner >>> 16, owner & 0xffff);
  });
}
