// SPDX-License-Identifier: Apache-2.0
// Checks that go to a VIP on each backend, through every kind of tunnel.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { run } from '../../src/lab/netns.js';
import type { BackendStatus, NodeStatus } from '../../src/model/node-view.js';
import { tracesOf, until } from '../support/lab.js';
import { openServedLab, type ServedLab } from '../support/served-lab.js';

const name = 'he-tun';
let lab: ServedLab;

/** One backend, be1, by every way there is: outer and inner family, forwarding, what is asked. */
const ways = ['ipip', 'gue', 'l2'].flatMap((forwarding) =>
  ([4, 6] as const).flatMap((inner) =>
    ([4, 6] as const).flatMap((outer) =>
      (['http', 'udp'] as const).flatMap((type) =>
        forwarding === 'l2' && inner !== outer ? [] : [{ forwarding, inner, outer, type }],
      ),
    ),
  ),
);
const nameOf = ({ forwarding, inner, outer, type }: (typeof ways)[number]): string =>
  `${forwarding}-${inner}in${outer}-${type}`;

before(async () => {
  lab = await openServedLab(name, 2);
  const { vip4, vip6, httpPort, echoPort, backends } = lab.topology;
  for (const [at, way] of ways.entries()) {
    const pool = nameOf(way);
    const members = backends.map((each) => ({
      name: each.name,
      address: way.outer === 4 ? each.address4 : each.address6,
    }));
    const healthCheck = {
      ...{ type: way.type, via: 'tunnel', port: way.type === 'http' ? httpPort : echoPort },
      ...{ interval: 0.4, timeout: 0.2, rise: 2, fall: 2, slowStart: 0 },
      ...(way.type === 'udp' && { send: 'ping', receive: 'be' }), // the echo begins with the backend's name
    };
    await lab.api('PUT', `/api/v1/pools/${pool}`, { backends: members, healthCheck });
    await lab.api('PUT', `/api/v1/services/${pool}?wait=applied`, {
      ...{ pool, port: 9000 + at, forwarding: way.forwarding },
      address: way.inner === 4 ? vip4 : vip6,
      protocol: way.type === 'http' ? 'tcp' : 'udp',
    });
  }
});
after(async () => {
  await lab.close();
  assert.deepEqual(tracesOf(name), []);
});

async function health(pool: string, member: string) {
  const path = `/api/v1/pools/${pool}/backends/${member}`;
  return ((await lab.api('GET', path)) as { status: BackendStatus }).status.health;
}

/** Waits until `holds` of all ways at once; says which it does not hold of. */
async function everywhere(member: string, holds: (health: BackendStatus['health']) => boolean): Promise<void> {
  let left: string[] = [];
  try {
    await until(
      '',
      async () => {
        const seen = await Promise.all(
          ways.map(async (way) => ({ way: nameOf(way), is: await health(nameOf(way), member) })),
        );
        left = seen.filter(({ is }) => !holds(is)).map(({ way, is }) => `${way}: ${JSON.stringify(is)}`);
        return left.length === 0;
      },
      20_000,
    );
  } catch {
    assert.fail(`${member}: ${holds}:\n${left.join('\n')}`);
  }
}

test('tunnel: TCP and UDP to the VIP on each backend, IPv4 and IPv6 in both, IP in IP, GUE and by MAC address', async () => {
  for (const member of ['be1', 'be2'])
    await everywhere(member, ({ state, lastCheck }) => state === 'up' && lastCheck?.result === 'ok');
});

test('tunnel: a backend that does not have the VIP is down, though it answers on its own address', async () => {
  const { vip4, vip6, backends, natBackendPort, balancers } = lab.topology;
  const [one] = backends;
  assert.ok(one);
  for (const each of ways) assert.equal((await health(nameOf(each), 'be1')).state, 'up');
  for (const [vip, bits] of [
    [vip4, 32],
    [vip6, 128],
  ])
    await run('ip', ['-n', one.namespace, 'address', 'del', `${vip}/${bits}`, 'dev', 'lo']);
  await everywhere('be1', ({ state }) => state === 'down');
  const direct = [
    'ip',
    'netns',
    'exec',
    balancers[0].namespace,
    'curl',
    '-sf',
    `http://${one.address4}:${natBackendPort}/`,
  ];
  assert.match(await run(direct[0] as string, direct.slice(1)), /"backend":"be1"/);
  for (const each of ways) assert.equal((await health(nameOf(each), 'be2')).state, 'up');
  for (const [vip, bits] of [
    [vip4, 32],
    [vip6, 128],
  ])
    await run('ip', ['-n', one.namespace, 'address', 'add', `${vip}/${bits}`, 'dev', 'lo', 'nodad']);
  await everywhere('be1', ({ state }) => state === 'up');
});

test('tunnel: a daemon that starts anew goes on', async () => {
  await lab.serve().kill('SIGKILL');
  await lab.start();
  await everywhere('be1', ({ state, lastCheck }) => state === 'up' && lastCheck?.result === 'ok');
  const { warnings } = (await lab.api('GET', '/api/v1/status')) as NodeStatus;
  assert.deepEqual(warnings, []);
});
