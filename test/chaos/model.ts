// SPDX-License-Identifier: Apache-2.0
// The model checker: what etcd holds, what each daemon says that it holds, and what is read back from each kernel are the same.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import { desired } from '../../src/controlplane/desired.js';
import { take } from '../../src/controlplane/etcd/documents.js';
import { keysBelow } from '../../src/controlplane/etcd/keys.js';
import { addressText, type KernelRing, readKernel } from '../../src/controlplane/kernel-state.js';
import type { NextHop } from '../../src/controlplane/next-hops.js';
import { adoptNumbering, assignNumbers } from '../../src/controlplane/numbering.js';
import { plan } from '../../src/controlplane/plan.js';
import { limitsOf } from '../../src/controlplane/reconciler.js';
import { MapShape } from '../../src/dataplane/abi.gen.js';
import { type MapName, type Maps, openMaps } from '../../src/dataplane/maps.js';
import { type NativeMap, type NativeProgram, native } from '../../src/dataplane/native.js';
import { mapPin } from '../../src/dataplane/pins.js';
import { ROW_WORDS, readBackend } from '../../src/dataplane/tables.js';
import type { Lab, LabDaemon } from '../../src/lab/daemon.js';
import { run } from '../../src/lab/netns.js';
import { labInterface, labMtu } from '../../src/lab/topology.js';
import type { Pool, Snapshot } from '../../src/model/objects.js';

/** A document as etcd holds it. */
interface Document {
  readonly key: string;
  readonly text: string;
  readonly revision: number;
}

/** What steers packets and is written by the daemon alone; the other maps are the packets' own. */
const WRITTEN = ['services', 'vip_filter', 'pools', 'ring_rows', 'backends', 'service_options'] as const;
const KEYS = keysBelow('/fairlead/');

const bpffsOf = ({ directory }: Lab, at: number): string => (at === 0 ? directory : `${directory}/lb${at + 1}`);

/** The maps of a balancer, by their pins, whoever runs there. */
async function withMaps<T>(lab: Lab, at: number, use: (maps: Maps) => Promise<T>): Promise<T> {
  const open = (Object.keys(MapShape) as MapName[]).map(
    (name) => [name, native.openMap(mapPin(`${bpffsOf(lab, at)}/bpf`, name))] as const,
  );
  const noClock = { close: () => undefined } as NativeProgram; // nobody here asks for the time
  const maps = openMaps(Object.fromEntries(open) as Record<MapName, NativeMap>, noClock);
  try {
    return await use(maps);
  } finally {
    maps.close();
  }
}

/** A digest of every byte the daemons have written to their kernels, by balancer and map. */
export async function writtenBytes(lab: Lab): Promise<ReadonlyMap<string, string>> {
  const found = new Map<string, string>();
  for (const [at, { balancer }] of lab.daemons.entries())
    await withMaps(lab, at, async ({ handle }) => {
      for (const name of WRITTEN)
        found.set(
          `${balancer.name} ${name}`,
          createHash('sha256').update(new Uint8Array(handle[name].mmap())).digest('hex'),
        );
    });
  return found;
}

async function documentsOf({ etcd }: Lab): Promise<readonly Document[]> {
  const answer = (await etcd?.ctl('get', '--prefix', '/fairlead/v1/', '-w', 'json')) ?? '{}';
  type Answer = { readonly kvs?: readonly { key: string; value: string; mod_revision: number }[] };
  const text = (base64: string): string => Buffer.from(base64, 'base64').toString();
  return ((JSON.parse(answer) as Answer).kvs ?? [])
    .map(({ key, value, mod_revision: revision }) => ({ key: text(key), text: text(value), revision }))
    .filter(({ key }) => KEYS.parse(key) !== null);
}

/** Documents as the API shows objects: in order of their keys, with their revisions. */
const asShown = (documents: readonly Document[]): readonly unknown[] =>
  documents.map(({ key, text, revision }) => {
    const { writeId: _, ringLog: __, health, ...value } = JSON.parse(text);
    return { kind: KEYS.parse(key)?.kind, ...value, revision: health?.revision ?? revision };
  });

async function shownBy({ api }: LabDaemon): Promise<readonly unknown[]> {
  const all = async (kind: 'pool' | 'service'): Promise<readonly unknown[]> => {
    const { items } = (await api('GET', `/api/v1/${kind}s?limit=1000`)) as { readonly items: readonly object[] };
    return items.map((item) => {
      const { status: _, ...value } = item as { readonly status: unknown };
      return { kind, ...value };
    });
  };
  return [...(await all('pool')), ...(await all('service'))];
}

async function snapshotOf(documents: readonly Document[]): Promise<Snapshot> {
  const updates = new Map(documents.map(({ key, text, revision }) => [key, { value: text, revision }]));
  const empty = { revision: 0, hashKey: '', pools: new Map(), services: new Map() };
  const { snapshot, skipped } = await take({ snapshot: empty, skipped: new Map() }, KEYS, updates);
  assert.deepEqual([...skipped], [], 'all documents are in force');
  return snapshot;
}

interface LabLink {
  readonly ifindex: number;
  readonly address: string;
}

/** The lab's backends by address: all are on one link with the balancers, and there `ip link` says who they are. */
async function waysFrom({ topology }: Lab, { balancer }: LabDaemon): Promise<ReadonlyMap<string, NextHop>> {
  const linkOf = async (namespace: string): Promise<{ readonly index: number; readonly mac: Uint8Array }> => {
    const [link] = JSON.parse(await run('ip', ['-n', namespace, '-j', 'link', 'show', labInterface])) as [LabLink];
    return { index: link.ifindex, mac: Uint8Array.from(Buffer.from(link.address.replaceAll(':', ''), 'hex')) };
  };
  const own = await linkOf(balancer.namespace);
  const common = { interface: own.index, interfaceName: labInterface, sourceMac: own.mac, mtu: labMtu, tags: [] };
  const ways = new Map<string, NextHop>();
  for (const { namespace, address4, address6 } of topology.backends) {
    const { mac } = await linkOf(namespace);
    for (const address of [address4, address6]) ways.set(address, { ...common, mac, onLink: true });
  }
  return ways;
}

/** A ring in the kernel as addresses and ports, whatever numbers the node gave them: a digest of all rows, and who owns some now. */
function ringIn(maps: Maps, { rows }: { readonly rows: Uint16Array }): { digest: string; owners: readonly string[] } {
  const names = new Map<number, string>([[0, '']]);
  const nameOf = (number: number): string => {
    let name = names.get(number);
    if (name === undefined) {
      const entry = readBackend(maps, number);
      name = `${addressText(entry)} ${entry.port}`;
      names.set(number, name);
    }
    return name;
  };
  const hash = createHash('sha256');
  const owners = new Set<string>();
  for (const [at, number] of rows.entries()) {
    hash.update(`${nameOf(number)},`);
    if (at % ROW_WORDS === 0) owners.add(nameOf(number));
  }
  return { digest: hash.digest('hex').slice(0, 16), owners: [...owners].sort() };
}

/** Who is to own rows of a pool, by its document alone. */
const ownersIn = (pool: Pool): readonly string[] =>
  pool.backends
    .filter(({ state, weight }) => state === 'active' && weight > 0)
    .map(({ address, port = 0 }) => `${address} ${port}`)
    .sort();

/** Two rings of a pool, told apart in a line. */
function ringStep(pool: number, have: KernelRing | undefined, want: KernelRing): string {
  const differ = [...want.rows.keys()].filter(
    (at) => at % ROW_WORDS === 0 && rowAt(have?.rows, at) !== rowAt(want.rows, at),
  );
  const [first = 0] = differ;
  const row = `${differ.length} rows, as ${first / ROW_WORDS}: [${rowAt(have?.rows, first)}] to be [${rowAt(want.rows, first)}]`;
  return `set-ring ${pool}: generation ${have?.generation} to be ${want.generation}; ${row}`;
}

const rowAt = (rows: Uint16Array | undefined, at: number): string => `${rows?.subarray(at, at + ROW_WORDS)}`;

async function kernelIsAs(lab: Lab, at: number, snapshot: Snapshot): Promise<readonly string[]> {
  const daemon = lab.daemons[at] ?? assert.fail();
  const ways = await waysFrom(lab, daemon);
  return withMaps(lab, at, async (maps) => {
    const have = await readKernel(maps);
    const numbering = await adoptNumbering(have, snapshot);
    assignNumbers(numbering, snapshot, limitsOf(maps));
    const want = await desired(snapshot, numbering, ways, new Map());
    const steps = plan(have, want, () => 0).map((step) => {
      if (step.do === 'set-backend') return { ...step, instead: have.backends.get(step.number) };
      return step.do === 'set-ring' ? ringStep(step.pool, have.rings.get(step.pool), step.ring) : step.do;
    });
    assert.deepEqual(steps.slice(0, 3), [], `${daemon.balancer.name}: a daemon that starts now finds nothing to do`);
    return [...snapshot.pools].map(([name, { value }]) => {
      const ring = have.rings.get(numbering.pools.get(name)?.number ?? -1) ?? assert.fail(`no ring of ${name}`);
      const { digest, owners } = ringIn(maps, ring);
      assert.deepEqual(owners, ownersIn(value), `${daemon.balancer.name}: owners of rows of ${name}`);
      return `${name} generation ${ring.generation} ${digest}`;
    });
  });
}

/**
 * Throws an AssertionError when anything differs now. Of a kernel: what a daemon that began with etcd's documents, and next hops from `ip link`, would
 * write is nothing; the rows belong to whom the documents say; and both have the same.
 */
async function compare(lab: Lab): Promise<void> {
  const documents = await documentsOf(lab);
  assert.ok(documents.length > 0, 'etcd has documents');
  for (const daemon of lab.daemons)
    assert.deepEqual(await shownBy(daemon), asShown(documents), `${daemon.balancer.name}: its store is etcd`);
  const snapshot = await snapshotOf(documents);
  const [first, ...others] = await Promise.all(lab.daemons.map((_, at) => kernelIsAs(lab, at, snapshot)));
  for (const other of others) assert.deepEqual(other, first, 'the same rings, bit by bit');
}

/** Resolves when all of it is the same, within `ms`; rejects with the last difference. */
export async function allTheSame(lab: Lab, ms = 15_000): Promise<void> {
  for (const end = Date.now() + ms; ; await pause(100))
    try {
      return await compare(lab);
    } catch (error) {
      if (Date.now() > end) throw error;
    }
}
