// SPDX-License-Identifier: Apache-2.0
// What services with forwarding 'nat' want of tc_nat's tables: written before they are in the table of services.

import { ServiceFlag } from '../dataplane/abi.gen.js';
import {
  type NatTables,
  natPorts,
  type PoolShape,
  placePool,
  readNatService,
  readPool,
  writeNatService,
  writePool,
} from '../dataplane/nat.js';
import { MapShape, NatLimit, type NatService } from '../dataplane/nat-abi.gen.js';
import { clearNatOutcomes } from '../dataplane/nat-outcomes.js';
import { native } from '../dataplane/native.js';
import { familyOf, parseAddress } from '../model/address.js';
import { FairleadError } from '../model/errors.js';
import type { MssClamp, Service, Snapshot } from '../model/objects.js';
import { writePrefix } from '../model/prefix.js';
import type { EgressConfig } from './config-egress.js';
import { type KernelService, serviceKeyId } from './kernel-state.js';
import type { Numbering } from './numbering.js';
import type { Step } from './plan.js';

/** What the node's configuration says of NAT. */
export interface NatSources {
  /** Addresses for `snat: auto`; null: it has none. */
  readonly source: string | null;
  readonly source6: string | null;
  readonly egress: readonly EgressConfig[];
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const field = (address: string): Uint8Array => {
  const bytes = new Uint8Array(16);
  bytes.set(parseAddress(address).bytes);
  return bytes;
};

/**
 * The addresses of a family that a service's sources are translated to; null: there are none, or they stay. Throws 'invalid' when the node has
 * none of the service's own family.
 */
function sourcesOf(service: Service, family: 4 | 6, { source, source6 }: NatSources): readonly string[] | null {
  const { snat = 'auto' } = service;
  if (snat === 'none') return null;
  if (snat !== 'auto') {
    const listed = snat.filter((each) => familyOf(each) === family);
    return listed.length > 0 ? listed : null;
  }
  const own = family === 4 ? source : source6;
  if (own === null && familyOf(service.address) === family) {
    const key = family === 4 ? 'nat.source' : 'nat.source6';
    throw new FairleadError('invalid', `translate sources of service "${service.name}": ${key} is not set`);
  }
  return own === null ? null : [own];
}

/** Pools in the kernel: they stay, for connections may be using them. */
function poolsOf(tables: NatTables): Map<number, PoolShape> {
  const pools = new Map<number, PoolShape>();
  for (let number = 1; number < NatLimit.POOLS; number++) {
    const pool = readPool(tables, number);
    if (pool) pools.set(number, pool);
  }
  return pools;
}

/** The number of the pool of these addresses, made where there is none. Throws 'full', or 'conflict' when another pool has one of them. */
function poolNumber(tables: NatTables, pools: Map<number, PoolShape>, addresses: readonly string[]): number {
  const wanted = addresses.map(field);
  const name = wanted.map(hex).sort().join();
  for (const [number, { address }] of pools) {
    if (address.map(hex).sort().join() === name) return number;
    const shared = addresses.find((_, at) => address.some((each) => hex(each) === hex(wanted[at] ?? each)));
    if (shared !== undefined)
      throw new FairleadError(
        'conflict',
        `translate sources to ${addresses.join(', ')}: ${shared} is in another pool already`,
      );
  }
  const number = Array.from({ length: NatLimit.POOLS - 1 }, (_, at) => at + 1).find((each) => !pools.has(each));
  const size = 2 ** Math.ceil(Math.log2(natPorts().length * addresses.length));
  const start = placePool(tables, size);
  if (number === undefined || start === null)
    throw new FairleadError(
      'full',
      `translate sources to ${addresses.join(', ')}: nat_ring has no room for their ports`,
    );
  const pool = { start, size, address: wanted };
  writePool(tables, number, pool);
  pools.set(number, pool);
  return number;
}

const mssOf = (mss: MssClamp | undefined): number => (mss === 'auto' ? NatLimit.MSS_AUTO : (mss ?? 0));

const NO_SERVICE: NatService = { address: new Uint8Array(16), pool: 0, mss: 0, poolOther: 0, gone: 0 };

const isService = ({ address }: NatService): boolean => address.some((byte) => byte !== 0);

/**
 * Ends the connections of services that are not among these, and of backends that are not what their number says any more (`backends`: some have gone).
 * Before and after the steps that take them away: none is to be another one's when its number is given out again, also when a daemon dies
 * between, and none keeps its port.
 */
export async function forgetNat(
  tables: NatTables,
  services: ReadonlyMap<string, KernelService>,
  backends: boolean,
): Promise<void> {
  const known = new Set(
    [...services.values()].flatMap(({ value }) => (value.flags & ServiceFlag.NAT ? value.number : [])),
  );
  const left: number[] = [];
  for (let number = 1; number < MapShape.nat_services.maxEntries; number++)
    if (!known.has(number) && isService(readNatService(tables, number))) left.push(number);
  if (left.length === 0 && !backends) return;
  await native.synchronize(); // no packet is between its service and its connection
  for (const number of left) writeNatService(tables, number, { ...readNatService(tables, number), gone: 1 });
  await tables.forget();
  for (const number of left) writeNatService(tables, number, NO_SERVICE);
}

/** Gives every NAT service of the snapshot its entry, and those that `steps` begin anew counts of 0. Throws as poolNumber does. */
export function writeNat(
  tables: NatTables,
  snapshot: Snapshot,
  numbering: Numbering,
  sources: NatSources,
  steps: readonly Step[],
): void {
  for (const step of steps) if (step.do === 'clear-service') clearNatOutcomes(tables, step.number);
  const pools = poolsOf(tables);
  for (const { value: service } of snapshot.services.values()) {
    const number = numbering.services.get(serviceKeyId(service))?.number;
    if (service.forwarding !== 'nat' || number === undefined) continue;
    const poolOf = (family: 4 | 6): number => {
      const addresses = sourcesOf(service, family, sources);
      return addresses === null ? 0 : poolNumber(tables, pools, addresses);
    };
    const own = familyOf(service.address) === 4 ? 4 : 6;
    // A pool for the other family only where a backend is of it.
    const mixed = snapshot.pools.get(service.pool)?.value.backends.some((each) => familyOf(each.address) !== own);
    const poolOther = mixed ? poolOf(own === 4 ? 6 : 4) : 0;
    const value = { address: field(service.address), pool: poolOf(own), mss: mssOf(service.mss), poolOther, gone: 0 };
    writeNatService(tables, number, value);
  }
  writeEgress(tables, pools, sources.egress);
}

/** Prefixes that are translated on their way out, and no others. */
function writeEgress(tables: NatTables, pools: Map<number, PoolShape>, egress: readonly EgressConfig[]): void {
  const wanted = { nat_egress4: new Map<string, number>(), nat_egress6: new Map<string, number>() };
  for (const { from, to, mss } of egress) {
    const pool = (mssOf(mss) * 2 ** 16 + poolNumber(tables, pools, to)) >>> 0;
    for (const prefix of from) {
      const map = familyOf(prefix) === 6 ? 'nat_egress6' : 'nat_egress4';
      const key = new Uint8Array(MapShape[map].keySize);
      new Uint32Array(key.buffer, 0, 1)[0] = writePrefix(prefix, key, 4);
      wanted[map].set(hex(key), pool);
    }
  }
  for (const name of ['nat_egress4', 'nat_egress6'] as const) {
    const map = tables.handle[name];
    const there = new Map<string, number>();
    for (let key = map.nextKey(null); key; key = map.nextKey(key)) {
      const value = map.get(key) ?? new Uint8Array(4);
      there.set(hex(key), new DataView(value.buffer, value.byteOffset).getUint32(0, true));
    }
    for (const [key, pool] of wanted[name])
      if (there.get(key) !== pool) map.set(Buffer.from(key, 'hex'), new Uint8Array(Uint32Array.of(pool).buffer), 0);
    for (const key of there.keys()) if (!wanted[name].has(key)) map.delete(Buffer.from(key, 'hex'));
  }
}
