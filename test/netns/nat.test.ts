// SPDX-License-Identifier: Apache-2.0
// Services by NAT with real traffic: what client, backend and balancer say of a connection is the same.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { spawnInside, stopChild } from '../../src/lab/children.js';
import { startDriver } from '../../src/lab/drive.js';
import { run } from '../../src/lab/netns.js';
import { allServices, natServices, putObjects, readServices } from '../../src/lab/objects.js';
import { sum } from '../../src/lab/table.js';
import type { BackendStatus, FlowView, NodeStatus } from '../../src/model/node-view.js';
import { tracesOf, until } from '../support/lab.js';
import { never, openSender, openServedLab, type ServedLab } from '../support/served-lab.js';

const name = 'fnvnat';
const CLIENT = { 4: '10.1.0.79', 6: 'fd00:1::79' } as const;
/** Of a service whose sources become this address, which has few ports. */
const NARROW = '10.9.0.99';
const PORTS = 16;
let lab: ServedLab;

before(async () => {
  const timeouts = 'tcpNew: 1, tcpEstablished: 4, tcpClosing: 1, tcpClosed: 1, udpNew: 1, udpEstablished: 1';
  lab = await openServedLab(name, 3, `nat: { connections: 4096, ${timeouts} }\n`);
  await lab.inClient('ip', 'address', 'add', `${CLIENT[4]}/24`, 'dev', 'eth0');
  await lab.inClient('ip', 'address', 'add', `${CLIENT[6]}/64`, 'dev', 'eth0', 'nodad');
  await putObjects(lab.api, lab.topology, allServices(lab.topology));
});
after(async () => {
  await lab.close();
  assert.deepEqual(tracesOf(name), []);
});

const hostOf = (family: 4 | 6): string => (family === 4 ? lab.topology.vip4 : `[${lab.topology.vip6}]`);
const endpoint = (address: string, port: number): string =>
  address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;

async function flows(query: string): Promise<readonly FlowView[]> {
  return ((await lab.api('GET', `/api/v1/flows?limit=1000&${query}`)) as { items: FlowView[] }).items;
}

const status = async (): Promise<NodeStatus> => (await lab.api('GET', '/api/v1/status')) as NodeStatus;
const entries = async (): Promise<number> => (await status()).nat?.entries ?? -1;
const free = (): Promise<void> => until('no connection is left', async () => (await entries()) === 0);

async function metric(sample: string): Promise<number> {
  const lines = String((await lab.ask('GET', '/metrics')).body).split('\n');
  return Number(lines.find((line) => line.startsWith(`${sample} `))?.slice(sample.length) ?? Number.NaN);
}

async function dropped(service: string, reason: string): Promise<number> {
  const { items } = (await lab.api('GET', '/api/v1/drops')) as {
    items: { service: string; reason: string; packets: number }[];
  };
  return sum(items.filter((one) => one.service === service && one.reason === reason).map(({ packets }) => packets));
}

/** One request from a port of the client's: who answered, and who asked, as the backend has it. */
async function get(family: 4 | 6, port: number, path = '/'): Promise<{ backend: string; client: { port: number } }> {
  const options = ['-gsSf', '--interface', CLIENT[family], '--local-port', `${port}`, '--max-time', '10'];
  const answer = await lab.inClient('curl', ...options, `http://${hostOf(family)}:${lab.topology.natPort}${path}`);
  return JSON.parse(answer);
}

/** What the client's kernel has sent and received, IPv4. */
async function counted(): Promise<Record<string, number>> {
  const names = ['IpOutRequests', 'IpExtOutOctets', 'IpExtInOctets'];
  return JSON.parse(await lab.inClient('nstat', '-asz', '--json', ...names)).kernel;
}

for (const family of [4, 6] as const)
  test(`nat: flows are what client, backend and balancer have seen, IPv${family}`, async () => {
    const before = await counted();
    const { natBackendPort, natPort, balancers, backends } = lab.topology;
    const source = family === 4 ? balancers[0].address4 : balancers[0].address6;
    const answers = new Map<string, string>();
    const asked = new Map<string, string>();
    for (let port = 20_000; port < 20_012; port++) {
      const { backend, client } = await get(family, port);
      const from = endpoint(CLIENT[family], port);
      answers.set(from, backend);
      asked.set(from, endpoint(source, client.port));
    }
    let seen: readonly FlowView[] = [];
    await until('all are over', async () => {
      seen = await flows(`client=${CLIENT[family]}`);
      return seen.length === 12 && seen.every(({ state }) => state === 'closed');
    });
    assert.ok(new Set(answers.values()).size > 1, 'several backends answered');
    for (const flow of seen) {
      const { client, nat } = flow;
      assert.ok(nat, client);
      const backend = backends.find((one) => one.name === flow.backend);
      const address = family === 4 ? backend?.address4 : backend?.address6;
      assert.deepEqual(
        [flow.service, flow.protocol, flow.vip, flow.backend, nat.source, nat.destination],
        [
          ...[`nat${family}`, 'tcp', `${hostOf(family)}:${natPort}`, answers.get(client), asked.get(client)],
          endpoint(address ?? '', natBackendPort),
        ],
      );
      const { backendNs, clientNs } = nat.handshake;
      assert.ok(backendNs && clientNs && flow.handshakeNs === backendNs + clientNs, client);
      assert.ok(flow.firstSeen <= flow.lastSeen && Math.abs(Date.now() - flow.firstSeen) < 60_000);
      assert.ok(nat.replyPackets >= 4 && nat.replyBytes > 200, client);
    }
    if (family === 6) return; // its neighbour discovery is counted with it
    const now = await counted();
    const grown = (counter: string): number => (now[counter] ?? 0) - (before[counter] ?? 0);
    const bytes = [sum(seen.map((flow) => flow.bytes)), sum(seen.map(({ nat }) => nat?.replyBytes ?? 0))];
    assert.deepEqual(bytes, [grown('IpExtOutOctets'), grown('IpExtInOctets')]);
    assert.equal(sum(seen.map(({ packets }) => packets)), grown('IpOutRequests'));
  });

test('nat: flows are filtered and sorted among all others', async () => {
  const { vip4, httpPort, natPort } = lab.topology;
  await free();
  for (const [at, port] of [natPort, httpPort, natPort, httpPort].entries()) {
    const options = ['--interface', CLIENT[4], '--local-port', `${21_000 + at}`, '--max-time', '10'];
    const body = 'x'.repeat(2_000 * 4 ** at);
    await lab.inClient('curl', '-sSf', ...options, '-d', body, '-o', '/dev/null', `http://${vip4}:${port}/`);
  }
  const ports = async (query: string) =>
    (await flows(`client=${CLIENT[4]}&${query}`))
      .map(({ client }) => Number(/:(\d+)$/.exec(client)?.[1]))
      .filter((port) => port >= 21_000);
  assert.deepEqual(await ports('sort=bytes'), [21_003, 21_002, 21_001, 21_000]);
  assert.deepEqual(await ports('sort=age'), [21_000, 21_001, 21_002, 21_003]);
  assert.deepEqual(await ports('sort=bytes&service=nat4'), [21_002, 21_000]);
  const [first] = await flows(`client=${CLIENT[4]}&service=nat4`);
  const of = await flows(`backend=${first?.backend}&service=nat4`);
  assert.ok(of.length > 0 && of.every(({ backend }) => backend === first?.backend));
  assert.deepEqual(await flows('client=192.0.2.99'), []);
});

test('nat: services and backends count requests, as with direct return', async () => {
  const services = natServices(lab.topology);
  const of = async () => readServices(lab.api, lab.topology, services);
  const before = await of();
  for (const family of [4, 6] as const) for (let port = 22_000; port < 22_005; port++) await get(family, port);
  let seen: readonly FlowView[] = [];
  await until('all are over', async () => {
    seen = (await Promise.all([4, 6].map((family) => flows(`service=nat${family}`)))).flat();
    seen = seen.filter(({ client }) => /:2200\d$/.test(client));
    return seen.length === 10 && seen.every(({ state }) => state === 'closed');
  });
  const now = await of();
  for (const { service } of services)
    for (const unit of ['packets', 'bytes'] as const) {
      const wanted = sum(seen.filter((flow) => flow.service === service).map((flow) => flow[unit]));
      assert.equal((now[service]?.[unit] ?? 0) - (before[service]?.[unit] ?? 0), wanted, `${service} ${unit}`);
    }
});

test('nat: no request fails when the daemon is killed under load, and a download goes on', async () => {
  const driver = await startDriver(lab.topology, natServices(lab.topology));
  const size = 50_000_000; // more than the sockets' buffers hold
  const url = `http://${lab.topology.vip4}:${lab.topology.natPort}/bytes/${size}`;
  const download = spawnInside(
    lab.topology.client,
    ['curl', '-sSf', '--limit-rate', '5M', '-w', '%{size_download}', '-o', '/dev/null', url],
    ['ignore', 'pipe', 'inherit'],
  );
  const ended = once(download, 'exit');
  let printed = '';
  download.stdout?.setEncoding('utf8').on('data', (text: string) => {
    printed += text;
  });
  try {
    driver.command({ kind: 'run', phase: 'only', rate: 200, count: null });
    const more = async (count: number): Promise<void> => {
      const goal = (driver.report().phases.only?.requests ?? 0) + count;
      await driver.until(({ phases }) => (phases.only?.requests ?? 0) >= goal, 20_000, never);
    };
    for (let round = 0; round < 2; round++) {
      await more(150);
      const before = (await flows('service=nat4&sort=age')).filter(({ state }) => state === 'established');
      const [oldest] = before.filter(({ nat }) => (nat?.replyBytes ?? 0) > 1_000_000);
      await lab.serve().kill('SIGKILL');
      await more(150);
      await lab.start();
      const known = (await flows('service=nat4&sort=age')).find(({ client }) => client === oldest?.client);
      const grown = (known?.nat?.replyBytes ?? 0) - (oldest?.nat?.replyBytes ?? 0);
      if (round === 0) assert.ok(oldest && grown > 0, 'the download is known to the next daemon, and has gone on');
    }
    driver.command({ kind: 'stop' });
    const { phases, errors } = await driver.until(({ idle }) => idle, 15_000, never);
    assert.deepEqual(errors, []);
    assert.equal(phases.only?.failed, 0);
    assert.deepEqual(await ended, [0, null]);
    assert.equal(printed, `${size}`);
  } finally {
    await driver.stop();
    await stopChild(download, 1_000);
  }
});

test('nat: a backend that drains tells how many connections are left, and they go on', async () => {
  await free();
  const url = `http://${lab.topology.vip4}:${lab.topology.natPort}/bytes/1000000000`;
  const command = ['curl', '-sSf', '--limit-rate', '1M', '-o', '/dev/null', url];
  const downloads = Array.from({ length: 9 }, () =>
    spawnInside(lab.topology.client, command, ['ignore', 'ignore', 'ignore']),
  );
  const open = async () => (await flows('service=nat4&sort=age')).filter(({ state }) => state === 'established');
  try {
    await until('all are under way', async () => (await open()).length === 9);
    const before = await open();
    const drained = before[0]?.backend;
    const own = before.filter(({ backend }) => backend === drained);
    const place = `/api/v1/pools/web4/backends/${drained}`;
    const left = async () => ((await lab.api('GET', place)) as { status: BackendStatus }).status.drain;
    await lab.api('POST', `${place}/drain?wait=applied`);
    await until('those that are left are told', async () => {
      const drain = await left();
      return drain?.flowsLeft === own.length && (drain.ages?.oldest ?? 0) > 0 && !drain.done;
    });
    assert.equal(await metric(`fairlead_backend_flows{pool="web4",backend="${drained}"}`), own.length);
    assert.equal(await metric('fairlead_service_flows{service="nat4"}'), 9);
    const others = await Promise.all(Array.from({ length: 12 }, (_, at) => get(4, 23_000 + at)));
    assert.ok(
      others.every(({ backend }) => backend !== drained),
      'none is begun with it',
    );
    await until('all have gone on', async () => {
      const now = await open();
      return own.every(({ client, nat }) => {
        const later = now.find((flow) => flow.client === client);
        return later?.backend === drained && (later?.nat?.replyBytes ?? 0) > (nat?.replyBytes ?? 0) + 500_000;
      });
    });
    await Promise.all(downloads.map((each) => stopChild(each, 1_000)));
    await until('none is left', async () => {
      const drain = await left();
      return drain?.flowsLeft === 0 && drain.done;
    });
    await lab.api('POST', `${place}/undrain?wait=applied`);
  } finally {
    await Promise.all(downloads.map((each) => stopChild(each, 1_000)));
  }
});

test('nat: connections end after their time: entries go back to 0, and what comes later is unknown', async () => {
  await free();
  assert.equal(await metric('fairlead_nat_capacity'), 4096);
  const idle = `
    const socket = require('node:net').connect(${lab.topology.natPort}, '${lab.topology.vip4}', () => console.log('open'));
    socket.on('error', () => process.exit(1));
    process.stdin.once('data', () => socket.write('GET / HTTP/1.0\\r\\n\\r\\n')).resume();`;
  const child = spawnInside(lab.topology.client, [process.execPath, '-e', idle], ['pipe', 'pipe', 'inherit']);
  try {
    await once(child.stdout ?? child, 'data');
    assert.equal(await metric('fairlead_nat_entries'), 1);
    await get(4, 24_000);
    assert.equal(await entries(), 2);
    await free();
    assert.deepEqual(await flows('service=nat4'), []);
    const before = await dropped('nat4', 'nat_unknown');
    child.stdin?.write('now\n');
    await until('a packet of it is dropped', async () => (await dropped('nat4', 'nat_unknown')) > before);
    assert.ok((await metric('fairlead_drops_total{service="nat4",reason="nat_unknown"}')) > before);
  } finally {
    await stopChild(child, 1_000);
  }
});

test('nat: UDP: flows of both directions, and they end', async () => {
  const { vip4, vip6, natPort } = lab.topology;
  for (const family of [4, 6] as const)
    await lab.api('PUT', `/api/v1/services/udp${family}?wait=applied`, {
      ...{ address: family === 4 ? vip4 : vip6, port: natPort, protocol: 'udp' },
      ...{ pool: `web${family}`, forwarding: 'nat' },
    });
  const send = await openSender({ ...lab, topology: { ...lab.topology, echoPort: natPort } });
  const wanted = ([4, 6] as const).map((family) => ({
    ...{ from: CLIENT[family], fromPort: 25_000, to: family === 4 ? vip4 : vip6, size: 100, count: 7 },
  }));
  const answers = await send(wanted);
  for (const [at, family] of ([4, 6] as const).entries()) {
    const [flow, ...more] = await flows(`service=udp${family}`);
    assert.equal(more.length, 0);
    const header = family === 4 ? 28 : 48;
    const { nat, backend, protocol, state, packets, bytes, handshakeNs } = flow ?? assert.fail();
    assert.deepEqual(
      { backend, protocol, state, packets, bytes, handshakeNs, handshake: nat?.handshake },
      {
        ...{ backend: answers[at]?.[0], protocol: 'udp', state: 'established', packets: 7 },
        ...{ bytes: 7 * (100 + header), handshakeNs: null, handshake: { backendNs: null, clientNs: null } },
      },
    );
    assert.equal(nat?.replyPackets, 7);
    assert.equal(nat?.replyBytes, 7 * (100 + header + `${backend} `.length));
  }
  await free();
});

/** Opens connections to a port of the VIP, keeps them for a while: how many there were. */
async function opened(port: number, count: number): Promise<number> {
  const script = `
    const { connect } = require('node:net');
    let open = 0;
    const sockets = Array.from({ length: ${count} }, () => connect(${port}, '${lab.topology.vip4}', () => open++));
    for (const socket of sockets) socket.on('error', () => {});
    setTimeout(() => { console.log(open); for (const socket of sockets) socket.connecting ? socket.destroy() : socket.resetAndDestroy(); }, 800);`;
  return Number(await lab.inClient(process.execPath, '-e', script));
}

test('nat: without a port left a connection is refused and counted; with ports again it is begun', async () => {
  const { namespace } = lab.topology.balancers[0];
  const range = ['sysctl', '-qw', `net.ipv4.ip_local_port_range=${1024 + PORTS} 65535`];
  await run('ip', ['netns', 'exec', namespace, ...range]);
  await run('ip', ['-n', namespace, 'address', 'add', `${NARROW}/32`, 'dev', 'eth0']);
  await lab.api('PUT', '/api/v1/services/narrow?wait=applied', {
    ...{ address: lab.topology.vip4, port: 8_001, protocol: 'tcp', pool: 'web4', forwarding: 'nat', snat: [NARROW] },
  });
  const exhausted = () => metric('fairlead_nat_port_exhausted_total{service="narrow"}');
  assert.equal(await exhausted(), 0);
  assert.equal(await opened(8_001, PORTS + 5), PORTS);
  const refused = await exhausted();
  assert.ok(refused >= 5, `${refused}`);
  assert.equal(await dropped('narrow', 'nat_ports'), refused);
  assert.equal(await metric('fairlead_nat_port_exhausted_total{service="nat4"}'), 0);
  await free();
  assert.equal(await opened(8_001, PORTS), PORTS, 'all ports are there again');
  assert.equal(await exhausted(), refused);
});

test('nat: the program is named beside the other', async () => {
  const { nat, interfaces } = await status();
  assert.equal(nat?.capacity, 4096);
  const [program] = nat?.programs ?? [];
  assert.deepEqual([program?.interface, program?.program], [interfaces[0]?.name, 'tc_nat']);
  const labels = `program="tc_nat",interface="${program?.interface}",mode="tcx",tag="${program?.tag}"`;
  assert.equal(await metric(`fairlead_bpf_program_info{${labels}}`), 1);
});

test('nat: behind generic XDP, too', async () => {
  assert.equal((await lab.serve().kill('SIGTERM')).code, 0);
  writeFileSync(lab.config, readFileSync(lab.config, 'utf8').replace('xdp: native', 'xdp: generic'));
  await lab.start();
  assert.equal((await status()).interfaces[0]?.mode, 'generic');
  for (const host of [lab.topology.vip4, `[${lab.topology.vip6}]`])
    for (let turn = 0; turn < 5; turn++)
      await lab.inClient('curl', '-sSf', '-g', '--max-time', '5', '-o', '/dev/null', `http://${host}:8000/`);
});
