// SPDX-License-Identifier: Apache-2.0
// Where things are in etcd.
import { type KeyRange, prefixRange } from './client.js';

export interface Keys {
  /** The cluster's secret and its format; made once, never changed. */
  readonly cluster: string;
  /** Written with every write of ours: what a write depends on has not changed when this has not. */
  readonly revision: string;
  /** Pools, `revision` and services, and nothing else: one range, so that one watch has the changes of one write in one message. */
  readonly documents: KeyRange;
  /** Everything below `{prefix}v1/`. */
  readonly all: KeyRange;
  service(name: string): string;
  pool(name: string): string;
  /** A key of `documents` as kind and name; null for any other. */
  parse(key: string): { readonly kind: 'service' | 'pool'; readonly name: string } | null;
  /** A key under a lease, as `nodes/edge-1`. */
  below(path: string): string;
  /** The part behind `{prefix}v1/`. */
  short(key: string): string;
}

/** The keys below `prefix`, which ends with '/'. */
export function keysBelow(prefix: string): Keys {
  const root = `${prefix}v1/`;
  const pools = `${root}pools/`;
  const services = `${root}services/`;
  return {
    cluster: `${root}cluster`,
    revision: `${root}revision`, // sorts between pools and services
    documents: { from: pools, to: prefixRange(services).to },
    all: prefixRange(root),
    service: (name) => services + name,
    pool: (name) => pools + name,
    parse(key) {
      if (key.startsWith(pools)) return { kind: 'pool', name: key.slice(pools.length) };
      if (key.startsWith(services)) return { kind: 'service', name: key.slice(services.length) };
      return null;
    },
    below: (path) => root + path,
    short: (key) => (key.startsWith(root) ? key.slice(root.length) : key),
  };
}
