// SPDX-License-Identifier: Apache-2.0
// A router with BIRD, two balancers on one etcd, traffic through both, and faults of that etcd and of the way to it.
import assert from 'node:assert/strict';
import { setTimeout as pause } from 'node:timers/promises';
import { nextHopsOf } from '../../src/lab/bird.js';
import type { Lab, LabDaemon } from '../../src/lab/daemon.js';
import { openLab } from '../../src/lab/lab.js';
import { labHealthCheck, labPools } from '../../src/lab/objects.js';
import type { FairleadEvent } from '../../src/model/events.js';
import type { NodeInfo } from '../../src/model/node-view.js';
import type { Backend } from '../../src/model/objects.js';
import { until } from '../support/lab.js';
import { randomFrom } from '../unit/random.js';
import { openChecker, POOLS } from './checker.js';
import { anyOf, ask, ETCD_FAULTS, type EtcdStage, HOLD_SECONDS } from './etcd-faults.js';
import { allTheSame, writtenBytes } from './model.js';
import type { Violation } from './records.js';

const never = new AbortController().signal;

export interface EtcdOptions {
  readonly name: string;
  readonly backends: number;
  readonly long: number;
  readonly short: number;
  readonly seed: number;
  /** Writes between two faults. */
  readonly writes: number;
  say(line: string): void;
}

export interface EtcdResult {
  readonly connections: number;
  readonly records: number;
  readonly violations: readonly Violation[];
  readonly writes: number;
  readonly refused: number; // 503, with Retry-After
  readonly unknown: number; // 503 of a write that may have been done
  readonly cuts: number; // connections to etcd
  readonly checks: number; // of the model
  readonly looks: number; // at the router's routes
  /** Of the daemons, by type, since each one's last start. */
  readonly events: Readonly<Record<string, number>>;
}

function openStage(lab: Lab, seed: number): EtcdStage {
  const random = randomFrom(seed);
  const count = { writes: 0, refused: 0, unknown: 0, cuts: 0, checks: 0, looks: 0 };
  return {
    ...{ lab, random, count },
    etcd: lab.etcd ?? assert.fail('a lab with etcd'),
    async write(daemon = anyOf(random, lab.daemons)) {
      const pool = anyOf(random, POOLS);
      const { backends } = (await daemon.api('GET', `/api/v1/pools/${pool}`)) as { readonly backends: Backend[] };
      const drained = backends.find(({ state }) => state === 'drain')?.name; // at most one, most of the time
      const { name } = anyOf(random, lab.topology.backends);
      const path = `/api/v1/pools/${pool}/backends`;
      const isDrain = random() < 0.3;
      const weight = 50 + Math.floor(random() * 100);
      const answer = !isDrain
        ? await ask(daemon, 'PATCH', `${path}/${name}`, { weight })
        : await ask(daemon, 'POST', `${path}/${drained ?? name}/${drained ? 'undrain' : 'drain'}`);
      const isDone = answer.status === 200;
      if (isDone) count.writes++;
      else {
        assert.equal(answer.status, 503, answer.text);
        assert.match(answer.retryAfter ?? '', /^[1-9]\d*$/, 'Retry-After');
        count[/nothing was changed/.test(answer.text) ? 'refused' : 'unknown']++;
      }
      return isDone;
    },
  };
}

/** Both balancers have the VIPs, all the while; throws at the end when they had not. It ends with the lab in any case. */
function watchRoutes({ lab, count }: EtcdStage): () => Promise<void> {
  const gone: string[] = [];
  let isOver = false;
  const watching = (async () => {
    for (; !isOver; await pause(250))
      for (const vip of [lab.topology.vip4, lab.topology.vip6]) {
        const hops = await nextHopsOf(lab.topology, vip);
        count.looks++;
        if (hops.length !== 2) gone.push(`${vip} by ${hops.join(' and ') || 'nobody'}`);
      }
  })();
  watching.catch(() => undefined); // `routes` throws it
  const end = async (): Promise<void> => {
    isOver = true;
    await watching;
  };
  lab.onClose(end);
  return async () => {
    await end();
    assert.deepEqual(gone, [], 'no balancer is ever without a route');
  };
}

/** What a daemon says of itself, and the newest of its events but those of writes. */
async function lastWords(daemon: LabDaemon): Promise<string> {
  const { text: status } = await ask(daemon, 'GET', '/api/v1/status');
  const { text } = await ask(daemon, 'GET', '/api/v1/events?limit=1000');
  const { items } = JSON.parse(text) as { readonly items: readonly FairleadEvent[] };
  const telling = items.filter(({ type }) => !/^config\.|\.(created|changed)$/.test(type)).slice(0, 30);
  const lines = telling.map(({ at, type, object, message }) => `\n    ${at} ${type} ${object}: ${message}`);
  return `${daemon.balancer.name}: ${status}${lines.join('')}`;
}

/** Runs these faults one after the other, with random writes before each and a check of the model after it. */
export async function runEtcd(faults: readonly string[], options: EtcdOptions): Promise<EtcdResult> {
  const { name, backends, say } = options;
  const lab = await openLab({ name, backends, balancers: 2, store: 'etcd', bgp: true }, never, () => {});
  try {
    // Backends are looked after, and none is found to be down only because this machine is busy.
    for (const pool of labPools) {
      const healthCheck = { ...labHealthCheck(lab.topology), interval: 2, timeout: 2, fall: 10 };
      await lab.daemon.api('PATCH', `/api/v1/pools/${pool}`, { healthCheck });
    }
    const stage = openStage(lab, options.seed);
    const checker = await openChecker(lab, 'ipip', () => true);
    // No row forgets an owner by time alone while faults are looked at: "not a byte was touched" is to be exact.
    for (const pool of [...labPools, ...POOLS])
      await lab.daemon.api('PATCH', `/api/v1/pools/${pool}`, { holdSeconds: HOLD_SECONDS });
    await checker.keep(options.long, options.short);
    const routes = watchRoutes(stage);
    for (const each of faults) {
      const fault = ETCD_FAULTS[each] ?? assert.fail(`no fault "${each}"`);
      for (let at = 0; at < options.writes; at++) assert.ok(await stage.write(), 'etcd is there: a write is done');
      await allTheSame(lab);
      const before = await writtenBytes(lab);
      const from = Date.now();
      await fault.run(stage);
      const tookMs = Date.now() - from;
      await allTheSame(lab);
      stage.count.checks += 2;
      if (fault.quiet) assert.deepEqual(await writtenBytes(lab), before, `${each}: no byte in a kernel was touched`);
      const { violations } = checker.report();
      say(`${each}: ${(tookMs / 1000).toFixed(1)} s; ${violations.length} violations so far`);
    }
    await routes();
    for (const { api, balancer } of lab.daemons)
      await until(`${balancer.name} finds both nodes well`, async () => {
        const { items } = (await api('GET', '/api/v1/nodes')) as { items: NodeInfo[] };
        const [one, two] = items.map(({ rings }) => JSON.stringify(rings));
        const isWell = ({ state, rings }: NodeInfo): boolean =>
          state === 'ok' && Object.values(rings).every(({ asWanted }) => asWanted);
        return items.length === 2 && items.every(isWell) && one === two;
      });
    const events: Record<string, number> = {};
    for (const daemon of lab.daemons) {
      const { text } = await ask(daemon, 'GET', '/api/v1/events?limit=1000');
      for (const { type } of JSON.parse(text).items) events[type] = (events[type] ?? 0) + 1;
    }
    const { connections, records, violations } = checker.report();
    return { connections, records, violations, ...stage.count, events };
  } catch (error) {
    for (const daemon of lab.daemons) say(await lastWords(daemon).catch(String));
    throw error;
  } finally {
    await lab.close();
  }
}
