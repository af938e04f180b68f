// SPDX-License-Identifier: Apache-2.0
// What may happen to a cluster, each under a checker's load.
import assert from 'node:assert/strict';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { startInside, stopChild } from '../../src/lab/children.js';
import type { Lab } from '../../src/lab/daemon.js';
import { namespacePath, run } from '../../src/lab/netns.js';
import { labInterface, vipRoutes } from '../../src/lab/topology.js';
import type { FlowView } from '../../src/model/node-view.js';
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
  /** Where it says something about this way of forwarding only. */
  readonly forwarding?: 'nat';
  /** The members to begin with; all when left out. */
  readonly first?: (at: number, count: number) => boolean;
  run(stage: Stage): Promise<void>;
}

export const times = (scale: number, count: number): number => Math.max(2, Math.round(scale * count));

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

export async function setState({ lab }: Stage, names: readonly string[], state: string): Promise<void> {
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

/** Clients whose lasting connections the balancer remembers, with the packets it counted: established for longer than a short one lives. */
export async function remembered({ lab }: Stage): Promise<Map<string, number>> {
  const flows = new Map<string, number>();
  for (const pool of POOLS) {
    const { items } = (await lab.daemon.api('GET', `/api/v1/flows?service=${pool}&sort=age&limit=1000`)) as {
      items: FlowView[];
    };
    for (const { client, state, packets, firstSeen } of items)
      if (state === 'established' && firstSeen < Date.now() - 1500) flows.set(client, packets);
  }
  return flows;
}

const flood: Scenario = {
  name: 'flood',
  what: 'SYNs at the generator’s maximum while backends drain, come back, and change their weights',
  async run(stage) {
    const { lab, scale, say } = stage;
    const [{ name, namespace }] = lab.topology.balancers;
    const [link] = JSON.parse(await run('ip', ['-n', namespace, '-j', 'link', 'show', labInterface])) as [
      { address: string },
    ];
    await pause(2000);
    const before = await remembered(stage);
    const child = await startInside(lab.topology.router, fileURLToPath(new URL('flood.js', import.meta.url)), [
      ...[name, link.address, lab.topology.vip4, '7000'],
    ]);
    let sent = 0;
    child.on('message', (count: number) => {
      sent = count;
    });
    const started = Date.now();
    try {
      const names = lab.topology.backends.map((each) => each.name);
      for (let turn = 0; turn < times(scale, 10); turn++) {
        const some = names.filter((_, at) => at % 5 === turn % 5);
        await each(stage, some, 'drain');
        await pause(700);
        await each(stage, some, 'undrain');
        await pause(300);
      }
    } finally {
      await stopChild(child, 5_000);
    }
    const seconds = (Date.now() - started) / 1000;
    say(`${sent} SYNs in ${seconds.toFixed(1)} s: ${(sent / seconds / 1e6).toFixed(2)} million a second`);
    await pause(1000);
    const after = await remembered(stage);
    const gone = [...before].filter(([client, packets]) => (after.get(client) ?? 0) < packets);
    say(`${before.size} lasting connections were remembered before, ${gone.length} of them are not any more`);
    assert.ok(before.size > 0 && sent > 0);
    assert.deepEqual(gone, [], 'a flood evicts no established flow');
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
  flood,
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
