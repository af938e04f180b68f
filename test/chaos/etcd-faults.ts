// SPDX-License-Identifier: Apache-2.0
// What may happen to the etcd of two balancers, and to the way to it.
import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import { request } from 'node:http';
import { setTimeout as pause } from 'node:timers/promises';
import type { Lab, LabDaemon } from '../../src/lab/daemon.js';
import type { LabEtcd } from '../../src/lab/etcd.js';
import { kill, namespacePath, run } from '../../src/lab/netns.js';
import type { NodeStatus } from '../../src/model/node-view.js';
import { until } from '../support/lab.js';

/** How long a daemon may take to notice that etcd is away, and that it is back: gRPC waits longer after each attempt that fails. */
const NOTICE_MS = 40_000;
/** Of all pools. */
export const HOLD_SECONDS = 86_400;
/** Every fdatasync of a slow disk, ms. */
const SLOW_MS = 400;

export interface EtcdStage {
  readonly lab: Lab;
  readonly etcd: LabEtcd;
  readonly random: () => number;
  readonly count: { writes: number; refused: number; unknown: number; cuts: number; checks: number; looks: number };
  /** A random change of a random pool by a random daemon, or by this one; whether it was done. */
  write(daemon?: LabDaemon): Promise<boolean>;
}

export interface EtcdFault {
  /** It writes nothing, so nothing is to be touched in a kernel. */
  readonly quiet: boolean;
  run(stage: EtcdStage): Promise<void>;
}

export const anyOf = <T>(random: () => number, from: readonly T[]): T =>
  from[Math.floor(random() * from.length)] ?? assert.fail();

interface Answer {
  readonly status: number;
  readonly retryAfter: string | undefined;
  readonly text: string;
}

/** A request to a daemon, whatever it answers. */
export const ask = ({ socket: socketPath }: LabDaemon, method: string, path: string, body?: object): Promise<Answer> =>
  new Promise((resolve, reject) => {
    const headers = body ? { 'content-type': 'application/json' } : { accept: 'application/json' };
    const outgoing = request({ socketPath, method, path, headers, signal: AbortSignal.timeout(30_000) }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (chunk: string) => {
        text += chunk;
      });
      response.on('error', reject).on('end', () => {
        resolve({ status: response.statusCode ?? 0, retryAfter: response.headers['retry-after'], text });
      });
    });
    outgoing.on('error', reject).end(body && JSON.stringify(body));
  });

const statusOf = async ({ api }: LabDaemon): Promise<NodeStatus> => (await api('GET', '/api/v1/status')) as NodeStatus;

/** Waits until all daemons, or these, say that etcd is there, or away. */
async function untilStore(connected: boolean, daemons: readonly LabDaemon[]): Promise<void> {
  for (const daemon of daemons)
    await until(
      `${daemon.balancer.name} says that etcd is ${connected ? 'there' : 'away'}`,
      async () => (await statusOf(daemon).catch(() => null))?.store.connected === connected,
      NOTICE_MS,
    );
}

/** While etcd is away: writes get 503 with Retry-After at once; all that is read goes on; what is in force is as it was. */
async function servesWithoutEtcd({ lab, count }: EtcdStage, daemons = lab.daemons): Promise<void> {
  for (const daemon of daemons) {
    const before = await daemon.api('GET', '/api/v1/configuration');
    const began = performance.now();
    const holdSeconds = HOLD_SECONDS - 1 - count.refused; // a change, and of no row
    const { status, retryAfter, text } = await ask(daemon, 'PATCH', '/api/v1/pools/chaos4', { holdSeconds });
    assert.equal(status, 503, text);
    assert.match(retryAfter ?? '', /^[1-9]\d*$/, 'Retry-After');
    assert.match(text, /nothing was changed|nothing is written|whether it was written is not known/);
    assert.ok(performance.now() - began < 10_000, 'it does not wait for etcd');
    count.refused++;
    const metrics = await ask(daemon, 'GET', '/metrics');
    assert.match(metrics.text, /^fairlead_store_connected 0$/m);
    const { ready, notReady, store } = await statusOf(daemon);
    assert.ok(ready, `${daemon.balancer.name}: ${notReady}`);
    assert.match(store.detail ?? '', /in force/);
    assert.deepEqual(await daemon.api('GET', '/api/v1/configuration'), before);
  }
}

/** etcd is taken away, and given back when all have noticed. */
async function away(stage: EtcdStage, take: () => Promise<void>, giveBack: () => Promise<void>): Promise<void> {
  const { lab } = stage;
  await take();
  try {
    await untilStore(false, lab.daemons);
    await servesWithoutEtcd(stage);
  } finally {
    await giveBack();
  }
  await untilStore(true, lab.daemons);
}

const inside = (namespace: string, ...command: readonly string[]): Promise<string> =>
  run('nsenter', [`--net=${namespacePath(namespace)}`, ...command]);

/** What comes from there to etcd is lost on the way; from nowhere in particular: all. */
const lose = ({ topology }: Lab, from: string): Promise<string> =>
  inside(
    topology.router,
    'nft',
    `add table inet chaos; add chain inet chaos input { type filter hook input priority 0; }; add rule inet chaos input ${from} tcp dport 2379 drop`,
  );
const loseNoMore = ({ topology }: Lab): Promise<string> =>
  inside(topology.router, 'nft', 'delete', 'table', 'inet', 'chaos');

/** Cuts a balancer's connections to etcd; how many. */
async function cut({ balancer }: LabDaemon): Promise<number> {
  const said = await inside(balancer.namespace, 'ss', '-K', '-Htn', 'dport = 2379');
  return said.split('\n').filter((line) => line !== '').length;
}

async function relists(daemon: LabDaemon, reason: string): Promise<number> {
  const { text } = await ask(daemon, 'GET', '/metrics');
  return Number(new RegExp(`^fairlead_store_relists_total\\{reason="${reason}"\\} (\\d+)$`, 'm').exec(text)?.[1]);
}

/** Makes etcd forget all revisions but the newest; there are newer ones than any watch has seen. */
async function compact({ etcd }: EtcdStage): Promise<void> {
  for (let at = 0; at < 3; at++) await etcd.ctl('put', '/elsewhere', `${at}`);
  const [{ Status }] = JSON.parse(await etcd.ctl('endpoint', 'status', '-w', 'json'));
  await etcd.ctl('compact', `${Status.header.revision}`);
}

/** The second balancer does not see what is written and compacted meanwhile. */
async function compacted(stage: EtcdStage, writes: number): Promise<void> {
  const { lab } = stage;
  const [first, second] = lab.daemons as readonly [LabDaemon, LabDaemon];
  const before = await relists(second, 'compacted');
  await lose(lab, `ip saddr ${second.balancer.address4}`);
  try {
    await untilStore(false, [second]);
    await servesWithoutEtcd(stage, [second]);
    for (let at = 0; at < writes; at++) assert.ok(await stage.write(first), 'the first one writes');
    await compact(stage);
  } finally {
    await loseNoMore(lab);
  }
  await untilStore(true, lab.daemons);
  await until('it has read all anew', async () => (await relists(second, 'compacted')) > before);
}

/** Kills a daemon; `meanwhile` runs while it is not there. Resolves when the next one is ready. */
async function restart(daemon: LabDaemon, meanwhile: () => Promise<void>): Promise<void> {
  const { startedAt } = await statusOf(daemon);
  daemon.kill();
  await meanwhile();
  const isNew = (status: NodeStatus | null): boolean => status?.ready === true && status.startedAt !== startedAt;
  await until(`${daemon.balancer.name} is ready`, async () => isNew(await statusOf(daemon).catch(() => null)), 30_000);
}

export const ETCD_FAULTS: Readonly<Record<string, EtcdFault>> = {
  'etcd killed': {
    quiet: true,
    run: (stage) =>
      away(
        stage,
        () => stage.etcd.kill(),
        () => stage.etcd.start(),
      ),
  },
  /** Stopped: it takes what it is sent, and answers nothing. */
  'etcd stopped': {
    quiet: true,
    run: (stage) =>
      away(
        stage,
        async () => kill(stage.etcd.pid(), 'SIGSTOP'),
        async () => kill(stage.etcd.pid(), 'SIGCONT'),
      ),
  },
  'black hole': {
    quiet: true,
    run: (stage) =>
      away(
        stage,
        async () => void (await lose(stage.lab, '')),
        async () => void (await loseNoMore(stage.lab)),
      ),
  },
  'connections cut': {
    quiet: false,
    async run(stage) {
      const { lab, random, count } = stage;
      const writing = (async () => {
        for (let at = 0; at < 40; at++) await stage.write();
      })();
      let isOver = false;
      void writing.finally(() => {
        isOver = true;
      });
      while (!isOver) {
        await pause(random() * 100);
        count.cuts += await cut(anyOf(random, lab.daemons));
      }
      await writing;
      assert.ok(count.cuts > 0, 'something was cut');
      await untilStore(true, lab.daemons);
    },
  },
  /** strace holds up each fdatasync of etcd. */
  'slow disk': {
    quiet: false,
    async run(stage) {
      const { etcd } = stage;
      const held = `inject=fdatasync:delay_exit=${SLOW_MS}ms`;
      const slow = run('timeout', [
        ...['8', 'strace', '-f', '-qq', '-o', '/dev/null', '-e', 'trace=fdatasync', '-e', held],
        ...['-p', `${etcd.pid()}`],
      ]).catch((error: unknown) => assert.match(String(error), /exit 124/)); // by its time out
      await pause(1000);
      let slowest = 0;
      for (const end = Date.now() + 5_000; Date.now() < end; ) {
        const began = performance.now();
        await stage.write();
        slowest = Math.max(slowest, performance.now() - began);
      }
      await slow;
      assert.ok(slowest >= SLOW_MS, `the slowest write took ${slowest} ms`);
      await untilStore(true, stage.lab.daemons);
    },
  },
  'compacted while cut off': { quiet: false, run: (stage) => compacted(stage, 5) },
  'compacted but nothing written': { quiet: true, run: (stage) => compacted(stage, 0) },
  'compacted while a daemon is dead': {
    quiet: false,
    async run(stage) {
      const [first, second] = stage.lab.daemons as readonly [LabDaemon, LabDaemon];
      await restart(second, async () => {
        for (let at = 0; at < 3; at++) assert.ok(await stage.write(first), 'the other one writes');
        await compact(stage);
      });
      await untilStore(true, stage.lab.daemons);
    },
  },
  'daemon restarted without etcd': {
    quiet: true,
    run: (stage) =>
      away(
        stage,
        async () => {
          await stage.etcd.kill();
          const daemon = anyOf(stage.random, stage.lab.daemons);
          await restart(daemon, async () => undefined);
          const { text } = await ask(daemon, 'GET', '/api/v1/events?type=store.disconnected');
          assert.match(text, /the last state on disk, revision \d+, is in force/);
        },
        () => stage.etcd.start(),
      ),
  },
  'wiped and restored': {
    quiet: false,
    async run(stage) {
      const { etcd, lab } = stage;
      const copy = `${lab.directory}/etcd.copy`;
      const empty = async (): Promise<void> => {
        await etcd.kill();
        rmSync(etcd.data, { recursive: true });
      };
      await etcd.ctl('snapshot', 'save', copy);
      const saved = await lab.daemon.api('GET', '/api/v1/configuration');
      for (let at = 0; at < 5; at++) assert.ok(await stage.write());
      await away(
        stage,
        async () => {
          await empty();
          await etcd.start(); // another cluster, with nothing in it
        },
        async () => {
          for (const daemon of lab.daemons)
            await until(`${daemon.balancer.name} says why`, async () =>
              /holds no cluster/.test((await statusOf(daemon)).store.detail ?? ''),
            );
          await empty();
          await etcd.ctl('snapshot', 'restore', copy, '--data-dir', etcd.data);
          await etcd.start();
        },
      );
      rmSync(copy);
      const [now, then] = [await lab.daemon.api('GET', '/api/v1/configuration'), saved];
      assert.deepEqual({ ...(now as object), revision: 0 }, { ...(then as object), revision: 0 }, 'as it was saved');
    },
  },
};
