// SPDX-License-Identifier: Apache-2.0
// What services with forwarding 'nat' want of tc_nat's tables: written before they are in the table of services.

import {
  type NatTables,
  natPorts,
  type PoolShape,
  placePool,
  readPool,
  writeNatService,
  writePool,
} from '../dataplane/nat.js';
import { NatLimit } from '../dataplane/nat-abi.gen.js';
import { clearNatOutcomes } from '../dataplane/nat-outcomes.js';
import { familyOf, parseAddress } from '../model/address.js';
import { FairleadError } from '../model/errors.js';
import type { Service, Snapshot } from '../model/objects.js';
import { serviceKeyId } from './kernel-state.js';
import type { Numbering } from './numbering.js';
import type { Step } from './plan.js';

/** The node's addresses for `snat: auto`; null: it has none. */
export interface NatSources {
  readonly source: string | null;
  readonly source6: string | null;
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const field = (address: string): Uint8Array => {
  const bytes = new Uint8Array(16);
  bytes.set(parseAddress(address).bytes);
  return bytes;
};

/** The addresses a service's sources are translated to; null: they stay. Throws 'invalid' when the node has none of that family. */
function sourcesOf(service: Service, { source, source6 }: NatSources): readonly string[] | null {
  const { snat = 'auto' } = service;
  if (snat === 'none') return null;
  if (snat !== 'auto') return snat;
  const own = familyOf(service.address) === 4 ? source : source6;
  if (own === null) {
    const key = familyOf(service.address) === 4 ? 'nat.source' : 'nat.source6';
    throw new FairleadError('invalid', `translate sources of service "${service.name}": ${key} is not set`);
  }
  return [own];
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
    const addresses = sourcesOf(service, sources);
    const pool = addresses === null ? 0 : poolNumber(tables, pools, addresses);
    writeNatService(tables, number, { address: field(service.address), pool });
  }
}
