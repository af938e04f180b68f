// SPDX-License-Identifier: Apache-2.0
// Puts a model's tables into the kernel, through the daemon's own writers where it has one.
import { vipMarker } from '../../src/controlplane/kernel-state.js';
import {
  BackendFlag,
  KeyKind,
  QuicKey,
  QuicLengths,
  ServiceFlag,
  ServiceOptions,
  Source4Key,
  Source6Key,
} from '../../src/dataplane/abi.gen.js';
import type { Maps } from '../../src/dataplane/maps.js';
import { native } from '../../src/dataplane/native.js';
import { allowSplit, loadXdpLb, type ProgramConfig } from '../../src/dataplane/program.js';
import { writeService } from '../../src/dataplane/services.js';
import { ROW_WORDS, writeBackend, writeRingRef, writeRingRows } from '../../src/dataplane/tables.js';
import type { ModelBackend, ModelPool, ModelService, Prefix, World } from '../model/world.js';
import { openPacketPath, type PacketPath } from '../support/packet-path.js';

/** A packet path as the daemon attaches it to the interface test runs come in by: it may split packets. */
export const openSplitting = (config: Partial<ProgramConfig>): Promise<PacketPath> =>
  openPacketPath(config, async (whole) => {
    const object = await loadXdpLb(whole, 0, {});
    allowSplit(object, native.interfaceIndex('lo'));
    return object;
  });

const OTHER_INTERFACE = 4242; // nothing is sent there, so it need not exist
const ROWS_PER_POOL = 512;
const u32 = (value: number): Uint8Array => new Uint8Array(Uint32Array.of(value).buffer);

function field(address: Buffer): Uint8Array {
  const whole = new Uint8Array(16);
  whole.set(address);
  return whole;
}

export function putBackend(maps: Maps, backend: ModelBackend): void {
  const tag = new Uint8Array(8);
  tag.set(backend.tags);
  writeBackend(maps, backend.number, {
    address: field(backend.address),
    nextHopMac: backend.nextHopMac,
    flags:
      (backend.valid ? BackendFlag.VALID : 0) |
      (backend.down ? BackendFlag.DOWN : 0) |
      (backend.address.length === 16 ? BackendFlag.IPV6 : 0) |
      (backend.onLink ? BackendFlag.ON_LINK : 0),
    sourceMac: backend.sourceMac,
    slot: backend.slot,
    interface: backend.sameInterface ? native.interfaceIndex('lo') : OTHER_INTERFACE,
    pool: backend.pool,
    mtu: backend.mtu,
    port: 0,
    tagCount: backend.tags.length / 4,
    tag,
  });
}

export function putRing(maps: Maps, pool: number, ring: Uint16Array): void {
  writeRingRows(maps, pool * ROWS_PER_POOL, ring);
  writeRingRef(maps, pool, { start: pool * ROWS_PER_POOL, rows: ring.length / ROW_WORDS, generation: 1 });
}

function putPool(maps: Maps, pool: ModelPool): void {
  putRing(maps, pool.number, pool.ring);
  const length = new Uint8Array(8);
  length.set(pool.quicLengths);
  maps.handle.quic_lengths.set(u32(pool.number), QuicLengths.encode({ length }), 0);
  for (const [key, backend] of pool.quicServers) {
    const [config = '', hex = ''] = key.split(':');
    const id = Buffer.from(hex, 'hex');
    const entry = { pool: pool.number, config: Number(config), length: id.length, id: field(id) };
    maps.handle.quic_servers.set(QuicKey.encode(entry), u32(backend), 0);
  }
}

function putPrefix(maps: Maps, list: number, { address, bits }: Prefix): void {
  if (address.length === 4) {
    const key = Source4Key.encode({ prefixSize: 32 + bits, list, address: address.readUInt32BE(0) });
    maps.handle.sources4.set(key, u32(1), 0);
  } else {
    maps.handle.sources6.set(Source6Key.encode({ prefixSize: 32 + bits, list, address }), u32(1), 0);
  }
}

function putService(maps: Maps, service: ModelService, alone: boolean): void {
  const { number, pool, countersStart, flags, address, port, protocol } = service;
  const sourceMask = new Uint8Array(16);
  for (let bit = 0; bit < service.sourceBits; bit++)
    sourceMask[bit >> 3] = (sourceMask[bit >> 3] ?? 0) | (0x80 >> (bit & 7));
  const options = ServiceOptions.encode({
    sourceMask,
    rateIntervalNs: 1n,
    rateBurstNs: 1_000_000_000n,
    natMtu: service.natMtu,
  });
  maps.handle.service_options.set(u32(number), options, 0);
  if ((flags & ServiceFlag.ALLOW) !== 0) for (const prefix of service.allow) putPrefix(maps, number * 2, prefix);
  if ((flags & ServiceFlag.DENY) !== 0) for (const prefix of service.deny) putPrefix(maps, number * 2 + 1, prefix);
  const key = { address: field(address), port, protocol, family: address.length === 4 ? 4 : 6, kind: KeyKind.SERVICE };
  const value = { number, pool, countersStart, flags };
  writeService(maps, vipMarker(key), { number: 0, pool: 0, countersStart: 0, flags: 0 });
  writeService(maps, key, value);
  if (alone) writeService(maps, { ...key, port: 0, kind: KeyKind.FRAGMENTS }, value);
}

const LISTS = ['sources4', 'sources6', 'quic_servers', 'rates'] as const;

async function empty(maps: Maps, name: (typeof LISTS)[number] | 'fragments'): Promise<void> {
  const { count, keys } = await maps.handle[name].readAll();
  if (count > 0) await maps.handle[name].deleteBatch(count, keys);
}

/** The memory of fragments; entries of the kernel live two seconds only, so a run forgets them sooner. */
export async function forgetFragments(maps: Maps, world: World): Promise<void> {
  world.datagrams.clear();
  world.pairs.clear();
  await empty(maps, 'fragments');
}

/** Empties the kernel's tables and memories and fills them with what `world` says. */
export async function putWorld(maps: Maps, world: World): Promise<void> {
  maps.services.fill(0);
  maps.vipFilter.fill(0n);
  maps.pools.fill(0n);
  maps.backends.fill(0, 0, 64 * 64);
  for (const flows of [maps.flowsHot, maps.flowsCold]) new Uint8Array(flows).fill(0);
  for (const name of [...LISTS, 'fragments'] as const) await empty(maps, name);
  for (const backend of world.backends.values()) putBackend(maps, backend);
  for (const pool of world.pools.values()) putPool(maps, pool);
  for (const services of world.vips.values()) {
    for (const service of services) {
      putService(maps, service, services.filter(({ protocol }) => protocol === service.protocol).length === 1);
    }
  }
}
