// SPDX-License-Identifier: Apache-2.0
// Snapshots made by hand and by chance, for the tests of the control plane.
import type { NextHop } from '../../src/controlplane/next-hops.js';
import type { Backend, Pool, Service, Snapshot } from '../../src/model/objects.js';

export const HOP: NextHop = {
  interface: 1,
  interfaceName: 'lo',
  mac: Uint8Array.of(2, 0, 0, 0, 0, 9),
  sourceMac: Uint8Array.of(2, 0, 0, 0, 0, 1),
  onLink: true,
  mtu: 1500,
  tags: [],
};

export const backendOf = (address: string, more: Partial<Backend> = {}): Backend => ({
  name: `at-${address}`,
  address,
  weight: 100,
  state: 'active',
  ...more,
});

export const poolOf = (name: string, backends: readonly Backend[], size = 0): Pool => ({
  name,
  backends,
  ring: { size },
});

/** `count` backends 10.0.HIGH.1, 10.0.HIGH.2, ... */
export const backendsOf = (count: number, high = 0): Backend[] =>
  Array.from({ length: count }, (_, at) => backendOf(`10.0.${high}.${at + 1}`));

export const serviceOf = (name: string, pool: string, port = 80, address = '192.0.2.1'): Service => ({
  name,
  address,
  port,
  protocol: 'tcp',
  pool,
  forwarding: 'ipip',
  affinity: 'flow',
});

export function snapshotOf(pools: readonly Pool[], services: readonly Service[], revision = 1): Snapshot {
  const stored = <T extends { readonly name: string }>(objects: readonly T[]) =>
    new Map(objects.map((value) => [value.name, { value, revision }]));
  return { revision, hashKey: '00'.repeat(16), pools: stored(pools), services: stored(services) };
}

/** A cluster that changes by chance, within what the API lets through. */
export interface World {
  /** One to three changes at once. */
  change(): void;
  snapshot(): Snapshot;
  /** Where each backend's next hop is now, null for some. */
  hops(): Map<string, NextHop | null>;
}

export function randomWorld(random: () => number): World {
  const pools = new Map<string, Pool>();
  const services = new Map<string, Service>();
  const lost = new Set<string>();
  let made = 0;
  let revision = 0;
  const below = (bound: number): number => Math.floor(random() * bound);
  const anyOf = <T>(values: Iterable<T>): T | undefined => {
    const all = [...values];
    return all[below(all.length)];
  };
  const setPool = (pool: Pool): void => void pools.set(pool.name, pool);
  const used = (name: string): boolean => [...services.values()].some(({ pool }) => pool === name);
  const setBackends = (pool: Pool | undefined, change: (backends: readonly Backend[]) => readonly Backend[]): void => {
    if (pool) setPool({ ...pool, backends: change(pool.backends) });
  };
  const someBackend = (change: (backend: Backend) => Backend): void =>
    setBackends(anyOf(pools.values()), (backends) => {
      const chosen = anyOf(backends);
      return backends.map((backend) => (backend === chosen ? change(backend) : backend));
    });
  // Pools share addresses, a pool never has one twice.
  const newBackends = (pool: Pool, count: number): Backend[] =>
    Array.from({ length: count }, () => `10.0.0.${1 + below(60)}`)
      .filter((address, at, all) => all.indexOf(address) === at)
      .filter((address) => !pool.backends.some((b) => b.address === address))
      .map((address) => backendOf(address, { name: `b${++made}` }));

  const changes: readonly (() => void)[] = [
    () => setPool(poolOf(`p${++made}`, newBackends(poolOf('', []), below(5)))),
    () => {
      const pool = anyOf(pools.values());
      if (pool && !used(pool.name)) pools.delete(pool.name);
    },
    // a rename: the pool under a new name, and all its services to it
    () => {
      const pool = anyOf(pools.values());
      if (!pool) return;
      const renamed = { ...pool, name: `p${++made}` };
      setPool(renamed);
      for (const s of services.values()) if (s.pool === pool.name) services.set(s.name, { ...s, pool: renamed.name });
      pools.delete(pool.name);
    },
    () => setBackends(anyOf(pools.values()), (all) => [...all]),
    () => {
      const pool = anyOf(pools.values());
      if (pool) setBackends(pool, (all) => [...all, ...newBackends(pool, 1 + below(8))]);
    },
    () => setBackends(anyOf(pools.values()), (all) => all.filter(() => random() < 0.7)),
    () => someBackend((b) => ({ ...b, weight: below(4) * 50 })),
    () => someBackend((b) => ({ ...b, state: anyOf(['active', 'drain', 'disabled'] as const) ?? 'active' })),
    () => {
      const pool = anyOf(pools.values());
      const [fresh] = pool ? newBackends(pool, 1) : [];
      if (pool && fresh) setBackends(pool, (all) => all.map((b, at) => (at ? b : { ...b, address: fresh.address })));
    },
    () => {
      const pool = anyOf(pools.values());
      const port = 1 + below(12);
      const address = `192.0.2.${1 + below(3)}`;
      const name = `s-${address}-${port}`;
      if (pool) services.set(name, serviceOf(name, pool.name, port, address));
    },
    () => void services.delete(anyOf(services.keys()) ?? ''),
    () => void lost.add(`10.0.0.${1 + below(60)}`),
    () => void lost.delete(anyOf(lost) ?? ''),
  ];
  return {
    change() {
      for (let left = 1 + below(3); left > 0; left--) anyOf(changes)?.();
      revision++;
    },
    snapshot: () => snapshotOf([...pools.values()], [...services.values()], revision),
    hops: () =>
      new Map(
        [...pools.values()].flatMap(({ backends }) =>
          backends.map((b) => [b.address, lost.has(b.address) ? null : HOP]),
        ),
      ),
  };
}
