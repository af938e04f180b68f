// SPDX-License-Identifier: Apache-2.0
// The same random traffic through Fairlead and through nftables: what arrives must be the same, up to the choice of ports and backends.
import assert from 'node:assert/strict';
import { type Random, random as randomOf } from '../fuzz/random.js';
import { packet } from '../support/packets.js';
import { errorOf } from './errors.js';
import { type Ends, endsOf, type Flow, flowOf, hopsOf, next, otherSide, type Packet, ping, stray } from './flow.js';
import { type Arrived, endsIn, isError, packetsOf, quoteOf, tell } from './look.js';
import {
  BACKEND_PORT,
  BACKENDS,
  EGRESS,
  macsOf,
  NODE,
  openWorld,
  POOL,
  ROUTER,
  SIDES,
  type Side,
  VIP,
  WORLDS,
  type World,
  type WorldName,
} from './world.js';

export interface DifferOptions {
  readonly seed: number;
  readonly packets: number;
  readonly prefix: string; // of the namespaces' names
  readonly gro: boolean;
  progress?(packets: number): void;
}

export interface DifferResult {
  readonly packets: number;
  /** How often each kind of packet was compared, by `SERVICE FAMILY PROTOCOL WHAT`. */
  readonly compared: ReadonlyMap<string, number>;
  /** Deliberate ones, by name. */
  readonly deliberate: ReadonlyMap<string, number>;
  readonly differences: readonly string[];
}

/**
 * Where Fairlead is not to do what nftables does. Each is looked for by itself: in the place where it is named, what each world does is
 * prescribed, nothing is passed over.
 */
export const DELIBERATE = {
  hops: 'requests and replies of services do not pass the kernel’s routing: a balancer is no hop (docs/nat.md, "Known limits"). In nftables’ world they start with one more.',
  router:
    'an error by a router behind the node comes to the client from that router, so that traceroute shows the way (docs/nat.md); nftables makes it one of the VIP’s.',
  echo: 'an echo request to a VIP becomes its own answer and keeps DF, ID and options; the kernel makes a new packet.',
  quotedSum:
    'nftables leaves TCP’s checksum in a quote as it is when the quote has it but not the whole TCP header; Fairlead restores it.',
  pieces:
    'nftables puts fragments together and cuts the datagram anew; Fairlead passes each on: compared are datagrams.',
} as const;

const FLOWS = 24;
const BATCH = 24;
const FENCE_PORT = 9;

/** A datagram that no NAT touches: when the second of two has arrived, so has all that was sent before. */
function fence(side: Side, number: number): Buffer {
  const [client, host] = ['172.31.0.9', '10.21.255.254'];
  const [from, to] = side === 'client' ? [client, host] : [host, client];
  const data = Buffer.alloc(4);
  data.writeUInt32BE(number, 0);
  const whole = packet({ from, to, fromPort: FENCE_PORT, toPort: FENCE_PORT, protocol: 'udp', data });
  macsOf(side).copy(whole);
  return whole;
}

const isFence = (frame: Buffer): boolean =>
  frame.length === 46 && frame.readUInt16BE(12) === 0x0800 && frame.readUInt16BE(34) === FENCE_PORT;

export async function differ(options: DifferOptions): Promise<DifferResult> {
  const worlds: World[] = [];
  try {
    for (const name of WORLDS) worlds.push(await openWorld(name, options.prefix, options.gro));
    return await compare(worlds, options);
  } finally {
    for (const world of worlds) await world.close();
  }
}

async function compare(worlds: readonly World[], { seed, packets, progress }: DifferOptions): Promise<DifferResult> {
  const random = randomOf(seed);
  const flows: Flow[] = [];
  const run = newRun();
  let [id, sent, fences] = [0, 0, 0];
  for (let turn = 0; sent < packets && run.differences.length < 20; turn++) {
    const side = SIDES[turn % 2] ?? 'client';
    while (flows.length < FLOWS) flows.push(flowOf(random));
    const batch: Packet[] = [];
    for (let tries = 0; tries < 4 * BATCH && batch.length < BATCH; tries++) {
      const packet = draw(random, (id % 65_000) + 1, random.pick(flows), side);
      if (!packet) continue;
      id++;
      batch.push(packet);
    }
    const arrived = await Promise.all(
      worlds.map(async (world) => {
        const frames = new Map(batch.map((each) => [each.id, each.frames(world.name)]));
        const { wire } = world;
        const far = otherSide(side);
        const got = { client: [] as Buffer[], backend: [] as Buffer[] };
        // Frames that GRO holds back come at the end of the poll that the first fence is in.
        for (const [from, some, at] of [
          [side, [...frames.values()].flat(), 0],
          [side, [], 1],
          [far, [], 2],
          [far, [], 3],
        ] as const) {
          const [mark, to] = [fence(from, fences + at), otherSide(from)];
          const [ip] = [mark.subarray(42)];
          wire[from].send([...some, mark]);
          got[to].push(
            ...(await wire[to].until((frame) => isFence(frame) && frame.subarray(42, 46).equals(ip), 'the fence')),
          );
        }
        return { world: world.name, frames, got };
      }),
    );
    fences += 4;
    const lines = arrived.map((one) => read(run, batch, side, one.world, one.frames, one.got));
    judge(run, batch, lines);
    sent += batch.length;
    progress?.(sent);
    for (const [at, flow] of [...flows.entries()].reverse()) if (flow.left <= 0) flows.splice(at, 1);
  }
  return { packets: sent, ...run };
}

function draw(random: Random, id: number, flow: Flow, side: Side): Packet | null {
  const way = flow.near === side ? 0 : 1;
  if (random.once(12)) return errorOf(random, id, flow, way);
  if (way === 0 && random.once(40))
    return stray(random, id, { ...flow, from: { ...flow.from, port: 1 + random.below(1_000) } });
  if (way === 0 && random.once(60)) return ping(random, id, flow);
  return next(random, id, flow, way);
}

interface Run {
  readonly compared: Map<string, number>;
  readonly deliberate: Map<string, number>;
  readonly differences: string[];
  /** What was sent, for quotes: by world, then id. */
  readonly history: Map<WorldName, Map<number, Buffer>>;
}

const newRun = (): Run => ({
  ...{ compared: new Map(), deliberate: new Map(), differences: [] },
  history: new Map(WORLDS.map((name) => [name, new Map()])),
});

const count = (counts: Map<string, number>, name: string): void => void counts.set(name, (counts.get(name) ?? 0) + 1);

/** What the batch has become in a world: by packet, what arrived at the other side; under 0, what else came. */
function read(
  run: Run,
  batch: readonly Packet[],
  side: Side,
  world: WorldName,
  frames: ReadonlyMap<number, readonly Buffer[]>,
  got: Readonly<Record<Side, readonly Buffer[]>>,
): Map<number, string[]> {
  const byId = new Map(batch.map((each) => [each.id, each]));
  const lines = new Map<number, string[]>();
  const history = run.history.get(world);
  for (const [id, [first]] of frames) if (first) history?.set(id, first);
  for (const at of SIDES)
    for (const packet of packetsOf(got[at].filter((frame) => !isFence(frame)))) {
      const sent = at === side ? undefined : byId.get(packet.id);
      const line = sent ? lookAt(run, packet, sent, world) : unasked(run, packet, at);
      lines.set(sent?.id ?? 0, [...(lines.get(sent?.id ?? 0) ?? []), line]);
      if (packet.pieces > 1 && world === 'fairlead') count(run.deliberate, 'pieces');
    }
  return lines;
}

function lookAt(run: Run, packet: Arrived, sent: Packet, world: WorldName): string {
  const { flow, way, begins } = sent;
  if (hopsOf(world, flow) !== hopsOf('nftables', flow)) count(run.deliberate, 'hops');
  if (isError(packet)) return tellError(run, packet, sent, world);
  const ends = endsIn(packet);
  if (way === 1) {
    // As the near side had sent: with its own addresses and those it knows.
    const wanted = { from: flow.to, to: flow.from };
    remember(sent, world, flow.near, packet);
    return tell(packet, sameEnds(ends, wanted, flow) ? 'to its sender' : shown(ends));
  }
  if (begins && (flow.protocol === 'tcp' || !flow.seen.has(world))) {
    if (!allowed(flow, ends)) return tell(packet, `begins as ${shown(ends)}`);
    flow.seen.set(world, ends);
    for (const side of SIDES) flow.last.delete(`${world} ${side}`); // of the connection before
  }
  remember(sent, world, otherSide(flow.near), packet);
  const seen = flow.seen.get(world);
  return tell(
    packet,
    seen && sameEnds(ends, seen, flow) ? 'as it began' : `${shown(ends)}, began ${seen && shown(seen)}`,
  );
}

/** What the node says by itself. */
function unasked(run: Run, packet: Arrived, at: Side): string {
  const told = tell(packet, `at ${at} ${packet.from} > ${packet.to}`);
  if (packet.from !== VIP[4] || packet.protocol !== 1) return told;
  count(run.deliberate, 'echo');
  return told.replace(/ flags [02] options [0-9a-f]* /, ' ');
}

const shown = ({ from, to }: Ends): string => `${from.address} ${from.port} > ${to.address} ${to.port}`;

function sameEnds(got: Ends, wanted: Ends, { protocol }: Flow): boolean {
  const same = got.from.address === wanted.from.address && got.to.address === wanted.to.address;
  // An echo's one identifier is in both.
  if (protocol === 'echo') return same && got.from.port === (wanted.from.port || wanted.to.port);
  return same && got.from.port === wanted.from.port && got.to.port === wanted.to.port;
}

function remember({ flow, what }: Packet, world: WorldName, side: Side, { ip }: Arrived): void {
  if (what !== 'fragments') flow.last.set(`${world} ${side}`, ip);
}

/** Whether a flow may look like this at its far side. */
function allowed(flow: Flow, { from, to }: Ends): boolean {
  const { kind, family } = flow;
  const is = (list: readonly string[], address: string): boolean => list.includes(address);
  if (kind === 'foreign') return shown({ from, to }) === shown(flow);
  if (kind === 'egress') return is(EGRESS[family], from.address) && to.address === flow.to.address && from.port > 0;
  const sources = { none: [flow.from.address], auto: [NODE[family]], pool: POOL[family] }[kind];
  const kept = kind !== 'none' || from.port === flow.from.port;
  return is(sources, from.address) && kept && is(BACKENDS[family], to.address) && to.port === BACKEND_PORT;
}

function tellError(run: Run, packet: Arrived, { flow, way, what }: Packet, world: WorldName): string {
  const receiver = way === 1 ? flow.near : otherSide(flow.near);
  const ends = way === 1 ? { from: flow.to, to: flow.from } : flow.seen.get(world);
  const router = ROUTER[otherSide(receiver)][flow.family];
  const isService = flow.kind !== 'egress' && flow.kind !== 'foreign';
  let sender = packet.from === ends?.from.address ? 'the end' : packet.from;
  if (what === 'error by router') {
    // On the way from the client nftables and Fairlead hide it behind the translated source.
    const hidden = way === 0 && flow.kind !== 'none' && flow.kind !== 'foreign';
    const own =
      isService && way === 1 && world === 'nftables' ? VIP[flow.family] : hidden ? ends?.from.address : router;
    if (isService && way === 1 && world === 'fairlead') count(run.deliberate, 'router');
    sender = packet.from === own ? 'the router' : packet.from;
  }
  const quote = packet.body.subarray(8);
  const id = flow.family === 4 ? quote.readUInt16BE(4) : quote.readUInt32BE(0) & 0xfffff;
  const sent = run.history.get(world)?.get(id);
  const told = sent ? quoteOf(packet, sent, hopsOf(world, flow), world === 'nftables') : 'quotes what nobody sent';
  if (told.includes('checksum') && world === 'fairlead') count(run.deliberate, 'quotedSum');
  return `${tell(packet, `by ${sender} to ${packet.to === ends?.to.address ? 'its sender' : packet.to}`)}, ${told}`;
}

function judge(
  { compared, differences }: Run,
  batch: readonly Packet[],
  worlds: readonly Map<number, string[]>[],
): void {
  const [ours, theirs] = worlds;
  assert.ok(ours && theirs);
  const differ = (about: string, one: readonly string[], other: readonly string[]): void =>
    void differences.push(
      `${about}\n  fairlead: ${one.join('\n            ') || 'nothing'}\n  nftables: ${other.join('\n            ') || 'nothing'}`,
    );
  for (const packet of batch) {
    const { id, flow, way, what } = packet;
    const about = `${flow.kind} IPv${flow.family} ${flow.protocol} ${what}${way === 1 ? ' back' : ''}`;
    const [one, other] = [ours.get(id) ?? [], theirs.get(id) ?? []];
    count(compared, about);
    if (one.join() !== other.join()) differ(`${about}, id ${id}`, one, other);
    else if ((one.length === 0) !== packet.stray && endsOf(flow, way, 'nftables'))
      differ(`${about}, id ${id}: ${packet.stray ? 'is to be dropped' : 'did not arrive'}`, one, other);
  }
  const [one, other] = [ours.get(0) ?? [], theirs.get(0) ?? []];
  if ([...one].sort().join() !== [...other].sort().join()) differ('what nobody sent', one, other);
}
