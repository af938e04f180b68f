// SPDX-License-Identifier: Apache-2.0
// docs/packet-path.md: service, guard and "Choice".
import { Reason, ServiceFlag, Tally } from '../../src/dataplane/abi.gen.js';
import { type Packet, TCP, UDP } from './parse.js';
import { sipHashHigh } from './siphash.js';
import {
  type Flow,
  FlowState,
  type ModelBackend,
  type ModelPool,
  type ModelService,
  type Prefix,
  type ReasonNumber,
  serviceId,
  type TallyNumber,
  takes,
  type World,
} from './world.js';

/** Step 7. */
export function findService(world: World, to: Buffer, port: number, protocol: number): ModelService | null {
  return world.services.get(serviceId(to, port, protocol)) ?? world.services.get(serviceId(to, 0, protocol)) ?? null;
}

function within(address: Buffer, prefix: Prefix): boolean {
  if (prefix.address.length !== address.length) return false;
  for (let bit = 0; bit < prefix.bits; bit++) {
    const mask = 0x80 >> (bit & 7);
    if ((((address[bit >> 3] ?? 0) ^ (prefix.address[bit >> 3] ?? 0)) & mask) !== 0) return false;
  }
  return true;
}

/** Step 8. Rates are set so high here that none is reached. */
export function guard(service: ModelService, from: Buffer): ReasonNumber | null {
  if ((service.flags & ServiceFlag.DENY) !== 0 && service.deny.some((prefix) => within(from, prefix))) {
    return Reason.DENIED;
  }
  const closed = (service.flags & ServiceFlag.ALLOW) !== 0 && !service.allow.some((prefix) => within(from, prefix));
  return closed ? Reason.NOT_ALLOWED : null;
}

export interface Tuple {
  readonly from: Buffer;
  readonly to: Buffer;
  readonly fromPort: number;
  readonly toPort: number;
  readonly protocol: number;
}

export const flowId = (tuple: Tuple): string =>
  `${tuple.from.toString('latin1')}${tuple.to.toString('latin1')}/${tuple.fromPort}/${tuple.toPort}/${tuple.protocol}`;

/** The client's address with the bits zeroed that do not count. */
function masked(address: Buffer, bits: number): Buffer {
  return Buffer.from(
    address.map((byte, at) => {
      const left = Math.min(8, Math.max(0, bits - at * 8));
      return byte & (0xff00 >> left) & 0xff;
    }),
  );
}

/** The row's owner and those before it, newest first; nobody where there is no ring. */
function rowOf(world: World, service: ModelService, hashed: Buffer): number[] {
  const ring = (world.pools.get(service.pool) as ModelPool).ring;
  const row = Math.floor((sipHashHigh(world.ringKey, hashed) * (ring.length / 4)) / 2 ** 32);
  return [...ring.subarray(row * 4, row * 4 + 4)];
}

const ownerOf = (world: World, service: ModelService, hashed: Buffer): number => rowOf(world, service, hashed)[0] ?? 0;

/** The backend number the ring has for a flow's new packets; 0: none. */
export const ringChoice = (world: World, service: ModelService, tuple: Tuple): number =>
  ringRow(world, service, tuple)[0] ?? 0;

function ringRow(world: World, service: ModelService, tuple: Tuple): number[] {
  if ((service.flags & ServiceFlag.SOURCE) !== 0) {
    return rowOf(world, service, masked(tuple.from, service.sourceBits));
  }
  const ports = Buffer.alloc(5);
  ports.writeUInt16BE(tuple.fromPort, 0);
  ports.writeUInt16BE(tuple.toPort, 2);
  ports.writeUInt8(tuple.protocol, 4);
  return rowOf(world, service, Buffer.concat([tuple.from, tuple.to, ports]));
}

/** Without ports to go by: fragments that came before their first. */
export function ringChoiceOfClient(world: World, service: ModelService, from: Buffer): number {
  const bits = (service.flags & ServiceFlag.SOURCE) !== 0 ? service.sourceBits : 128;
  return ownerOf(world, service, masked(from, bits));
}

const VERSION_1 = 1;
const VERSION_2 = 0x6b3343cf;

/** The backend a QUIC connection ID names, if any, and what is tallied. `payload` is the datagram's. */
function quic(world: World, service: ModelService, payload: Buffer): [ModelBackend | null, TallyNumber] {
  const unknown: [null, TallyNumber] = [null, Tally.QUIC_UNKNOWN];
  const first = payload[0];
  if (first === undefined) return unknown;
  let id = payload.subarray(1);
  if ((first & 0x80) !== 0) {
    if (payload.length < 6) return unknown;
    const version = payload.readUInt32BE(1);
    if (version !== VERSION_1 && version !== VERSION_2) return unknown;
    const type = (first & 0x30) >> 4;
    // RFC 9000 table 5; RFC 9369 section 3.2 moves the types on by one.
    const byClient = version === VERSION_1 ? type === 0 || type === 1 : type === 1 || type === 2;
    if (byClient) return [null, Tally.QUIC_INITIAL];
    const length = payload.readUInt8(5);
    if (length > 20 || payload.length < 6 + length) return unknown;
    id = payload.subarray(6, 6 + length);
  }
  const pool = world.pools.get(service.pool) as ModelPool;
  const config = (id[0] ?? 0xff) >> 5;
  const length = pool.quicLengths[config] ?? 0;
  if (config === 7 || length === 0 || id.length < 1 + length) return unknown;
  const number = pool.quicServers.get(`${config}:${id.toString('hex', 1, 1 + length)}`);
  const backend = number === undefined ? null : takes(world, number, service.flags);
  return backend === null ? unknown : [backend, Tally.QUIC_ROUTED];
}

export interface Choice {
  readonly backend: ModelBackend | null;
  readonly tallies: readonly TallyNumber[];
  readonly begun: boolean; // a connection
  /** Who else the connection may be of, in the order they are asked. */
  readonly others?: readonly ModelBackend[];
}

/** The payload of UDP, as far as the packet has it. */
function payloadOf(packet: Packet): Buffer {
  const end = Math.min(packet.ip + packet.size, packet.transport + packet.frame.readUInt16BE(packet.transport + 4));
  return packet.frame.subarray(packet.transport + 8, end);
}

const FIN = 1;
const SYN = 2;
const RST = 4;

/** Step 9 for a packet with ports. */
export function choose(world: World, service: ModelService, packet: Packet): Choice {
  const tallies: TallyNumber[] = [];
  const id = flowId(packet);
  let named: ModelBackend | null = null;
  if ((service.flags & ServiceFlag.QUIC) !== 0 && packet.protocol === UDP) {
    const [backend, tally] = quic(world, service, payloadOf(packet));
    tallies.push(tally);
    named = backend;
  }
  const ring = (older: boolean): ModelBackend | null => {
    if (named !== null) return named;
    const [owner = 0, ...before] = ringRow(world, service, packet);
    const isLeft = (number: number): boolean => takes(world, number, service.flags)?.down === false;
    const previous = older ? before.find(isLeft) : undefined;
    return takes(world, previous ?? owner, service.flags);
  };
  if ((service.flags & ServiceFlag.STATELESS) !== 0) return { backend: ring(false), tallies, begun: false };
  const established =
    packet.protocol === TCP
      ? (packet.frame.readUInt8(packet.transport + 13) & SYN) === 0
      : tallies.some((tally) => tally !== Tally.QUIC_INITIAL);
  const { row, ...choice } = remembered(world, service, packet, id, () => ring(established));
  if (named === null) return { ...choice, tallies, others: row ? othersOf(world, service, choice.backend, row) : [] };
  (world.flows.get(id) as Flow).backend = named.number;
  return { ...choice, backend: named, tallies };
}

/** Whether the backend can pass the packet on: "Second chance". */
const canPassOn = (service: ModelService, packet: Packet): boolean =>
  (service.flags & ServiceFlag.GUE) !== 0 &&
  packet.protocol === TCP &&
  packet.fragment === null &&
  (packet.frame.readUInt8(packet.transport + 13) & SYN) === 0;

/** The row's owners that take packets, those before first, without the one that gets it and those of another family. */
function othersOf(
  world: World,
  service: ModelService,
  first: ModelBackend | null,
  [owner = 0, ...before]: readonly number[],
): ModelBackend[] {
  return [...new Set([...before, owner])]
    .filter((number) => number !== first?.number)
    .flatMap((number) => takes(world, number, service.flags) ?? [])
    .filter(({ down }) => !down)
    .filter(({ address }) => address.length === first?.address.length)
    .slice(0, 3);
}

/** The flow memory, and what a packet leaves in it. */
function remembered(
  world: World,
  service: ModelService,
  packet: Packet,
  id: string,
  ring: () => ModelBackend | null,
): { backend: ModelBackend | null; begun: boolean; row: readonly number[] | null } {
  const tcp = packet.protocol === TCP;
  const flags = tcp ? packet.frame.readUInt8(packet.transport + 13) : 0;
  const syn = (flags & SYN) !== 0;
  const ended = !syn && (flags & (FIN | RST)) !== 0;
  const flow = world.flows.get(id);
  if (flow && !(syn && flow.state === FlowState.FINISHED)) {
    if (ended) flow.state = FlowState.FINISHED;
    else if (!syn && flow.state === FlowState.NEW) flow.state = FlowState.ESTABLISHED;
    const backend = takes(world, flow.backend, service.flags);
    const leaves = backend?.down && (syn || !tcp); // what can begin anew
    if (backend !== null && !leaves)
      return { backend, begun: false, row: canPassOn(service, packet) ? flow.row : null };
  }
  const backend = ring();
  if (backend === null) return { backend, begun: false, row: null };
  const found = canPassOn(service, packet) ? ringRow(world, service, packet) : [];
  const row = found.slice(1).some((number) => number !== 0) ? found : null;
  world.flows.set(id, { backend: backend.number, state: FlowState.NEW, row });
  return { backend, begun: syn || !tcp, row };
}
