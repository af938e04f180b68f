// SPDX-License-Identifier: Apache-2.0
// Real programs through NAT: IPv4, IPv6, and from either to the other.
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { spawnInside, startInside, stopChild } from '../../src/lab/children.js';
import { tracesOf } from '../support/lab.js';
import { openSender, openServedLab, type ServedLab } from '../support/served-lab.js';
import type { Held } from '../support/web-socket-holder.js';

const name = 'nc-tools';
/** Family of the VIP, family of the backends. */
const WAYS = [
  [4, 4],
  [6, 6],
  [6, 4],
  [4, 6],
] as const;
type Way = (typeof WAYS)[number];
/** By tool: the backends' port; a VIP's is one more when its backends are of the other family. */
const PORT = { web: 8090, dns: 53, iperf: 5201, echo: 8080 } as const;
const ESTABLISHED_S = 5;
const HELD_MS = 16_000;
let lab: ServedLab;

const portOf = (tool: keyof typeof PORT, [vip, pool]: Way): number => PORT[tool] + (vip === pool ? 0 : 1);
const vipOf = ([vip]: Way): string => (vip === 4 ? lab.topology.vip4 : lab.topology.vip6);
const urlOf = (way: Way): string => `http://${way[0] === 4 ? vipOf(way) : `[${vipOf(way)}]`}:${portOf('web', way)}/`;

before(async () => {
  lab = await openServedLab(name, 2, `nat: { connections: 4096, tcpEstablished: ${ESTABLISHED_S} }\n`);
  const { backends } = lab.topology;
  for (const { namespace, name: own, address4, address6 } of backends) {
    const server = await startInside(namespace, '../../test/support/tool-server.js', [own, address4, address6]);
    lab.onClose(() => stopChild(server, 500));
    const iperf = spawnInside(namespace, ['iperf3', '-s'], ['ignore', 'ignore', 'inherit']);
    lab.onClose(() => stopChild(iperf, 500));
  }
  for (const [tool, port] of Object.entries(PORT))
    for (const family of [4, 6] as const) {
      const members = backends.map((each) => ({
        ...{ name: each.name, port, address: family === 4 ? each.address4 : each.address6 },
      }));
      await lab.api('PUT', `/api/v1/pools/${tool}${family}?wait=applied`, { backends: members });
    }
  for (const [tool, protocols] of [
    ['web', ['tcp']],
    ['dns', ['udp']],
    ['iperf', ['tcp', 'udp']],
    ['echo', ['udp']],
  ] as const)
    for (const way of WAYS)
      for (const protocol of protocols)
        await lab.api('PUT', `/api/v1/services/${tool}-${protocol}-${way.join('to')}?wait=applied`, {
          ...{ address: vipOf(way), port: portOf(tool, way), protocol, pool: `${tool}${way[1]}`, forwarding: 'nat' },
          // iperf3 wants its connections at one server.
          ...(tool === 'iperf' ? { affinity: 'source' } : {}),
        });
});
after(async () => {
  await lab.close();
  assert.deepEqual(tracesOf(name), []);
});

for (const way of WAYS) {
  const what = `IPv${way[0]} to IPv${way[1]}`;

  test(`nat: curl, several megabytes there and back, ${what}`, async () => {
    const body = randomBytes(6_000_000);
    const [sent, got, head] = ['sent', 'got', 'head'].map((file) => `${lab.directory}/${file}${way.join('')}`) as [
      string,
      string,
      string,
    ];
    writeFileSync(sent, body);
    const options = ['-gsSf', '--max-time', '30', '--data-binary', `@${sent}`, '-H', 'Expect:', '-o', got, '-D', head];
    await lab.inClient('curl', ...options, urlOf(way));
    const digest = createHash('sha256').update(body).digest('hex');
    assert.match(readFileSync(head, 'utf8'), new RegExp(`x-digest: ${digest}`), 'the backend got what was sent');
    assert.equal(createHash('sha256').update(readFileSync(got)).digest('hex'), digest, 'and the client has it again');
  });

  test(`nat: dig, ${what}`, async () => {
    for (let turn = 0; turn < 5; turn++) {
      const options = [
        `@${vipOf(way)}`,
        '-p',
        `${portOf('dns', way)}`,
        'TXT',
        'fairlead.example',
        '+short',
        '+tries=1',
      ];
      assert.match(await lab.inClient('dig', ...options, '+time=5'), /^"be[12] x{200}"\n$/);
    }
  });

  test(`nat: UDP echo, ${what}`, async () => {
    const send = await openSender({ ...lab, topology: { ...lab.topology, echoPort: portOf('echo', way) } });
    const from = way[0] === 4 ? '10.1.0.2' : 'fd00:1::2';
    const flows = Array.from({ length: 8 }, (_, at) => ({
      from,
      fromPort: 26_000 + at,
      to: vipOf(way),
      size: 1 + at * 160,
      count: 20,
    }));
    for (const backends of await send(flows)) assert.equal(backends.length, 1, 'a flow stays with its backend');
  });

  test(`nat: iperf3, ${what}`, async (t) => {
    const options = ['-c', vipOf(way), '-p', `${portOf('iperf', way)}`, '-J', '-t', '1'];
    for (const more of [['-R'], [], ['-u', '-b', '20M', '-l', '1200']]) {
      const { end } = JSON.parse(await lab.inClient('iperf3', ...options, ...more)) as {
        end: { sum_received?: { bits_per_second: number }; sum?: { packets: number; lost_packets: number } };
      };
      if (end.sum?.packets === undefined) {
        const rate = end.sum_received?.bits_per_second ?? 0;
        t.diagnostic(`TCP ${more.length > 0 ? 'down' : 'up'}: ${(rate / 1e9).toFixed(2)} Gbit/s`);
        assert.ok(rate > 10e6, `${rate} bit/s`);
      } else {
        const { packets, lost_packets: lost } = end.sum;
        assert.ok(packets > 1000 && lost <= packets / 100, `${lost} of ${packets} datagrams lost`);
      }
    }
  });
}

test('nat: a WebSocket is held by its pings; a silent one is over after its time', async () => {
  const holder = fileURLToPath(new URL('../support/web-socket-holder.js', import.meta.url));
  const ends = WAYS.flatMap((way) => [vipOf(way), `${portOf('web', way)}`]);
  const held = JSON.parse(await lab.inClient(process.execPath, holder, `${HELD_MS}`, '1500', ...ends)) as Held[];
  assert.equal(held.length, WAYS.length);
  for (const each of held)
    assert.deepEqual({ ...each, pings: 0 }, { host: each.host, pings: 0, lost: 0, same: true, silentAnswers: false });
  for (const { pings } of held) assert.ok(pings > 8, `${pings}`);
});
