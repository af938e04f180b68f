// SPDX-License-Identifier: Apache-2.0
// The way through NAT as its ends see it, with the tools of real hosts: traceroute, path MTU discovery, fragments, and a
// backend that calls its own VIP; IPv4, IPv6, and between them.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { startInside, stopChild } from '../../src/lab/children.js';
import { run } from '../../src/lab/netns.js';
import { tracesOf } from '../support/lab.js';
import { embedded } from '../support/nat-ends.js';
import { openServedLab, type ServedLab } from '../support/served-lab.js';

const name = 'nx-way';
/** Of the last link to the client, and of that to the backend: routers in between say so. */
const CLIENT_MTU = 1400;
const BACKEND_MTU = 1440;
/** A backend behind another one, which routes. */
const FAR = { 4: '10.30.0.22', 6: 'fd00:30::22' } as const;
const ROUTER = { 4: '10.1.0.1', 6: 'fd00:1::1' } as const;
const NEAR = { 4: '10.9.0.21', 6: 'fd00:9::21' } as const;
/** Of services whose backends are of the same family, and of the other one. */
const SAME = { 4: '192.0.2.20', 6: '2001:db8::20' } as const;
const OTHER = { 4: '192.0.2.21', 6: '2001:db8::21' } as const;
/** Of services whose backend is be3. */
const HAIRPIN = { 4: '192.0.2.22', 6: '2001:db8::22' } as const;
const PORT = 8000;
const ECHO_PORT = 8001;

const CASES = [
  { from: 4, to: 4, vip: SAME[4] },
  { from: 6, to: 6, vip: SAME[6] },
  { from: 4, to: 6, vip: OTHER[4] },
  { from: 6, to: 4, vip: OTHER[6] },
] as const;
const host = (address: string): string => (address.includes(':') ? `[${address}]` : address);

let lab: ServedLab;
const inside = (namespace: string, ...command: readonly string[]): Promise<string> =>
  run('ip', ['netns', 'exec', namespace, ...command]);
const ipIn = (namespace: string, ...lines: readonly string[]): Promise<string> =>
  run('ip', ['-n', namespace, '-batch', '-'], `${lines.join('\n')}\n`);

before(async () => {
  lab = await openServedLab(name, 3);
  const { router, balancers, backends } = lab.topology;
  const [near, far, caller] = backends.map(({ namespace }) => namespace);
  assert.ok(near && far && caller);
  const [{ namespace: balancer, address4, address6 }] = balancers;
  for (const namespace of [lab.topology.client, far])
    await inside(namespace, 'sysctl', '-qw', 'net.ipv4.tcp_mtu_probing=0');
  // All errors there are to be, at once.
  for (const namespace of [router, near, far])
    await inside(namespace, 'sysctl', '-qw', 'net.ipv4.icmp_ratelimit=0', 'net.ipv6.icmp.ratelimit=0');
  await inside(
    near,
    'sysctl',
    '-qw',
    'net.ipv4.ip_forward=1',
    'net.ipv6.conf.all.forwarding=1',
    'net.ipv4.conf.all.send_redirects=0',
  );
  const vips = [SAME, OTHER, HAIRPIN].flatMap((each) => [
    `route add ${each[4]}/32 via ${address4}`,
    `route add ${each[6]}/128 via ${address6}`,
  ]);
  await ipIn(
    router,
    ...vips,
    `route replace 10.1.0.0/24 dev client mtu ${CLIENT_MTU}`,
    `route replace fd00:1::/64 dev client metric 1 mtu ${CLIENT_MTU}`,
  );
  await ipIn(balancer, `route add ${FAR[4]}/32 via ${NEAR[4]}`, `route add ${FAR[6]}/128 via ${NEAR[6]}`);
  await ipIn(
    near,
    `route add ${FAR[4]}/32 via 10.9.0.22 mtu ${BACKEND_MTU}`,
    `route add ${FAR[6]}/128 via fd00:9::22 mtu ${BACKEND_MTU}`,
  );
  await ipIn(far, `address add ${FAR[4]}/32 dev lo`, `address add ${FAR[6]}/128 dev lo nodad`);
  const server = await startInside(far, 'echo-server.js', ['far', '80', '5300', 'nat', '8080', FAR[4], FAR[6]]);
  lab.onClose(() => stopChild(server, 1_000));
  for (const family of [4, 6] as const) {
    const put = (path: string, body: unknown) => lab.api('PUT', `/api/v1/${path}?wait=applied`, body);
    const backend = (address: string, port?: number) => ({
      backends: [{ name: 'far', address, port, weight: 100, state: 'active' }],
    });
    await put(`pools/far${family}`, backend(FAR[family], 8080));
    await put(`pools/any${family}`, backend(FAR[family]));
    await put(`pools/own${family}`, backend(family === 4 ? '10.9.0.23' : 'fd00:9::23', 8080));
  }
  for (const { from, to, vip } of CASES) {
    const put = (service: string, body: object) =>
      lab.api('PUT', `/api/v1/services/${service}-${from}${to}?wait=applied`, { ...body, forwarding: 'nat' });
    await put('tcp', { address: vip, port: PORT, protocol: 'tcp', pool: `far${to}` });
    await put('echo', { address: vip, port: ECHO_PORT, protocol: 'udp', pool: `far${to}` });
    await put('any', { address: vip, port: 0, protocol: 'udp', pool: `any${to}` });
    const port = from === to ? PORT : PORT + 1;
    await put('own', { address: HAIRPIN[from], port, protocol: 'tcp', pool: `own${to}` });
  }
});
after(async () => {
  await lab?.close();
  assert.deepEqual(tracesOf(name), []);
});

/** The addresses traceroute names, hop by hop. */
async function hops(vip: string, ...options: readonly string[]): Promise<string[]> {
  const text = await lab.inClient('traceroute', '-n', '-q', '1', '-w', '5', '-m', '8', ...options, vip);
  const lines = text.split('\n').slice(1).filter(Boolean);
  return lines.map((line) => line.trim().split(/\s+/)[1] ?? '');
}

/** What a host takes for the path MTU to an address; null: it has learned none. */
async function pathMtu(namespace: string, to: string, ...more: readonly string[]): Promise<number | null> {
  const found = /\bmtu (\d+)/.exec(await inside(namespace, 'ip', 'route', 'get', to, ...more));
  return found ? Number(found[1]) : null;
}

async function forget(namespace: string): Promise<void> {
  for (const family of ['-4', '-6']) await run('ip', [family, '-n', namespace, 'route', 'flush', 'cache']);
}

/** An echo of as many bytes, tried again while those on the way tell what fits: how often it took. */
async function echo(vip: string, port: number, size: number): Promise<number> {
  const script = `
    const socket = require('node:dgram').createSocket('udp${vip.includes(':') ? 6 : 4}');
    const sent = Buffer.from(Array.from({ length: ${size} }, (_, at) => at % 251));
    let tries = 0;
    const again = () => {
      if (++tries > 20) process.exit(1);
      socket.send(sent, ${port}, '${vip}', () => {});
    };
    socket.on('message', (text) => {
      if (!text.subarray(text.indexOf(32) + 1).equals(sent)) process.exit(2);
      console.log(tries);
      process.exit(0);
    });
    again();
    setInterval(again, 250);`;
  return Number(await lab.inClient(process.execPath, '-e', script));
}

for (const { from, to, vip } of CASES) {
  const kind = from === to ? `IPv${from}` : `IPv${from} to IPv${to}`;
  /** What a packet is longer by behind the node. */
  const grows = from === to ? 0 : from === 4 ? 20 : -20;
  // A router without a name in the client's family is the VIP to it.
  const near = from === to ? NEAR[to] : from === 4 ? vip : embedded(NEAR[4]);
  const backend = () => lab.topology.backends[1]?.namespace ?? assert.fail();
  const source = () => lab.topology.balancers[0][`address${to}`];

  test(`nat: ${kind}: traceroute shows the routers on both sides, then the VIP`, async () => {
    for (const options of [[], ['-T', '-p', `${PORT}`]])
      assert.deepEqual(await hops(vip, ...options), [ROUTER[from], near, vip], options.join(' ') || 'UDP');
    assert.deepEqual(await hops(vip, '-I'), [ROUTER[from], vip], 'echoes are answered by the node');
  });

  test(`nat: ${kind}: tracepath finds the narrowest link to the backend`, async () => {
    await forget(lab.topology.client);
    const text = await lab.inClient('tracepath', '-n', '-m', '8', vip);
    assert.match(text, new RegExp(`^ *3: +${vip} .*reached$`, 'm'));
    assert.match(text, new RegExp(`Resume: pmtu ${BACKEND_MTU - grows} hops 3`));
  });

  test(`nat: ${kind}: TCP finds what fits both ways, where a link is narrower than those of the ends`, async () => {
    for (const namespace of [lab.topology.client, backend()]) await forget(namespace);
    const [url, size] = [`http://${host(vip)}:${PORT}`, 3_000_000];
    const curl = ['curl', '-gsSf', '--max-time', '30'];
    // Upwards first: what the backend learns for its answers makes it ask for less.
    const up = await lab.inClient('sh', '-c', `head -c ${size} /dev/zero | ${curl.join(' ')} --data-binary @- ${url}/`);
    const { receivedBytes, backend: by, client } = JSON.parse(up);
    assert.deepEqual([receivedBytes, by, client.address], [size, 'far', source()]);
    assert.equal(await pathMtu(lab.topology.client, vip), BACKEND_MTU - grows);
    const down = await lab.inClient(...curl, '-o', '/dev/null', '-w', '%{size_download}', `${url}/bytes/${size}`);
    assert.equal(Number(down), size);
    assert.equal(await pathMtu(backend(), source(), 'from', FAR[to]), CLIENT_MTU + grows);
  });

  test(`nat: ${kind}: datagrams of any size arrive and are answered, in fragments`, async (t) => {
    for (const namespace of [lab.topology.client, backend()]) await forget(namespace);
    for (const size of [100, 1380, 1452, 4000, 20_000, 60_000]) {
      const tries = await echo(vip, ECHO_PORT, size);
      t.diagnostic(`${size} bytes: ${tries} tries`);
      assert.ok(tries <= 12, `${size} bytes: ${tries} tries`);
    }
  });

  test(`nat: ${kind}: a backend that calls its own VIP is answered, by itself and by another`, async () => {
    const url = `http://${host(HAIRPIN[from])}:${from === to ? PORT : PORT + 1}`;
    for (const caller of [lab.topology.backends[2], lab.topology.backends[0]]) {
      const { namespace = '' } = caller ?? {};
      const curl = ['curl', '-gsSf', '--max-time', '20'];
      const { backend: by, client } = JSON.parse(await inside(namespace, ...curl, `${url}/`));
      assert.deepEqual([by, client.address], ['be3', source()], caller?.name);
      const more = await inside(
        namespace,
        ...curl,
        '-o',
        '/dev/null',
        '-w',
        '%{size_download}',
        `${url}/bytes/2000000`,
      );
      assert.equal(Number(more), 2_000_000);
    }
  });
}

test('nat: IPv6 to IPv4: the node itself tells a backend that its answers become too long', async () => {
  const { client, backends } = lab.topology;
  const { namespace = '' } = backends[2] ?? {};
  const dropped = async (): Promise<number> => {
    const { items } = (await lab.api('GET', '/api/v1/drops')) as {
      items: { service: string; reason: string; packets: number }[];
    };
    return items.find(({ service, reason }) => service === 'own-64' && reason === 'nat_too_big')?.packets ?? 0;
  };
  // The client asks for more than an IPv6 packet holds: what the backend sends fits until it is translated.
  await ipIn(client, `route replace default via ${ROUTER[6]} advmss 1460`);
  await forget(namespace);
  const before = await dropped();
  const url = `http://${host(HAIRPIN[6])}:${PORT + 1}/bytes/3000000`;
  const size = await lab.inClient(
    'curl',
    '-gsSf',
    '--max-time',
    '30',
    '-o',
    '/dev/null',
    '-w',
    '%{size_download}',
    url,
  );
  assert.equal(Number(size), 3_000_000);
  assert.ok((await dropped()) > before);
  assert.equal(await pathMtu(namespace, lab.topology.balancers[0].address4), CLIENT_MTU - 20);
});
