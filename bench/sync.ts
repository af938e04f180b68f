// SPDX-License-Identifier: Apache-2.0
// From a write in etcd to the packet that follows it, and what a large cluster costs the daemon. A real etcd, real maps, the real
// program; in a network namespace of its own, where etcd is on loopback and the backends are behind one router.
import assert from 'node:assert/strict';
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { openEtcdStore } from '../src/controlplane/etcd/store.js';
import { openMemoryStore } from '../src/controlplane/memory-store.js';
import { openNextHops } from '../src/controlplane/next-hops.js';
import { startReconciler } from '../src/controlplane/reconciler.js';
import type { Store } from '../src/controlplane/store.js';
import type { Backend, Pool, Service } from '../src/model/objects.js';
import { type Etcd, startEtcd } from '../test/support/etcd.js';
import { openPacketPath } from '../test/support/packet-path.js';
import { changeOf, openReconciled } from '../test/support/reconciled.js';
import { ask, mainFile } from '../test/support/serve.js';
import { backendOf, poolOf, serviceOf } from '../test/support/snapshots.js';

/** Milliseconds over so many changes. */
export interface Follow {
  readonly change: string;
  readonly changes: number;
  readonly medianMs: number;
  readonly p99Ms: number;
  readonly maxMs: number;
}

/** One size of cluster, kept by the daemon itself behind a real etcd. */
export interface Size {
  readonly services: number;
  readonly backends: number;
  readonly coldStartMs: number; // from its start to ready
  readonly memoryMB: number; // resident, at the most
  readonly cpuMsPer10s: number; // with nothing to do: a full comparison with the kernel, next hops asked for again, all else
  readonly longestMs: number; // meanwhile: the longest any of many requests on its socket took
}

/** A full reconcile that changes nothing, as every 10 seconds: everything is compared with the kernel, and a round follows. */
export interface Quiet {
  readonly services: number;
  readonly backends: number;
  readonly medianMs: number; // of the event loop's time
  readonly maxMs: number;
  /** How long turns of the loop took in which there was something to do, collecting garbage and what else runs on the machine included. */
  readonly sliceP99Ms: number;
  readonly sliceMaxMs: number;
}

export interface SyncResult {
  readonly follow: readonly Follow[];
  readonly quiet: Quiet;
  readonly sizes: readonly Size[];
}

const PREFIX = '/fairlead/';
const SILENT = { info: () => undefined, warn: () => undefined };
/** As many changes of each kind: enough for a 99th percentile. */
const CHANGES = 300;

/** What a test would be given: closers, run last first. */
function openScope() {
  const closers: (() => unknown)[] = [];
  return {
    t: { after: (close: () => unknown): void => void closers.unshift(close) },
    async close() {
      for (const close of closers) await close();
    },
  };
}

/** So many services, each with a pool of its own; ports of ten addresses. */
function clusterOf(services: number, backendsEach: number): { pools: Pool[]; services: Service[] } {
  const pools = Array.from({ length: services }, (_, pool) => {
    const member = (at: number): Backend => {
      const address = `10.${1 + Math.floor(pool / 250)}.${pool % 250}.${at + 1}`;
      return backendOf(address, { name: `b${at}` });
    };
    return poolOf(
      `p${pool}`,
      Array.from({ length: backendsEach }, (_, at) => member(at)),
    );
  });
  const made = pools.map(({ name }, at) => serviceOf(`s${at}`, name, 1000 + at, `192.0.2.${1 + (at % 10)}`));
  return { pools, services: made };
}

async function fill(store: Store, cluster: { pools: Pool[]; services: Service[] }): Promise<void> {
  const objects = [...cluster.pools, ...cluster.services];
  for (let at = 0; at < objects.length; at += 60) {
    await store.update(() => objects.slice(at, at + 60).map(changeOf));
  }
}

const openEtcd = (etcd: Etcd, name: string): Promise<Store> =>
  openEtcdStore({
    client: etcd.client(),
    prefix: PREFIX,
    snapshot: join(etcd.directory, `${name}.json`),
    endpoints: 1,
    log: SILENT,
  });

const quantile = (sorted: readonly number[], share: number): number =>
  sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? Number.NaN;

function followOf(change: string, ms: number[]): Follow {
  ms.sort((a, b) => a - b);
  const [medianMs, p99Ms, maxMs] = [quantile(ms, 0.5), quantile(ms, 0.99), quantile(ms, 1)];
  return { change, changes: ms.length, medianMs, p99Ms, maxMs };
}

/** Sends packets until `holds`, a turn of the event loop after each; ms from `since`. */
async function untilPacket(since: number, holds: () => boolean): Promise<number> {
  while (!holds()) {
    if (performance.now() - since > 10_000) throw new Error('no packet follows within 10 s');
    await nextTurn();
  }
  return performance.now() - since;
}

/** 100 services with 100 backends each. The clock runs from the moment etcd says that it has the write: from there on it is an event. */
async function follow(): Promise<Follow[]> {
  const scope = openScope();
  const etcd = await startEtcd(scope.t);
  const writer = await openEtcd(etcd, 'writer');
  etcd.using(writer);
  const cluster = clusterOf(100, 100);
  await fill(writer, cluster);
  const store = await openEtcd(etcd, 'node');
  etcd.using(store);
  const node = await openReconciled(scope.t, { store });
  const results = new Map<string, number[]>();
  const timed = async (kind: string, object: Pool | Service, remove: boolean, holds: () => boolean): Promise<void> => {
    assert.ok(!holds(), `${kind}: not before the write`);
    await writer.update(() => [remove ? { ...changeOf(object), value: null } : changeOf(object)]);
    const ms = await untilPacket(performance.now(), holds);
    results.set(kind, [...(results.get(kind) ?? []), ms]);
    await sleep(5);
  };
  for (let at = 0; at < CHANGES; at++) {
    const pool = cluster.pools[at % 100] ?? assert.fail();
    const service = { ...(cluster.services[at % 100] ?? assert.fail()), flowMemory: false };
    const added = serviceOf('added', pool.name, 80, '192.0.2.99');
    await timed('service added', added, false, () => node.send(added, at) !== 'pass');
    await timed('service removed', added, true, () => node.send(added, at) === 'pass');
    await writer.update(() => [changeOf(service)]);
    await node.reconciler.applied(writer.read().revision, 10_000);
    const owner = node.send(service, at);
    const backends = pool.backends.map((each) =>
      each.address === owner ? { ...each, state: 'disabled' as const } : each,
    );
    await timed('backend disabled', { ...pool, backends }, false, () => node.send(service, at) !== owner);
    await timed('backend enabled', pool, false, () => node.send(service, at) === owner);
  }
  await scope.close();
  return [...results].map(([kind, ms]) => followOf(kind, ms));
}

const QUIET_MS = 30_000;

/** CPU time of a process so far, ms. */
function cpuMs(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
  return (Number(fields[11]) + Number(fields[12])) * 10; // utime, stime; 100 a second
}

/** Asks without a rest for so long: the longest an answer took, ms. */
async function longestAnswer(socket: string, forMs: number): Promise<number> {
  let longest = 0;
  for (const end = performance.now() + forMs; performance.now() < end; await sleep(2)) {
    const asked = performance.now();
    await ask(socket, 'GET', '/livez');
    longest = Math.max(longest, performance.now() - asked);
  }
  return longest;
}

/** The daemon itself: from its start until it says it is ready, and then with nothing to do. */
async function daemon(etcd: Etcd): Promise<Omit<Size, 'services' | 'backends'>> {
  const directory = mkdtempSync(join(tmpdir(), 'fairlead-sync-'));
  const [socket, config, bpffs] = ['api.sock', 'config.yaml', 'bpf'].map((name) => join(directory, name)) as [
    string,
    string,
    string,
  ];
  const store = { type: 'etcd', endpoints: [etcd.endpoint], snapshot: join(directory, 'snapshot.json') };
  const interfaces = [{ name: 'lb', xdp: 'native' }];
  writeFileSync(config, JSON.stringify({ node: 'edge-1', interfaces, store, api: { socket }, bpffs }));
  const started = performance.now();
  const child = spawn(process.execPath, [mainFile, 'serve', '--config', config], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  try {
    for (;;) {
      const reply = await ask(socket, 'GET', '/readyz').catch(() => null);
      if (reply?.status === 200) break;
      if (child.exitCode !== null || performance.now() - started > 60_000) throw new Error('the daemon is not ready');
      await sleep(10);
    }
    const coldStartMs = performance.now() - started;
    const pid = child.pid ?? assert.fail();
    await sleep(12_000); // the first comparison, and the snapshot on disk
    const before = cpuMs(pid);
    await sleep(QUIET_MS);
    const cpuMsPer10s = ((cpuMs(pid) - before) * 10_000) / QUIET_MS;
    const longestMs = await longestAnswer(socket, QUIET_MS);
    const [, kilobytes = ''] = /^VmHWM:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? [];
    return { coldStartMs, memoryMB: Number(kilobytes) / 1024, cpuMsPer10s, longestMs };
  } finally {
    const ended = new Promise((resolve) => child.once('close', resolve));
    child.kill('SIGTERM');
    await ended;
    execFileSync(process.execPath, [mainFile, 'detach', '--bpffs', bpffs], { stdio: 'ignore' });
    execFileSync('umount', [bpffs]);
    rmSync(directory, { recursive: true, force: true });
  }
}

async function size(services: number, backendsEach: number): Promise<Size> {
  const scope = openScope();
  const etcd = await startEtcd(scope.t);
  const writer = await openEtcd(etcd, 'writer');
  await fill(writer, clusterOf(services, backendsEach));
  await writer.close();
  const measured = await daemon(etcd);
  await scope.close();
  return { services, backends: services * backendsEach, ...measured };
}

/** Lets the loop turn until the job is done; how long each turn took, ms. */
async function turnsOf(job: Promise<unknown>): Promise<number[]> {
  const turns: number[] = [];
  let isOver = false;
  void job.finally(() => {
    isOver = true;
  });
  for (let last = performance.now(); !isOver; ) {
    await nextTurn();
    const now = performance.now();
    turns.push(now - last);
    last = now;
  }
  return turns;
}

/** In this process, so that the loop's own time can be told from what else the daemon does; with next hops asked of the kernel. */
async function quiet(services: number, backendsEach: number): Promise<Quiet> {
  const { maps, close } = await openPacketPath();
  const store = openMemoryStore();
  await fill(store, clusterOf(services, backendsEach));
  const resolver = openNextHops();
  const reconciler = startReconciler(maps, store, resolver, async () => null, {
    source: null,
    source6: null,
    egress: [],
  });
  await reconciler.applied(store.read().revision, 60_000);
  const { changes } = reconciler.state();
  const busyMs: number[] = [];
  const turns: number[] = [];
  for (let at = 0; at < 20; at++) {
    await sleep(500);
    const before = performance.eventLoopUtilization();
    await reconciler.verify();
    busyMs.push(performance.eventLoopUtilization(before).active);
    await sleep(500);
    turns.push(...(await turnsOf(reconciler.verify())));
  }
  assert.equal(reconciler.state().changes, changes, 'nothing changed');
  await reconciler.close();
  resolver.close();
  await store.close();
  close();
  busyMs.sort((a, b) => a - b);
  const slices = turns.filter((ms) => ms > 1).sort((a, b) => a - b);
  return {
    ...{ services, backends: services * backendsEach, medianMs: quantile(busyMs, 0.5), maxMs: quantile(busyMs, 1) },
    ...{ sliceP99Ms: quantile(slices, 0.99), sliceMaxMs: quantile(slices, 1) },
  };
}

async function inside(): Promise<SyncResult> {
  for (const line of [
    'link set lo up',
    'link add lb type veth peer name router',
    'link set lb up',
    'link set router up',
    'address add 203.0.113.1/24 dev lb',
    'neighbour add 203.0.113.2 lladdr 02:00:00:00:00:02 dev lb nud permanent',
    'route add 10.0.0.0/8 via 203.0.113.2',
  ])
    execFileSync('ip', line.split(' '));
  return { follow: await follow(), quiet: await quiet(1000, 10), sizes: [await size(100, 100), await size(1000, 10)] };
}

/** Everything above, in a network namespace of its own. */
export function syncBench(): SyncResult {
  const self = [process.execPath, '--enable-source-maps', fileURLToPath(import.meta.url)];
  const child = spawnSync('unshare', ['-n', ...self], { stdio: ['ignore', 'pipe', 'inherit'] });
  if (child.status !== 0) throw new Error('the bench of following etcd failed');
  return JSON.parse(child.stdout.toString());
}

if (process.argv[1]?.endsWith('sync.js')) process.stdout.write(JSON.stringify(await inside()));
