// SPDX-License-Identifier: Apache-2.0
// tc_nat beside xdp_lb: its tables, its links, and the sweep that runs in the kernel.
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { FairleadError } from '../model/errors.js';
import { openSwaps } from './attach.js';
import type { InterfaceConfig, TcMode } from './interfaces.js';
import type { Maps } from './maps.js';
import { Config, MapShape, NatAbi, NatLimit, NatPool, NatService, NatState } from './nat-abi.gen.js';
import { type NativeMap, type NativeObject, native } from './native.js';
import { pinOver, pinRoot } from './pins.js';
import { objectPath, type ProgramConfig, setConstants } from './program.js';
import { placeProgram } from './tc.js';

/** Seconds without a packet after which a connection ends, by its state. */
export interface NatTimeouts {
  readonly tcpNew: number;
  readonly tcpEstablished: number;
  readonly tcpClosing: number;
  readonly tcpClosed: number;
  readonly udpNew: number;
  readonly udpEstablished: number;
}

export interface NatConfig {
  /** Connections there is room for, a power of two. */
  readonly connections: number;
  readonly timeouts: NatTimeouts;
  /** First 12 bytes of the IPv6 addresses that stand for IPv4 clients where sources stay (RFC 6052). */
  readonly prefix: Uint8Array;
  /** Interfaces by which private sources leave. */
  readonly egress: readonly string[];
}

export type NatMapName = keyof typeof MapShape;

/** tc_nat, or tc_nat_out, where it is attached. */
export interface NatProgram {
  readonly interface: string;
  readonly program: string;
  readonly mode: TcMode;
  readonly tag: string;
}

/** The tables, as the kernel's own memory. */
export interface NatTables {
  readonly handle: Readonly<Record<NatMapName, NativeMap>>;
  readonly connections: Uint8Array; // struct nat_connection, one after the other
  readonly details: Uint8Array; // struct nat_detail, as connections
  readonly services: Uint8Array; // struct nat_service by number
  readonly pools: Uint8Array; // struct nat_pool by number
  readonly ring: Uint32Array;
  readonly timeouts: Uint32Array;
  readonly counts: Uint32Array; // struct nat_counts
  /** Connections there is room for. */
  readonly room: number;
  readonly programs: readonly NatProgram[];
  /**
   * Ends, at once, the connections whose service is `gone` or whose backend number is another one's. To be called when no packet can begin such
   * a connection any more.
   */
  forget(): Promise<void>;
  /** The time now as `seen` and `begun` of a connection have it: ticks, low half. */
  now(): number;
  close(): void;
}

/** Entries of nat_ring: ids of all connections, and the ports of this many addresses. */
const RING_ADDRESSES = 16;
const PORTS = 65536;
const BUSY = 0xffffffff; // NAT_NONE
const NO_PACKET = new Uint8Array(64);
/** As NAT_FIRST and NAT_OTHERS of nat_table.h. */
const bucketsFor = (connections: number): number => connections / 16 + connections / 8;

const natRoot = (bpffs: string): string => join(pinRoot(bpffs), `nat-v${NatAbi.VERSION}`);

/** The directories of NAT's pins, of any version, below those of a packet path. */
export const natRoots = (pins: string): string[] =>
  readdirSync(pins)
    .filter((name) => name.startsWith('nat-v'))
    .map((name) => join(pins, name));

/** The ports from 1024 on that a source address has for connections: those the node's own sockets use are left out. */
export function natPorts(): number[] {
  const [low = 32768, high = 60999] = readFileSync('/proc/sys/net/ipv4/ip_local_port_range', 'utf8')
    .split(/\s+/)
    .map(Number);
  return Array.from({ length: PORTS - 1024 }, (_, at) => 1024 + at).filter((port) => port < low || port > high);
}

function entriesFor(connections: number): Record<NatMapName, number> {
  const entries = Object.fromEntries(Object.entries(MapShape).map(([name, shape]) => [name, shape.maxEntries]));
  return {
    ...(entries as Record<NatMapName, number>),
    nat_index: bucketsFor(connections),
    nat_connections: connections,
    nat_details: connections,
    nat_ring: connections + RING_ADDRESSES * PORTS,
  };
}

/** Pinned tables; a table of another size stays what it is, with all its connections, and `room` says so. */
function adopt(root: string): Partial<Record<NatMapName, NativeMap>> {
  const found: Partial<Record<NatMapName, NativeMap>> = {};
  for (const name of Object.keys(MapShape) as NatMapName[]) {
    const pin = join(root, 'maps', name);
    if (existsSync(pin)) found[name] = native.openMap(pin);
  }
  return found;
}

/** Loads tc_nat with the packet path's tables, and with `reuse` for its own. Rejects with the addon's error. */
export async function loadNat(
  config: NatConfig,
  program: ProgramConfig,
  maps: Maps,
  reuse: Partial<Record<NatMapName, NativeMap>>,
): Promise<{ readonly object: NativeObject; readonly tables: NatTables }> {
  const room = reuse.nat_connections?.info.maxEntries ?? config.connections;
  const object = native.openObject(objectPath('tc_nat'));
  try {
    setConstants(object, program, 0);
    object.setVariable(Config.natRoom.name, new Uint8Array(Uint32Array.of(room).buffer));
    object.setVariable(Config.natPrefix.name, config.prefix);
    for (const [name, map] of Object.entries(maps.handle)) {
      if (!object.maps.includes(name)) continue;
      object.setMaxEntries(name, map.info.maxEntries);
      object.reuseMap(name, map);
    }
    for (const [name, entries] of Object.entries(entriesFor(room)) as [NatMapName, number][]) {
      object.setMaxEntries(name, entries);
      const known = reuse[name];
      if (known) object.reuseMap(name, known);
    }
    await object.load();
    const tables = openTables(object, room);
    if (!reuse.nat_pools) writePool(tables, 0, { start: 0, size: room, address: [] });
    writeTimeouts(tables, config.timeouts);
    return { object, tables };
  } catch (error) {
    object.close();
    throw error;
  }
}

/** Between tries while the sweep is at work, which takes a few milliseconds. */
const FORGET_AGAIN_MS = 2;

function openTables(object: NativeObject, room: number): NatTables {
  const handle = Object.fromEntries(
    (Object.keys(MapShape) as NatMapName[]).map((name) => [name, object.map(name)]),
  ) as Record<NatMapName, NativeMap>;
  const clock = object.program('nat_clock');
  const forget = object.program('nat_forget');
  return {
    handle,
    connections: new Uint8Array(handle.nat_connections.mmap()),
    details: new Uint8Array(handle.nat_details.mmap()),
    services: new Uint8Array(handle.nat_services.mmap()),
    pools: new Uint8Array(handle.nat_pools.mmap()),
    ring: new Uint32Array(handle.nat_ring.mmap()),
    timeouts: new Uint32Array(handle.nat_timeouts.mmap()),
    counts: new Uint32Array(handle.nat_counts.mmap()),
    room,
    programs: [],
    async forget() {
      while ((await forget.runMany(NO_PACKET, null, 1, false)).retval === BUSY)
        await new Promise((resolve) => setTimeout(resolve, FORGET_AGAIN_MS));
    },
    now: () => clock.run(NO_PACKET, null).retval,
    close() {
      clock.close();
      forget.close();
      for (const map of Object.values(handle)) map.close();
    },
  };
}

/** Gives up tables of another layout with the connections in them, and their programs: no version that was released had any. */
function dropOtherLayouts(bpffs: string, warnings: string[]): void {
  for (const root of natRoots(pinRoot(bpffs))) {
    if (root === natRoot(bpffs)) continue;
    rmSync(root, { recursive: true, force: true });
    warnings.push(`NAT's tables of another version of Fairlead are dropped, with their connections: ${root}`);
  }
}

/**
 * Loads tc_nat with the packet path's tables, attaches it to the interfaces, takes over what an earlier daemon has pinned, and has the kernel
 * sweep. `warnings` gets sentences about what was not as wished.
 */
export async function openNat(
  config: NatConfig,
  program: ProgramConfig & { readonly bpffs: string; readonly interfaces: readonly InterfaceConfig[] },
  maps: Maps,
  warnings: string[],
): Promise<NatTables> {
  const root = natRoot(program.bpffs);
  for (const part of ['maps', 'links']) mkdirSync(join(root, part), { recursive: true });
  const adopted = adopt(root);
  const names = [...new Set([...program.interfaces.map(({ name }) => name), ...config.egress])];
  const { object, tables } = await loadNat(config, program, maps, adopted);
  const [nat, out] = [object.program('tc_nat'), object.program('tc_nat_out')];
  const open: { close(): void }[] = [];
  try {
    for (const [name, map] of Object.entries(tables.handle))
      if (!adopted[name as NatMapName]) pinOver(join(root, 'maps', name), map);
    const swaps = openSwaps();
    const hooks = [
      ...names.map((name) => ({ name, direction: 'ingress', of: nat, pin: name }) as const),
      ...config.egress.map((name) => ({ name, direction: 'egress', of: out, pin: `out-${name}` }) as const),
    ];
    const programs: NatProgram[] = [];
    for (const { name, direction, of, pin: pinName } of hooks) {
      const pin = join(root, 'links', pinName.replaceAll('.', ':'));
      const { tc = 'auto' } = program.interfaces.find((each) => each.name === name) ?? {};
      const mode = await placeProgram(of, object, { interface: name, direction, root, pin }, tc, swaps, open);
      programs.push({ interface: name, program: of.name, mode, tag: of.tag });
    }
    swaps.done();
    const start = object.program('nat_start');
    if (start.run(NO_PACKET, null).retval !== 1)
      throw new FairleadError('native', 'start the sweep of nat_connections: the kernel refused its timer');
    start.close();
    await tables.forget(); // what a daemon that died had not
    if (tables.room !== config.connections)
      warnings.push(
        `nat.connections: ${config.connections} wanted, the table there is has room for ${tables.room}: it keeps its size, with its connections, until: fairlead detach`,
      );
    dropOtherLayouts(program.bpffs, warnings);
    return { ...tables, programs };
  } finally {
    for (const each of [...open, nat, out, object, ...Object.values(adopted)]) each.close();
  }
}

/** Whether an earlier daemon has left NAT running. */
export const hasNat = (bpffs: string): boolean =>
  existsSync(pinRoot(bpffs)) &&
  natRoots(pinRoot(bpffs)).some((root) => existsSync(join(root, 'maps', 'nat_connections')));

/** A pool as user space made it, without what is taken and put back since. */
export interface PoolShape {
  readonly start: number; // its first entry in nat_ring
  readonly size: number; // entries, a power of two
  readonly address: readonly Uint8Array[]; // 4 or 16 bytes each
}

/** The pool with this number; null when it was never made. */
export function readPool({ pools }: NatTables, number: number): PoolShape | null {
  const { start, mask, address } = NatPool.decode(pools.subarray(number * NatPool.size, (number + 1) * NatPool.size));
  if (mask === 0) return null;
  const all = Array.from({ length: NatLimit.POOL_SIZE }, (_, at) => address.subarray(at * 16, (at + 1) * 16));
  return {
    start,
    size: mask + 1,
    address: all.filter((each) => each.some((byte) => byte !== 0)).map((each) => each.slice()),
  };
}

/** Makes a pool, with all ports of its addresses to be had in an order of chance. Pool 0 has none: ids begin to come in as connections end. */
export function writePool(tables: NatTables, number: number, { start, size, address }: PoolShape): void {
  const entries = address.flatMap((_, at) => natPorts().map((port) => (at << 16) | port));
  for (let at = entries.length - 1; at > 0; at--) {
    const other = Math.floor(Math.random() * (at + 1));
    [entries[at], entries[other]] = [entries[other] ?? 0, entries[at] ?? 0];
  }
  for (const [at, entry] of entries.entries()) tables.ring[(start + at) * 2] = entry; // an element takes 8 bytes
  const all = new Uint8Array(16 * NatLimit.POOL_SIZE);
  for (const [at, each] of address.entries()) all.set(each, 16 * at);
  const head = { head: 0n, tail: BigInt(entries.length), start, mask: size - 1, address: all };
  tables.pools.set(NatPool.encode(head), number * NatPool.size);
}

/** Room in nat_ring for a pool of so many entries behind those that are there; null when there is none. */
export function placePool(tables: NatTables, size: number): number | null {
  let end = 0;
  for (let number = 0; number < NatLimit.POOLS; number++) {
    const pool = readPool(tables, number);
    if (pool) end = Math.max(end, pool.start + pool.size);
  }
  return end + size <= tables.ring.length / 2 ? end : null;
}

/** What a request of this service is translated with. */
export const writeNatService = (tables: NatTables, number: number, value: NatService): void =>
  tables.services.set(NatService.encode(value), number * NatService.size);

export const readNatService = (tables: NatTables, number: number): NatService =>
  NatService.decode(tables.services.subarray(number * NatService.size, (number + 1) * NatService.size));

function writeTimeouts({ timeouts }: NatTables, wanted: NatTimeouts): void {
  const ticks = (seconds: number): number => Math.max(1, Math.round((seconds * 1e9) / native.tickNs()));
  const rows = [
    [NatState.NEW, wanted.tcpNew, wanted.udpNew],
    [NatState.ESTABLISHED, wanted.tcpEstablished, wanted.udpEstablished],
    [NatState.CLOSING, wanted.tcpClosing, wanted.udpEstablished],
    [NatState.CLOSED, wanted.tcpClosed, wanted.udpEstablished],
  ] as const;
  const step = 2; // an element of a mapped array takes 8 bytes
  for (const [state, tcp, other] of rows) {
    timeouts[state * step] = ticks(tcp);
    timeouts[(NatState.STATES + state) * step] = ticks(other);
  }
}
