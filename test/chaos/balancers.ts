// SPDX-License-Identifier: Apache-2.0
// A router with BIRD, two balancers with BIRD on one etcd, traffic through both, and faults of the second in any order.
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { bfdMs, nextHopsOf } from '../../src/lab/bird.js';
import type { Lab } from '../../src/lab/daemon.js';
import { appliedEverywhere } from '../../src/lab/everywhere.js';
import { openLab } from '../../src/lab/lab.js';
import { namespacePath, run } from '../../src/lab/netns.js';
import type { NodeStatus } from '../../src/model/node-view.js';
import { until } from '../support/lab.js';
import { mainFile } from '../support/serve.js';
import { openChecker } from './checker.js';
import type { Violation } from './records.js';

const never = new AbortController().signal;

/** What this machine may need beside BFD's own time to notice, when it is busy, ms. */
const SLACK_MS = 2000;

export interface BalancersResult {
  readonly connections: number;
  readonly records: number;
  readonly violations: readonly Violation[];
  /** Connections that waited, while the router still sent to a balancer that was gone: TCP sends again less and less often. */
  readonly stalled: number;
  /** From the cut to the route's end, ms. */
  readonly outMs: readonly number[];
}

/** A fault of the second balancer, from both at work to both at work. `lost`: packets are lost until BFD notices. */
interface Fault {
  readonly lost: boolean;
  run(lab: Lab, outMs: number[]): Promise<void>;
}

const LB2 = 1;
const both = (lab: Lab): Promise<void> => lab.bird?.until(2, 30_000, never) ?? assert.fail();
const one = (lab: Lab): Promise<void> => lab.bird?.until(1, 15_000, never) ?? assert.fail();
const status = async ({ daemons }: Lab): Promise<NodeStatus> =>
  (await daemons[LB2]?.api('GET', '/api/v1/status')) as NodeStatus;

const inRouter = ({ topology }: Lab, ...command: readonly string[]): Promise<string> =>
  run('nsenter', [`--net=${namespacePath(topology.router)}`, ...command]);

/** As `fairlead` on the second balancer. */
export const onSecond = ({ topology }: Lab, ...args: readonly string[]): Promise<string> =>
  run('nsenter', [
    `--net=${namespacePath(topology.balancers[LB2]?.namespace ?? '')}`,
    process.execPath,
    mainFile,
    ...args,
  ]);

/** The second daemon, ended and started again by the lab, is ready. */
async function again(lab: Lab): Promise<void> {
  await until(
    'the second daemon is ready again',
    async () => (await status(lab).catch(() => null))?.ready === true,
    30_000,
  );
  await appliedEverywhere(lab);
}

async function cut(lab: Lab, outMs: number[], then: () => Promise<void> = async () => undefined): Promise<void> {
  const began = performance.now();
  await inRouter(lab, 'ip', 'link', 'set', 'lb2', 'down');
  await then();
  await one(lab);
  outMs.push(performance.now() - began);
}

export const FAULTS: Readonly<Record<string, Fault>> = {
  /** The kernel forwards on without its daemon, and the route stays. */
  'daemon killed': {
    lost: false,
    async run(lab) {
      const restarts = lab.daemons[LB2]?.restarts() ?? 0;
      lab.daemons[LB2]?.kill();
      while (lab.daemons[LB2]?.restarts() === restarts) {
        assert.equal((await nextHopsOf(lab.topology, lab.topology.vip4)).length, 2, 'it is announced all the while');
        await pause(20);
      }
      await again(lab);
      await both(lab);
    },
  },
  /** The router sends nothing any more before the program goes. */
  detach: {
    lost: false,
    async run(lab) {
      const bpffs = `${lab.directory}/lb2/bpf`;
      const out = one(lab).then(() => performance.now());
      const off = until('the program is taken off', () => !existsSync(`${bpffs}/fairlead`), 30_000).then(() =>
        performance.now(),
      );
      const said = await onSecond(lab, 'detach', '--bpffs', bpffs, '--drain', '2');
      const drainedMs = (await off) - (await out);
      assert.ok(drainedMs > 1000, `the program went ${drainedMs} ms after the router sent nothing more`);
      assert.match(said, /^not announced any more: 192\.0\.2\.10, table 200\n/);
      const { announce, ready } = await status(lab);
      assert.ok(ready && announce?.vips.every(({ announced }) => !announced), JSON.stringify(announce));
      lab.daemons[LB2]?.kill(); // the next one attaches again
      await again(lab);
      await both(lab);
    },
  },
  /** BFD tells, and nobody else. */
  'cable pulled': {
    lost: true,
    async run(lab, outMs) {
      await cut(lab, outMs);
      await inRouter(lab, 'ip', 'link', 'set', 'lb2', 'up');
      await both(lab);
      await again(lab);
    },
  },
  'power cut': {
    lost: true,
    async run(lab, outMs) {
      const balancer = lab.topology.balancers[LB2] ?? assert.fail();
      await cut(lab, outMs, async () => {
        lab.daemons[LB2]?.kill();
        await lab.bird?.kill(balancer);
      });
      await inRouter(lab, 'ip', 'link', 'set', 'lb2', 'up');
      await lab.bird?.start(balancer);
      await again(lab);
      await both(lab);
    },
  },
};

/** Runs these faults one after the other under `long` lasting and `short` short connections; then `after`, without traffic that counts. */
export async function runBalancers(
  name: string,
  faults: readonly string[],
  connections: { readonly long: number; readonly short: number },
  say: (line: string) => void,
  after: (lab: Lab) => Promise<void> = async () => undefined,
): Promise<BalancersResult> {
  const lab = await openLab({ name, backends: 4, balancers: 2, store: 'etcd', bgp: true }, never, () => {});
  try {
    const checker = await openChecker(lab, 'ipip', () => true);
    await checker.keep(connections.long, connections.short);
    const windows: { readonly from: number; readonly to: number }[] = [];
    const outMs: number[] = [];
    for (const each of faults) {
      const fault = FAULTS[each] ?? assert.fail(`no fault "${each}"`);
      const from = Date.now();
      await fault.run(lab, outMs);
      if (fault.lost) windows.push({ from, to: from + bfdMs + SLACK_MS + 6000 });
      const out = fault.lost ? `, out after ${outMs.at(-1)?.toFixed(0)} ms` : '';
      say(
        `${each}: ${((Date.now() - from) / 1000).toFixed(1)} s${out}; ${checker.report().violations.length} violations so far`,
      );
      await pause(500);
    }
    await pause(1000);
    const { connections: begun, records, violations } = checker.report();
    const isStall = ({ kind, at }: Violation): boolean =>
      kind === 'stalled' && windows.some(({ from, to }) => at >= from && at <= to);
    await after(lab);
    return {
      ...{ connections: begun, records, outMs },
      violations: violations.filter((each) => !isStall(each)),
      stalled: violations.filter(isStall).length,
    };
  } finally {
    await lab.close();
  }
}

export const limitMs = bfdMs + SLACK_MS;
