// SPDX-License-Identifier: Apache-2.0
// What may happen to services by NAT, under the checker's load.
import assert from 'node:assert/strict';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { natRoots } from '../../src/dataplane/nat.js';
import { type NativeLink, native } from '../../src/dataplane/native.js';
import { pinRoot } from '../../src/dataplane/pins.js';
import { startInside, stopChild } from '../../src/lab/children.js';
import type { Lab } from '../../src/lab/daemon.js';
import { appliedEverywhere as settled } from '../../src/lab/everywhere.js';
import { namespacePath, run } from '../../src/lab/netns.js';
import { labInterface } from '../../src/lab/topology.js';
import type { Held } from '../support/web-socket-holder.js';
import { loadRebuilt } from './rebuilt.js';
import { remembered, type Scenario, type Stage, setState, times } from './scenarios.js';

/** The pinned link of tc_nat at the first balancer. */
export function natLink({ directory }: Lab): NativeLink {
  const [root = ''] = natRoots(pinRoot(`${directory}/bpf`));
  return native.openLink(`${root}/links/${labInterface}`);
}

function tagOf(link: NativeLink): string {
  const program = link.program();
  const { tag } = program;
  program.close();
  return tag;
}

async function until(what: string, holds: () => boolean | Promise<boolean>, ms = 15_000): Promise<void> {
  for (const end = Date.now() + ms; !(await holds()); await pause(50))
    if (Date.now() > end) assert.fail(`not within ${ms} ms: ${what}`);
}

const swaps: Scenario = {
  name: 'nat-swaps',
  what: 'tc_nat and a rebuilt tc_nat take each other’s place 600 times; a daemon that is killed and started puts its own back',
  forwarding: 'nat',
  async run({ lab, checker, scale, say }) {
    const link = natLink(lab);
    const own = link.program();
    const rebuilt = await loadRebuilt(own);
    try {
      assert.notEqual(rebuilt.program.tag, own.tag);
      const before = checker.report().records;
      const count = times(scale, 600);
      for (let swap = 0; swap < count; swap++) {
        const [from, to] = swap % 2 === 0 ? [own, rebuilt.program] : [rebuilt.program, own];
        await link.update(to, from);
        await pause(15);
      }
      if (count % 2 === 1) await link.update(own, rebuilt.program);
      say(`${count} swaps, ${checker.report().records - before} records meanwhile`);
      assert.ok(checker.report().records > before);
      for (let turn = 0; turn < times(scale, 10); turn++) {
        const current = link.program();
        await link.update(rebuilt.program, current);
        current.close();
        await pause(300);
        lab.daemon.kill();
        await until('the daemon has its own program there again', () => tagOf(link) === own.tag, 20_000);
        await settled(lab);
      }
    } finally {
      rebuilt.close();
      own.close();
      link.close();
    }
  },
};

/** SYNs a second. */
const FLOOD_RATE = 1_000_000;

const flood: Scenario = {
  name: 'nat-flood',
  what: `${FLOOD_RATE} SYNs a second to a service by NAT for 20 s, each of another client, while connections move data`,
  forwarding: 'nat',
  async run(stage) {
    const { lab, checker, scale, say } = stage;
    const [{ name, namespace }] = lab.topology.balancers;
    const link = await run('ip', ['-n', namespace, '-j', 'link', 'show', labInterface]);
    const [{ address }] = JSON.parse(link) as [{ address: string }];
    const open = checker.report().open;
    await checker.keep(open, 0); // what would begin now may be refused: that is what a budget is for
    await pause(2_000);
    const [before, records] = [await remembered(stage), checker.report().records];
    const child = await startInside(lab.topology.router, fileURLToPath(new URL('flood.js', import.meta.url)), [
      ...[name, address, lab.topology.vip4, '7000', `${FLOOD_RATE}`],
    ]);
    let sent = 0;
    child.on('message', (count: number) => {
      sent = count;
    });
    const started = Date.now();
    try {
      await pause(Math.max(3_000, scale * 20_000));
    } finally {
      await stopChild(child, 5_000);
    }
    const seconds = (Date.now() - started) / 1000;
    const { items } = (await lab.daemon.api('GET', '/api/v1/drops')) as {
      items: { reason: string; packets: number }[];
    };
    const dropped = items.filter(({ reason }) => reason.startsWith('nat_'));
    say(
      `${sent} SYNs in ${seconds.toFixed(1)} s; ${dropped.map((each) => `${each.packets} ${each.reason}`).join(', ')}`,
    );
    await pause(1_000);
    const after = await remembered(stage);
    const gone = [...before].filter(([client, packets]) => (after.get(client) ?? 0) < packets);
    // More than the node's address has ports: however slow the machine is, the flood asks for more than there is.
    assert.ok(before.size > 0 && sent > 65_536 && checker.report().records > records);
    assert.deepEqual(gone, [], 'all lasting connections are there');
    assert.ok(
      dropped.some(({ packets }) => packets > 0),
      'the flood is held back',
    );
  },
};

const lost: Scenario = {
  name: 'nat-backend',
  what: 'backends lose power, one after the other: only their own connections end',
  forwarding: 'nat',
  async run(stage) {
    const { lab, checker, scale } = stage;
    const router = [`--net=${namespacePath(lab.topology.router)}`, 'ip', 'link', 'set'];
    const long = checker.report().open;
    for (const { name } of lab.topology.backends.slice(0, times(scale, 8))) {
      const others = (): number => checker.report().open - (checker.report().byBackend[name] ?? 0);
      // What begins before anybody knows that the backend is gone may be sent there: none is to.
      await checker.keep(long, 0);
      await checker.keep(0, 0);
      await checker.until('all have a backend', ({ byBackend }) => !byBackend['?'], 10_000);
      assert.ok((checker.report().byBackend[name] ?? 0) > 0 && others() > 0);
      checker.excuse([name]);
      await run('nsenter', [...router, name, 'down']);
      await setState(stage, [name], 'disabled');
      await checker.leave([name]);
      const before = checker.report().records;
      await checker.until('the others go on', ({ records }) => records > before + 100, 10_000);
      await run('nsenter', [...router, name, 'up']);
      await checker.restart(name);
      await checker.leave([]);
      await setState(stage, [name], 'active');
      await checker.keep(long, 6);
      await checker.until(`connections come to ${name} again`, ({ byBackend }) => (byBackend[name] ?? 0) > 0, 20_000);
    }
  },
};

const webSockets: Scenario = {
  name: 'nat-websockets',
  what: 'WebSockets are held for five minutes with a ping every 5 s, in and between the families, while the daemon is killed',
  forwarding: 'nat',
  async run({ lab, scale, say }: Stage) {
    const { backends, vip4, vip6 } = lab.topology;
    for (const { namespace, name, address4, address6 } of backends) {
      const server = await startInside(namespace, '../../test/support/tool-server.js', [name, address4, address6]);
      lab.onClose(() => stopChild(server, 500));
    }
    const ends: string[] = [];
    for (const pool of [4, 6] as const) {
      const members = backends.map(({ name, address4, address6 }) => ({
        name,
        address: pool === 4 ? address4 : address6,
      }));
      await lab.daemon.api('PUT', `/api/v1/pools/held${pool}`, {
        backends: members.map((each) => ({ ...each, port: 8090 })),
      });
      for (const [at, address] of [vip4, vip6].entries()) {
        const service = { address, port: 8_100 + pool, protocol: 'tcp', pool: `held${pool}`, forwarding: 'nat' };
        await lab.daemon.api('PUT', `/api/v1/services/held${pool}-${at}?wait=applied`, service);
        ends.push(address, `${8_100 + pool}`);
      }
    }
    const holder = fileURLToPath(new URL('../support/web-socket-holder.js', import.meta.url));
    const options = [`${Math.max(20_000, scale * 300_000)}`, '5000', ...ends];
    const held = run('nsenter', [`--net=${namespacePath(lab.topology.client)}`, process.execPath, holder, ...options]);
    for (let kill = 0; kill < times(scale, 10); kill++) {
      await pause(4_000);
      lab.daemon.kill();
    }
    const all = JSON.parse(await held) as Held[];
    say(`pings answered: ${all.map(({ pings }) => pings).join(', ')}`);
    assert.equal(all.length, 4);
    for (const each of all)
      assert.ok(each.lost === 0 && each.same && each.silentAnswers && each.pings > 3, JSON.stringify(each));
    await settled(lab);
  },
};

export const NAT_SCENARIOS: readonly Scenario[] = [swaps, flood, lost, webSockets];
