// SPDX-License-Identifier: Apache-2.0
// More than 100,000 connections of NAT at once: what they take, and that none is lost when programs are swapped or the daemon is killed.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, before, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { natRoots } from '../../src/dataplane/nat.js';
import { NatConnection, NatState } from '../../src/dataplane/nat-abi.gen.js';
import { native } from '../../src/dataplane/native.js';
import { pinRoot } from '../../src/dataplane/pins.js';
import { startInside, stopChild } from '../../src/lab/children.js';
import { namespacePath, run } from '../../src/lab/netns.js';
import { labInterface } from '../../src/lab/topology.js';
import type { NodeStatus, ServiceStatus } from '../../src/model/node-view.js';
import { loadRebuilt } from '../chaos/rebuilt.js';
import { tracesOf } from '../support/lab.js';
import { openServedLab, type ServedLab } from '../support/served-lab.js';

const name = 'nc-held';
const CLIENTS = 131_072;
const ROOM = 262_144;
const ADDRESSES = ['10.9.0.101', '10.9.0.102', '10.9.0.103', '10.9.0.104'];
let lab: ServedLab;

before(async () => {
  const settings = `flows: { newPerSecond: 4000000 }\nnat: { connections: ${ROOM}, udpNew: 600 }\n`;
  lab = await openServedLab(name, 2, settings);
  const backends = lab.topology.backends.map((each) => ({ name: each.name, address: each.address4, port: 9 }));
  await lab.api('PUT', '/api/v1/pools/held?wait=applied', { backends });
  await lab.api('PUT', '/api/v1/services/held?wait=applied', {
    ...{ address: lab.topology.vip4, port: 7_100, protocol: 'udp', pool: 'held', forwarding: 'nat' },
    snat: ADDRESSES,
  });
});
after(async () => {
  await lab.close();
  assert.deepEqual(tracesOf(name), []);
});

const pin = (what: string): string => `${natRoots(pinRoot(`${lab.directory}/bpf`))[0]}/${what}`;

/** What changes with every packet. */
const COUNTED = /seen|packets|bytes/i;

/** Live connections by number: all that makes them what they are. */
function connections(): Map<number, string> {
  const map = native.openMap(pin('maps/nat_connections'));
  const all = Buffer.from(map.mmap());
  const found = new Map<number, string>();
  for (let id = 0; id < all.length / NatConnection.size; id++) {
    const one = NatConnection.decode(all.subarray(id * NatConnection.size, (id + 1) * NatConnection.size));
    if (one.state === NatState.FREE || one.state === NatState.GONE) continue;
    const fields = Object.entries(one).filter(([name]) => !COUNTED.test(name));
    found.set(id, fields.map(([, value]) => `${value}`).join(' '));
  }
  map.close();
  return found;
}

test('nat: 131,072 connections are held, through swaps of the program and a daemon that is killed', async (t) => {
  const [{ name: port, namespace }] = lab.topology.balancers;
  const [{ address }] = JSON.parse(await run('ip', ['-n', namespace, '-j', 'link', 'show', labInterface])) as [
    { address: string },
  ];
  const args = [port, address, lab.topology.vip4, '7100', `${CLIENTS}`];
  const sender = await startInside(lab.topology.router, '../../test/support/many-clients.js', args);
  lab.onClose(() => stopChild(sender, 500));
  /** One datagram of each; resolves with how many of them a queue of the veth had no room for. */
  const send = async (): Promise<number> => {
    const refused = async (): Promise<number> => {
      const text = await run('nsenter', [`--net=${namespacePath(lab.topology.router)}`, 'ethtool', '-S', port]);
      return [...text.matchAll(/xdp_(?:xmit|tx)_errors: (\d+)/g)].reduce((sum, [, count]) => sum + Number(count), 0);
    };
    const before = await refused();
    sender.send('again');
    await once(sender, 'message');
    return (await refused()) - before;
  };
  const packets = async (): Promise<number> =>
    ((await lab.api('GET', '/api/v1/services/held')) as { status: ServiceStatus }).status.packets;
  const entries = async (): Promise<number | undefined> =>
    ((await lab.api('GET', '/api/v1/status')) as NodeStatus).nat?.entries;

  for (let round = 0; round < 5 && (await entries()) !== CLIENTS; round++) await send();
  const first = connections();
  assert.equal(first.size, CLIENTS);

  const maps = JSON.parse(await run('bpftool', ['-j', 'map', 'show'])) as { id: number; bytes_memlock: number }[];
  let bytes = 0;
  for (const each of ['nat_connections', 'nat_index', 'nat_ring']) {
    const map = native.openMap(pin(`maps/${each}`));
    bytes += maps.find(({ id }) => id === map.info.id)?.bytes_memlock ?? Number.NaN;
    map.close();
  }
  t.diagnostic(`${(bytes / 2 ** 20).toFixed(0)} MiB with room for ${ROOM}, the ports of 16 addresses included`);
  assert.ok(bytes / ROOM <= 210, `${bytes / ROOM} bytes each`);

  // Each datagram meets the one program or the other, and is counted once.
  const link = native.openLink(pin(`links/${labInterface}`));
  const own = link.program();
  const rebuilt = await loadRebuilt(own);
  assert.notEqual(rebuilt.program.tag, own.tag);
  const before = await packets();
  let swaps = 0;
  let busy = true;
  const sent = send().finally(() => {
    busy = false;
  });
  for (; busy; swaps++) {
    const [from, to] = swaps % 2 === 0 ? [own, rebuilt.program] : [rebuilt.program, own];
    await link.update(to, from);
    await pause(5);
  }
  const refused = await sent;
  t.diagnostic(`${swaps} swaps, ${refused} datagrams found a queue full`);
  await pause(200);
  assert.ok(swaps > 20, `${swaps} swaps`);
  assert.equal((await packets()) - before, CLIENTS - refused);
  for (const each of [rebuilt, own, link]) each.close();

  const meanwhile = await packets();
  await lab.serve().kill('SIGKILL');
  const lost = await send();
  await lab.start();
  assert.equal((await packets()) - meanwhile, CLIENTS - lost, 'also with no daemon');
  const last = connections();
  assert.equal(last.size, CLIENTS);
  for (const [id, what] of first) if (last.get(id) !== what) assert.fail(`${id} was ${what}, is ${last.get(id)}`);
  assert.equal(await entries(), CLIENTS);
});
