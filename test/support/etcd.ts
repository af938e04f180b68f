// SPDX-License-Identifier: Apache-2.0
// A real etcd on loopback, in a directory of its own, and a proxy in front of it that cuts connections.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, connect as netConnect, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { type EtcdAccess, type EtcdClient, openEtcdClient } from '../../src/controlplane/etcd/client.js';
import { until } from './lab.js';

/** A free port of 127.0.0.1, free again by now. None of those that outgoing connections are given: one of them would be gone when it is wanted. */
export function freePort(): Promise<number> {
  const port = 10_000 + Math.floor(Math.random() * 20_000);
  return new Promise((resolve, reject) => {
    const server = createServer().once('error', () => freePort().then(resolve, reject));
    server.listen(port, '127.0.0.1', () => {
      const address = server.address();
      server.close(() => resolve(typeof address === 'object' && address !== null ? address.port : 0));
    });
  });
}

export interface Etcd {
  readonly port: number;
  readonly endpoint: string;
  readonly directory: string;
  /** Access without anything; `over` replaces parts. */
  access(over?: Partial<EtcdAccess>): EtcdAccess;
  client(over?: Partial<EtcdAccess>): EtcdClient;
  /** Closed before it ends with the test. */
  using(what: { close(): Promise<void> }): void;
  /** Runs etcdctl and answers its output. */
  ctl(...args: readonly string[]): string;
  kill(signal?: NodeJS.Signals): Promise<void>;
  /** Starts it again, on the same ports. */
  start(): Promise<void>;
  /** Throws its data away; it must not run. */
  wipe(): void;
}

/** What TLS it speaks: files for etcd, and how etcdctl comes in. */
export interface EtcdTls {
  readonly server: readonly string[];
  readonly ctl: readonly string[];
}

/** Starts etcd; it ends with the test, or with this process. */
export async function startEtcd(t: Pick<TestContext, 'after'>, tls: EtcdTls | null = null): Promise<Etcd> {
  const peer = await freePort();
  return startMember(t, tls, peer, 'default', `default=http://127.0.0.1:${peer}`);
}

/** A cluster of so many; each has to be told to a store. */
export async function startMembers(t: TestContext, count: number): Promise<readonly Etcd[]> {
  const peers = await Promise.all(Array.from({ length: count }, freePort));
  const cluster = peers.map((peer, i) => `m${i}=http://127.0.0.1:${peer}`).join();
  return Promise.all(peers.map((peer, i) => startMember(t, null, peer, `m${i}`, cluster)));
}

/** The same for all members; a single one that was wiped is another cluster. */
const token = (cluster: string): string => (cluster.includes(',') ? cluster.slice(-5) : String(Math.random()));

async function startMember(
  t: Pick<TestContext, 'after'>,
  tls: EtcdTls | null,
  peer: number,
  name: string,
  cluster: string,
): Promise<Etcd> {
  const directory = mkdtempSync(join(tmpdir(), 'fairlead-etcd-'));
  const port = await freePort();
  const scheme = tls === null ? 'http' : 'https';
  const endpoint = `${scheme}://127.0.0.1:${port}`;
  const data = join(directory, 'data');
  let child: ChildProcess | null = null;
  let output = '';

  const ctl = (...args: readonly string[]): string =>
    execFileSync('etcdctl', [`--endpoints=${endpoint}`, ...(tls?.ctl ?? []), ...args], {
      encoding: 'utf8',
      env: { ...process.env, ETCDCTL_API: '3' },
      stdio: ['ignore', 'pipe', 'pipe'],
      maxBuffer: 1 << 28,
    });

  async function start(): Promise<void> {
    const args = [
      `--data-dir=${data}`,
      `--listen-client-urls=${endpoint}`,
      `--advertise-client-urls=${endpoint}`,
      `--listen-peer-urls=http://127.0.0.1:${peer}`,
      `--initial-advertise-peer-urls=http://127.0.0.1:${peer}`,
      `--name=${name}`,
      `--initial-cluster=${cluster}`,
      `--initial-cluster-token=${token(cluster)}`,
      '--logger=zap',
      '--log-level=error',
      ...(tls?.server ?? []),
    ];
    const etcd = spawn('setpriv', ['--pdeathsig', 'KILL', 'etcd', ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
    child = etcd;
    for (const stream of [etcd.stdout, etcd.stderr])
      stream.setEncoding('utf8').on('data', (text: string) => {
        output = (output + text).slice(-4000);
      });
    await until('etcd answers', async () => {
      if (etcd.exitCode !== null) throw new Error(`etcd ended: ${output}`);
      return new Promise<boolean>((resolve) => {
        const probe = netConnect(port, '127.0.0.1');
        probe.once('error', () => resolve(false));
        probe.once('connect', () => {
          probe.destroy();
          resolve(true);
        });
      });
    });
  }

  async function kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    const running = child;
    if (running === null || running.exitCode !== null || running.signalCode !== null) return;
    const ended = new Promise((resolve) => running.once('close', resolve));
    running.kill(signal);
    await ended;
  }

  const clients: EtcdClient[] = [];
  const users: { close(): Promise<void> }[] = [];
  t.after(async () => {
    await Promise.all(users.map((user) => user.close()));
    for (const client of clients) client.close();
    await kill();
    rmSync(directory, { recursive: true, force: true });
  });
  await start();
  const access = (over: Partial<EtcdAccess> = {}): EtcdAccess => ({
    endpoints: [endpoint],
    tls: { ca: null, cert: null, key: null },
    auth: null,
    ...over,
  });
  return {
    port,
    endpoint,
    directory,
    access,
    client(over) {
      const client = openEtcdClient(access(over));
      clients.push(client);
      return client;
    },
    using: (what) => void users.push(what),
    ctl,
    kill,
    start,
    wipe: () => rmSync(data, { recursive: true }),
  };
}

/** Passes connections on to a port, until told to cut them or to pass nothing any more. */
export interface CutProxy {
  readonly port: number;
  /** Cuts all connections there are; answers how many. */
  cut(): number;
  /** Refuses new ones while shut. */
  shut(isShut: boolean): void;
  /** Loses everything on the way, without a word, while `isBlack`. */
  black(isBlack: boolean): void;
}

export async function startProxy(t: TestContext, target: number): Promise<CutProxy> {
  const open = new Set<Socket>();
  let isShut = false;
  let isBlack = false;
  const server: Server = createServer((inner) => {
    if (isShut) return inner.destroy();
    const outer = netConnect(target, '127.0.0.1');
    for (const [from, to] of [
      [inner, outer],
      [outer, inner],
    ] as const) {
      open.add(from);
      from.on('data', (bytes) => {
        if (!isBlack) to.write(bytes);
      });
      from.on('error', () => undefined);
      from.on('close', () => {
        open.delete(from);
        to.destroy();
      });
    }
  });
  const port = await new Promise<number>((resolve) =>
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      resolve(typeof address === 'object' && address !== null ? address.port : 0);
    }),
  );
  const cut = (): number => {
    const count = open.size;
    for (const socket of open) socket.destroy();
    return count;
  };
  t.after(() => {
    server.close();
    cut();
  });
  return {
    port,
    cut,
    shut(value) {
      isShut = value;
      if (value) cut();
    },
    black(value) {
      isBlack = value;
    },
  };
}
