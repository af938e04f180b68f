// SPDX-License-Identifier: Apache-2.0
// What services want beyond an entry in the table of services: options, lists of sources, QUIC server IDs. Written before a service
// asks for it with its flags, taken away once none does.
import {
  KeyKind,
  QuicKey,
  QuicLengths,
  type Service as ServiceEntryValue,
  ServiceFlag,
  ServiceOptions,
} from '../dataplane/abi.gen.js';
import type { Maps } from '../dataplane/maps.js';
import { native } from '../dataplane/native.js';
import { deleteService, servicesIn, writeService } from '../dataplane/services.js';
import { addSources, listNumber, readSources, removeSources } from '../dataplane/sources.js';
import { familyOf } from '../model/address.js';
import { FairleadError } from '../model/errors.js';
import type { Service, Snapshot } from '../model/objects.js';
import { fragmentsKey, type KernelService, keyId, once, serviceKey, serviceKeyId } from './kernel-state.js';
import type { NextHop } from './next-hops.js';
import type { Numbering, PoolNumbers, ServiceNumbers } from './numbering.js';
import { slices } from './slices.js';

/** The bits of ServiceFlag this service wants. */
export function flagsOf(service: Service): number {
  return (
    (service.forwarding === 'gue' ? ServiceFlag.GUE : 0) |
    (service.forwarding === 'l2' ? ServiceFlag.L2 : 0) |
    (service.forwarding === 'nat' ? ServiceFlag.NAT : 0) |
    (service.affinity === 'source' ? ServiceFlag.SOURCE : 0) |
    (service.affinity === 'quic-cid' ? ServiceFlag.QUIC : 0) |
    (service.flowMemory === false ? ServiceFlag.STATELESS : 0) |
    (service.allow?.length ? ServiceFlag.ALLOW : 0) |
    (service.deny?.length ? ServiceFlag.DENY : 0) |
    (service.rateLimit ? ServiceFlag.RATE : 0)
  );
}

/**
 * Throws 'full' unless lists and server IDs fit beside those the kernel holds for `now`. A list is changed by adding first, so the
 * largest must fit once more.
 */
export function admitSettings(maps: Maps, now: Snapshot, next: Snapshot): void {
  const refuse = (
    count: number,
    what: string,
    { info }: { readonly info: { maxEntries: number } },
    pointer: string,
  ) => {
    if (count <= info.maxEntries) return;
    const detail = `${count} ${what} wanted, there is room for ${info.maxEntries}`;
    throw new FairleadError('full', `the node is full: ${detail}`, [{ pointer, detail }]);
  };
  const lists = { 4: [0], 6: [0] };
  for (const { value } of new Map([...now.services, ...next.services]).values()) {
    for (const list of [value.allow, value.deny]) if (list?.length) lists[familyOf(value.address)].push(list.length);
  }
  for (const [family, map] of [
    [4, maps.handle.sources4],
    [6, maps.handle.sources6],
  ] as const) {
    const count = lists[family].reduce((sum, size) => sum + size, 0) + Math.max(...lists[family]);
    refuse(count, `IPv${family} prefixes in lists (the longest once more, for a change)`, map, '');
  }
  let ids = 0;
  for (const { value } of new Map([...now.pools, ...next.pools]).values())
    for (const backend of value.backends) ids += backend.serverIds?.length ?? 0;
  refuse(ids, 'server IDs', maps.handle.quic_servers, '/backends');
}

/** What the program must have for these services. */
export const featuresOf = (snapshot: Snapshot): number =>
  [...snapshot.services.values()].reduce((all, { value }) => all | flagsOf(value), 0);

/** The mask of an address of which the first `bits` count, as in struct service_options. */
function prefixMask(bits: number): Uint8Array {
  return Uint8Array.from({ length: 16 }, (_, at) => 0xff00 >> Math.min(8, Math.max(0, bits - at * 8)));
}

function optionsOf(service: Service, natMtu: number): ServiceOptions {
  const v6 = familyOf(service.address) === 6;
  const bits = (v6 ? service.affinityPrefix?.ipv6 : service.affinityPrefix?.ipv4) ?? (v6 ? 128 : 32);
  const { packetsPerSecond = 1, burst = 1 } = service.rateLimit ?? {};
  const interval = BigInt(Math.round(1e9 / packetsPerSecond));
  return {
    sourceMask: prefixMask(bits),
    rateIntervalNs: interval,
    rateBurstNs: interval * BigInt(burst),
    natMtu,
  };
}

const NO_IDS = new Uint8Array(QuicLengths.size);

/** A key of quic_servers in hex. */
function serverKey(pool: number, config: number, id: string): string {
  const bytes = Buffer.from(id, 'hex');
  const key = { pool, config, length: bytes.length, id: Buffer.concat([bytes], 16) };
  return Buffer.from(QuicKey.encode(key)).toString('hex');
}

/** What the table of services says of this one. */
export function serviceEntry(service: Service, numbers: ServiceNumbers, pool: PoolNumbers): ServiceEntryValue {
  const { number, countersStart } = numbers;
  return { number, pool: pool.number, countersStart, flags: flagsOf(service) };
}

type Aliases = ReadonlyMap<string, KernelService>;

const fragmentsOf = once((service: Service) => {
  const key = fragmentsKey(serviceKey(service));
  return { key, id: keyId(key) };
});

/** By its key in hex: whose fragments are that come early, where an address has one service of a protocol. */
async function soleServices(snapshot: Snapshot, numbering: Numbering): Promise<Aliases> {
  const pause = slices();
  const sole = new Map<string, KernelService | null>();
  for (const { value: service } of snapshot.services.values()) {
    const numbers = numbering.services.get(serviceKeyId(service));
    const pool = snapshot.pools.has(service.pool) && numbering.pools.get(service.pool);
    if (!numbers || !pool) continue;
    const { id, key } = fragmentsOf(service);
    sole.set(id, sole.has(id) ? null : { key, value: serviceEntry(service, numbers, pool) });
    const turn = pause();
    if (turn) await turn;
  }
  return new Map([...sole].flatMap(([id, only]) => (only ? [[id, only] as const] : [])));
}

const sameValue = (a: ServiceEntryValue, b: ServiceEntryValue | undefined): boolean =>
  a.number === b?.number && a.pool === b.pool && a.countersStart === b.countersStart && a.flags === b.flags;

type NextHops = ReadonlyMap<string, NextHop | null>;

type Prefixes = readonly string[] | ReadonlySet<string>;

/** Lists by listNumber, server IDs by key, lengths by pool. */
interface Settings {
  readonly options: Map<number, ServiceOptions>;
  readonly lists: Map<number, readonly string[]>;
  readonly servers: Map<string, number>;
  readonly lengths: Map<number, Uint8Array>;
}

/** What an IPv6 header is longer than one of IPv4. */
const GROWTH = 20;

/** What fits all ways to backends of the service, IP bytes as they come in; 0: none is known. */
function narrowest(snapshot: Snapshot, { address, pool }: Service, hops: NextHops): number {
  const grows = (to: string): number => (familyOf(address) === 4 && familyOf(to) === 6 ? GROWTH : 0);
  const ways = (snapshot.pools.get(pool)?.value.backends ?? []).flatMap(({ address: to }) => {
    const mtu = hops.get(to)?.mtu;
    return mtu === undefined ? [] : [mtu - grows(to)];
  });
  return ways.length === 0 ? 0 : Math.min(...ways);
}

async function wanted(snapshot: Snapshot, numbering: Numbering, hops: NextHops): Promise<Settings> {
  const want: Settings = { options: new Map(), lists: new Map(), servers: new Map(), lengths: new Map() };
  const pause = slices();
  for (const { value: service } of snapshot.services.values()) {
    const number = numbering.services.get(serviceKeyId(service))?.number;
    if (number === undefined) continue;
    if (flagsOf(service) & (ServiceFlag.SOURCE | ServiceFlag.RATE | ServiceFlag.NAT)) {
      const nat = service.forwarding === 'nat';
      want.options.set(number, optionsOf(service, nat ? narrowest(snapshot, service, hops) : 0));
    }
    if (service.allow?.length) want.lists.set(listNumber(number, false), service.allow);
    if (service.deny?.length) want.lists.set(listNumber(number, true), service.deny);
    const turn = pause();
    if (turn) await turn;
  }
  for (const [name, { value: pool }] of snapshot.pools) {
    const numbers = numbering.pools.get(name);
    if (!numbers || !pool.backends.some((backend) => backend.serverIds?.length)) continue;
    const length = new Uint8Array(QuicLengths.size);
    for (const backend of pool.backends) {
      const number = numbers.members.get(backend.address)?.number ?? 0;
      for (const { config, id } of backend.serverIds ?? []) {
        length[config] = id.length / 2;
        want.servers.set(serverKey(numbers.number, config, id), number);
      }
      const turn = pause();
      if (turn) await turn;
    }
    want.lengths.set(numbers.number, length);
  }
  return want;
}

/** What `list` has and `without` has not. */
async function difference(list: Prefixes, without: ReadonlySet<string>): Promise<string[]> {
  if (without.size === 0) return [...list];
  const pause = slices();
  const rest: string[] = [];
  for (const prefix of list) {
    if (!without.has(prefix)) rest.push(prefix);
    const turn = pause();
    if (turn) await turn;
  }
  return rest;
}

async function setOf(list: Prefixes): Promise<ReadonlySet<string>> {
  if (list instanceof Set) return list;
  const pause = slices();
  const all = new Set<string>();
  for (const prefix of list) {
    all.add(prefix);
    const turn = pause();
    if (turn) await turn;
  }
  return all;
}

export interface SettingsWriter {
  /**
   * Before services appear: all that is wanted is there. A list that an earlier owner of a number left is made the wanted one too.
   * Resolves with whether that took a change, and with what is to run when no packet asks for the rest any more: it takes that away.
   */
  write(
    snapshot: Snapshot,
    numbering: Numbering,
    hops: NextHops,
  ): Promise<{ readonly changed: boolean; clean(): Promise<boolean> }>;
}

/** What is in the kernel is remembered, and read again this often: a difference heals within it. */
const READ_AGAIN_MS = 300_000;

export function openSettings(maps: Maps): SettingsWriter {
  const options = new Uint8Array(maps.handle.service_options.mmap());
  const lengths = new Uint8Array(maps.handle.quic_lengths.mmap());
  const noLengths = new Uint8Array(lengths.length);
  let lists = new Map<number, Prefixes>();
  let servers = new Map<string, number>();
  let readAt = Number.NEGATIVE_INFINITY;

  async function read(): Promise<void> {
    if (performance.now() - readAt < READ_AGAIN_MS) return;
    lists = await readSources(maps, slices());
    const all = await maps.handle.quic_servers.readAll();
    const values = new DataView(all.values.buffer, all.values.byteOffset);
    servers = new Map(
      Array.from({ length: all.count }, (_, at) => [
        Buffer.from(all.keys.subarray(at * QuicKey.size, (at + 1) * QuicKey.size)).toString('hex'),
        values.getUint32(at * 4, true),
      ]),
    );
    readAt = performance.now();
  }

  /** While a write is under way what the kernel holds is not known: a failure makes the next round read it. */
  async function writing(run: () => Promise<void>): Promise<void> {
    const known = readAt;
    readAt = Number.NEGATIVE_INFINITY;
    await run();
    readAt = known;
  }

  /** Makes a list hold these prefixes: first the new ones, then without the old ones. */
  async function setList(list: number, prefixes: readonly string[]): Promise<boolean> {
    const have = lists.get(list);
    if (have === prefixes) return false;
    const more = await difference(prefixes, await setOf(have ?? []));
    const less = have ? await difference(have, await setOf(prefixes)) : [];
    await writing(async () => {
      if (more.length > 0) await addSources(maps, list, more);
      if (less.length > 0) await removeSources(maps, list, less);
    });
    lists.set(list, prefixes);
    return more.length + less.length > 0;
  }

  async function dropList(list: number): Promise<void> {
    const have = [...(lists.get(list) ?? [])];
    await writing(() => removeSources(maps, list, have));
    lists.delete(list);
  }

  /** Writes bytes of mapped memory that differ, eight at a time, so that a packet sees whole words. */
  function store(memory: Uint8Array, at: number, bytes: Uint8Array): boolean {
    const words = new BigUint64Array(memory.buffer, memory.byteOffset + at, bytes.length / 8);
    const next = new BigUint64Array(bytes.slice().buffer);
    let changed = false;
    for (const [index, word] of next.entries()) {
      if (words[index] === word) continue;
      Atomics.store(words, index, word);
      changed = true;
    }
    return changed;
  }

  const aliases = (): Map<string, KernelService> => new Map(servicesIn(maps, KeyKind.FRAGMENTS));

  /** See SettingsWriter.write. */
  async function prepare(want: Settings, sole: Aliases, have: Map<string, KernelService>): Promise<boolean> {
    const pause = slices();
    let changed = false;
    for (const [number, value] of want.options) {
      changed = store(options, number * ServiceOptions.size, ServiceOptions.encode(value)) || changed;
    }
    for (const [list, prefixes] of want.lists) {
      changed = (await setList(list, prefixes)) || changed;
    }
    for (const [key, number] of want.servers) {
      const turn = pause();
      if (turn) await turn;
      if (servers.get(key) === number) continue;
      maps.handle.quic_servers.set(Buffer.from(key, 'hex'), new Uint8Array(Uint32Array.of(number).buffer), 0);
      servers.set(key, number);
      changed = true;
    }
    for (const [id, { key, value }] of have) {
      if (sameValue(value, sole.get(id)?.value)) continue;
      deleteService(maps, key);
      have.delete(id);
      changed = true;
    }
    for (const [pool, length] of want.lengths) changed = store(lengths, pool * QuicLengths.size, length) || changed;
    return changed;
  }

  async function clean(want: Settings, sole: Aliases, have: Aliases): Promise<boolean> {
    const pause = slices();
    const left = [...lists.keys()].filter((list) => !want.lists.has(list));
    let changed = left.length > 0;
    if (changed) await native.synchronize();
    for (const list of left) await dropList(list);
    for (const key of servers.keys()) {
      const turn = pause();
      if (turn) await turn;
      if (want.servers.has(key)) continue;
      maps.handle.quic_servers.delete(Buffer.from(key, 'hex'));
      servers.delete(key);
      changed = true;
    }
    if (want.lengths.size > 0 || Buffer.compare(lengths, noLengths) !== 0)
      for (let pool = 0; pool * QuicLengths.size < lengths.length; pool++) {
        if (!want.lengths.has(pool)) changed = store(lengths, pool * QuicLengths.size, NO_IDS) || changed;
      }
    for (const [id, { key, value }] of sole) {
      if (have.has(id)) continue;
      writeService(maps, key, value);
      changed = true;
    }
    return changed;
  }

  return {
    async write(snapshot, numbering, hops) {
      await read();
      const want = await wanted(snapshot, numbering, hops);
      const sole = await soleServices(snapshot, numbering);
      const have = aliases();
      return { changed: await prepare(want, sole, have), clean: () => clean(want, sole, have) };
    },
  };
}
