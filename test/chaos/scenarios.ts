// SPDX-License-Identifier: Apache-2.0
// What may happen to a cluster, each under a checker's load.
import { setTimeout as pause } from 'node:timers/promises';
import type { Lab } from '../../src/lab/daemon.js';
import { namespacePath, run } from '../../src/lab/netns.js';
import { vipRoutes } from '../../src/lab/topology.js';
import { type Checker, membersOf, POOLS, settled } from './checker.js';

export interface Stage {
  readonly lab: Lab;
  readonly checker: Checker;
  readonly random: () => number;
  /** How much of the full scenario: 1, or less in a short run. */
  readonly scale: number;
  say(line: string): void;
  /** With two balancers: called in the middle, once. */
  readonly middle: () => Promise<void>;
}

export interface Scenario {
  readonly name: string;
  readonly what: string;
  /** The members to begin with; all when left out. */
  readonly first?: (at: number, count: number) => boolean;
  run(stage: Stage): Promise<void>;
}

const times = (scale: number, count: number): number => Math.max(2, Math.round(scale * count));

const backendPath = (pool: string, name: string): string => `/api/v1/pools/${pool}/backends/${name}`;

/** The same request for a backend of both pools; the last one waits until the kernel has it. */
async function each({ lab }: Stage, names: readonly string[], verb: 'drain' | 'undrain'): Promise<void> {
  for (const name of names)
    for (const pool of POOLS) await lab.daemon.api('POST', `${backendPath(pool, name)}/${verb}`);
  await settled(lab);
}

/** Drains some backends, lets their connections end, disables them, starts their servers anew, and has them back. */
async function restart(stage: Stage, names: readonly string[]): Promise<void> {
  await each(stage, names, 'drain');
  await pause(100);
  await stage.checker.leave(names);
  await setState(stage, names, 'disabled');
  for (const name of names) await stage.checker.restart(name);
  await stage.checker.leave([]);
  await setState(stage, names, 'active');
}

async function setState({ lab }: Stage, names: readonly string[], state: string): Promise<void> {
  for (const name of names) for (const pool of POOLS) await lab.daemon.api('PATCH', backendPath(pool, name), { state });
  await settled(lab);
}

async function rollingRestart(stage: Stage, most: number): Promise<void> {
  const names = stage.lab.topology.backends.map(({ name }) => name);
  const together = Math.min(most, names.length >> 1); // never all of them
  const turns = Math.ceil(times(stage.scale, names.length) / together);
  for (let turn = 0; turn < turns; turn++) {
    if (turn === Math.floor(turns / 2)) await stage.middle();
    await restart(stage, names.slice(turn * together, (turn + 1) * together));
  }
}

const kills: Scenario = {
  name: 'kills',
  what: 'the daemon is killed and starts anew, at random moments',
  async run({ lab, random, scale, checker, say, middle }) {
    const count = times(scale, 100);
    for (let kill = 0; kill < count; kill++) {
      if (kill === count >> 1) await middle();
      await pause(random() * 1500);
      const daemon = lab.daemons[Math.floor(random() * lab.daemons.length)] ?? lab.daemon;
      daemon.kill();
      // Also while it starts: it is started again after a second.
      if (random() < 0.3) await pause(1000 + random() * 600).then(() => daemon.kill());
      await pause(300);
      if (kill % 10 === 9) say(`${kill + 1} kills, ${checker.report().records} records`);
    }
    await pause(2500);
    await settled(lab);
  },
};

const ringChanges: Scenario = {
  name: 'ring-changes',
  what: '500 changes of weights and states in 60 s',
  async run(stage) {
    const { lab, random, scale, middle } = stage;
    const names = lab.topology.backends.map(({ name }) => name);
    const draining = new Set<string>();
    const count = times(scale, 500);
    const started = Date.now();
    for (let change = 0; change < count; change++) {
      if (change === count >> 1) await middle();
      const name = names[Math.floor(random() * names.length)] ?? '';
      const pool = POOLS[change % 2] ?? POOLS[0];
      const path = backendPath(pool, name);
      const key = `${pool} ${name}`;
      if (draining.delete(key)) await lab.daemon.api('POST', `${path}/undrain`);
      else if (random() < 0.3 && draining.size < names.length) {
        draining.add(key);
        await lab.daemon.api('POST', `${path}/drain`);
      } else await lab.daemon.api('PATCH', path, { weight: 50 + Math.floor(random() * 100) });
      await pause(Math.max(0, started + (change + 1) * 120 - Date.now()));
    }
    stage.say(`${count} changes in ${((Date.now() - started) / 1000).toFixed(1)} s`);
    await each(stage, names, 'undrain');
  },
};

const grow: Scenario = {
  name: 'grow',
  what: 'half as many backends more, at once',
  first: (at, count) => at < Math.ceil((count * 2) / 3),
  async run({ lab, middle }) {
    const bigger = resize(lab, () => true);
    await middle();
    await bigger;
    await pause(1500);
  },
};

const shrink: Scenario = {
  name: 'shrink',
  what: 'half of the backends drain and are taken out',
  async run(stage) {
    const { lab, checker, middle } = stage;
    const going = lab.topology.backends.filter((_, at) => at % 2 === 1).map(({ name }) => name);
    await each(stage, going, 'drain');
    await middle();
    await pause(1500);
    await checker.leave(going);
    await resize(lab, (at) => at % 2 === 0);
    await pause(1000);
    await checker.leave([]);
    await resize(lab, () => true);
  },
};

/** The pools have those backends of the lab for which `has` says so, all active with weight 100. */
async function resize(lab: Lab, has: (at: number, count: number) => boolean): Promise<void> {
  for (const pool of POOLS)
    await lab.daemon.api('PATCH', `/api/v1/pools/${pool}`, { backends: membersOf(lab, pool, has) });
  await settled(lab);
}

export const SCENARIOS: readonly Scenario[] = [
  kills,
  ringChanges,
  { name: 'restart-1', what: 'backends start anew, one at a time', run: (stage) => rollingRestart(stage, 1) },
  { name: 'restart-10', what: 'backends start anew, ten at a time', run: (stage) => rollingRestart(stage, 10) },
  grow,
  shrink,
];

/** Takes a balancer away as a power cut does, and its routes as BFD would. It is there again once `revive` has been called. */
export async function killBalancer(lab: Lab, index: number): Promise<{ revive(): Promise<void> }> {
  const { router, balancers } = lab.topology;
  const gone = balancers[index];
  const others = balancers.filter((each) => each !== gone);
  const inRouter = (...lines: readonly string[]): Promise<string> =>
    run('nsenter', [`--net=${namespacePath(router)}`, 'ip', '-batch', '-'], lines.join('\n'));
  lab.daemons[index]?.kill();
  await inRouter(`link set ${gone?.name} down`, ...vipRoutes(lab.topology, others));
  return {
    async revive() {
      await inRouter(`link set ${gone?.name} up`);
      await pause(3000); // its neighbours are found again
      await settled(lab);
      await inRouter(...vipRoutes(lab.topology, balancers));
    },
  };
}
