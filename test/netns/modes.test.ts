// SPDX-License-Identifier: Apache-2.0
// Every mode and option of the packet path, set through the API, with real traffic.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, before, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { spawnInside, startInside, stopChild } from '../../src/lab/children.js';
import { startDriver } from '../../src/lab/drive.js';
import { run } from '../../src/lab/netns.js';
import { labServices } from '../../src/lab/objects.js';
import { parseAddress } from '../../src/model/address.js';
import { assertCarried, formOf } from '../support/forms.js';
import { tracesOf } from '../support/lab.js';
import { checksum, frame, ipv4Header, ipv6Header } from '../support/packets.js';
import { never, openSender, openServedLab, type SendDatagrams, type ServedLab } from '../support/served-lab.js';
import type { ShuffleJob } from '../support/shuffler.js';

const name = 'ftemodes';
const DATAGRAMS = 1_000;
const CLIENT = { 4: '10.1.0.2', 6: 'fd00:1::2' } as const;
let lab: ServedLab;
let send: SendDatagrams;

before(async () => {
  lab = await openServedLab(name, 3);
  send = await openSender(lab);
  for (const family of [4, 6] as const) {
    const backends = lab.topology.backends.map((one) => ({
      name: one.name,
      address: family === 4 ? one.address4 : one.address6,
    }));
    await lab.api('PUT', `/api/v1/pools/link${family}?wait=applied`, { backends });
  }
});
after(async () => {
  await lab.close();
  assert.deepEqual(tracesOf(name), []);
});

const set = (service: string, fields: object): Promise<unknown> =>
  lab.api('PATCH', `/api/v1/services/${service}?wait=applied`, fields);
const setAll = (pool: (family: 4 | 6) => string, fields: object): Promise<unknown> =>
  Promise.all(
    labServices(lab.topology).map(({ service, address }) =>
      set(service, { pool: pool(address.includes(':') ? 6 : 4), ...fields }),
    ),
  );
const reset = { forwarding: 'ipip', affinity: 'flow', flowMemory: null, allow: null, deny: null, rateLimit: null };

/** Some hundred TCP and UDP requests over all services; none may fail. */
async function drive(): Promise<void> {
  const driver = await startDriver(lab.topology, labServices(lab.topology));
  try {
    driver.command({ kind: 'run', phase: 'only', rate: 400, count: 400 });
    const { phases, errors } = await driver.until(({ idle }) => idle, 30_000, never);
    assert.deepEqual(errors, []);
    assert.deepEqual([phases.only?.requests, phases.only?.failed], [400, 0]);
  } finally {
    await driver.stop();
  }
}

/**
 * Drives traffic in a mode: with flow memory, where flows the client's ports had before may stay with a backend of the other
 * family, then without, where every packet has the one form.
 */
async function driveAs(forwarding: string, mixed: boolean): Promise<void> {
  const to = (inside: 4 | 6, outside: 4 | 6) => formOf(lab, forwarding, inside, outside);
  const either = (inside: 4 | 6) => `(${to(inside, 4)}) or (${to(inside, 6)})`;
  await assertCarried(lab, drive, { 4: either(4), 6: either(6) });
  await setAll(poolFor(forwarding, mixed), { flowMemory: false });
  await assertCarried(lab, drive, { 4: to(4, mixed ? 6 : 4), 6: to(6, mixed ? 4 : 6) });
  await setAll(poolFor(forwarding, mixed), { flowMemory: null });
}

/** The pool of the VIP's family or of the other. */
const poolFor = (forwarding: string, mixed: boolean) => (family: 4 | 6) =>
  `${forwarding === 'l2' ? 'link' : 'web'}${mixed === (family === 4) ? 6 : 4}`;

/** Who answered each of `count` TCP connections of the client to this URL. */
async function connections(family: 4 | 6, count: number, port = lab.topology.httpPort): Promise<string[]> {
  const host = family === 4 ? lab.topology.vip4 : `[${lab.topology.vip6}]`;
  const urls = Array.from({ length: count }, () => `http://${host}:${port}/`);
  const answers = await lab.inClient('curl', '-gsSf', '--max-time', '10', '-H', 'connection: close', ...urls);
  return answers
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line).backend);
}

/** A value of the metrics, 0 when it is not there. */
async function metric(sample: string): Promise<number> {
  const lines = String((await lab.ask('GET', '/metrics')).body).split('\n');
  return Number(lines.find((line) => line.startsWith(`${sample} `))?.slice(sample.length) ?? 0);
}

/** UDP flows of the client, each from a port of its own: who echoed each. */
const flows = (family: 4 | 6, firstPort: number, count: number, more: { size?: number; count?: number } = {}) =>
  send(
    Array.from({ length: count }, (_, at) => ({
      from: CLIENT[family],
      fromPort: firstPort + at,
      to: family === 4 ? lab.topology.vip4 : lab.topology.vip6,
      size: 20,
      count: 1,
      ...more,
    })),
  );

/** Packets dropped for this reason, all services. */
async function dropped(reason: string): Promise<number> {
  const { items } = (await lab.api('GET', '/api/v1/drops')) as { items: { reason: string; packets: number }[] };
  return items.reduce((all, one) => all + (one.reason === reason ? one.packets : 0), 0);
}

for (const forwarding of ['ipip', 'gue'])
  for (const mixed of [false, true])
    test(`modes: ${forwarding} to backends of ${mixed ? 'the other' : 'the same'} family`, async () => {
      await setAll(poolFor(forwarding, mixed), { forwarding });
      await driveAs(forwarding, mixed);
    });

test('modes: l2', async () => {
  await setAll(poolFor('l2', false), { forwarding: 'l2' });
  await driveAs('l2', false);
  await setAll((family) => `web${family}`, reset);
});

test('modes: a service of all ports takes two of them, of TCP and UDP', async () => {
  const { backends, vip4, vip6, echoPort, httpPort } = lab.topology;
  const [otherHttp, otherEcho] = [8_080, 5_301];
  const servers = await Promise.all(
    backends.map(({ namespace, name: backend }) =>
      startInside(namespace, 'echo-server.js', [backend, `${otherHttp}`, `${otherEcho}`, vip4, vip6]),
    ),
  );
  try {
    const sendOther = await openSender({ ...lab, topology: { ...lab.topology, echoPort: otherEcho } });
    for (const family of [4, 6] as const) {
      const flow = { from: CLIENT[family], to: family === 4 ? vip4 : vip6, size: 20, count: 1 };
      await assert.rejects(sendOther([{ ...flow, fromPort: 20_000 }]), /no echo|REFUSED/i);
      await set(`echo${family}`, { port: 0 });
      await set(`http${family}`, { port: 0 });
      assert.equal((await flows(family, 20_100, 10)).length, 10);
      const more = Array.from({ length: 10 }, (_, at) => ({ ...flow, fromPort: 20_200 + at }));
      assert.equal((await sendOther(more)).flat().length, 10);
      for (const port of [httpPort, otherHttp]) assert.equal((await connections(family, 10, port)).length, 10);
      await set(`echo${family}`, { port: echoPort });
      await set(`http${family}`, { port: httpPort });
    }
  } finally {
    await Promise.all(servers.map((server) => stopChild(server, 1_000)));
  }
});

test('modes: affinity to the source: one backend for all connections of a client', async () => {
  for (const [service, family] of [
    ['echo4', 4],
    ['echo6', 6],
  ] as const) {
    assert.ok(new Set((await flows(family, 21_000, 30)).flat()).size > 1, 'by the flow there are several');
    await set(service, { affinity: 'source', affinityPrefix: { ipv4: 24, ipv6: 64 } });
    assert.equal(new Set((await flows(family, 22_000, 30)).flat()).size, 1);
    await set(service, { affinity: 'flow', affinityPrefix: null });
    assert.ok(new Set(await connections(family, 30)).size > 1, 'by the flow there are several');
    await set(`http${family}`, { affinity: 'source', affinityPrefix: { ipv4: 24, ipv6: 64 } });
    assert.equal(new Set(await connections(family, 30)).size, 1);
    await set(`http${family}`, { affinity: 'flow', affinityPrefix: null });
  }
});

test('modes: without flow memory', async () => {
  const remembered = async (ports: RegExp) => {
    const { items } = (await lab.api('GET', '/api/v1/flows?limit=1000')) as { items: { client: string }[] };
    return items.filter(({ client }) => ports.test(client)).length;
  };
  for (const family of [4, 6] as const) await flows(family, 31_000, 5);
  assert.equal(await remembered(/:3100\d$/), 10);
  await setAll((family) => `web${family}`, { flowMemory: false });
  for (const family of [4, 6] as const) await flows(family, 31_010, 5);
  assert.equal(await remembered(/:3101\d$/), 0);
  await drive();
  await setAll((family) => `web${family}`, reset);
});

test('modes: deny and allow lists', async () => {
  for (const [service, family, own, other] of [
    ['echo4', 4, '10.1.0.0/24', '10.2.0.0/16'],
    ['echo6', 6, 'fd00:1::/64', 'fd00:2::/32'],
  ] as const) {
    await set(service, { deny: [own] });
    const denied = await dropped('denied');
    await assert.rejects(flows(family, 23_000, 1), /no echo/);
    assert.equal((await dropped('denied')) - denied, 1);
    await set(service, { deny: [other], allow: [own] });
    assert.equal((await flows(family, 23_100, 10)).length, 10);
    await set(service, { deny: null, allow: [other] });
    const refused = await dropped('not_allowed');
    await assert.rejects(flows(family, 23_200, 1), /no echo/);
    assert.equal((await dropped('not_allowed')) - refused, 1);
    await set(service, { allow: null });
  }
});

for (const family of [4, 6] as const)
  test(`modes: a rate limit lets the burst pass and no more, IPv${family}`, async () => {
    const service = `echo${family}`;
    const limited = () => dropped('rate_limited');
    const before = await limited();
    await set(service, { rateLimit: { packetsPerSecond: 100_000, burst: 1_000 } });
    assert.equal((await flows(family, 24_300, 5, { count: 40 })).length, 5);
    await set(service, { rateLimit: { packetsPerSecond: 1, burst: 10 } });
    assert.equal((await flows(family, 24_000, 10)).length, 10);
    assert.equal(await limited(), before, 'below the rate nothing is dropped');
    await assert.rejects(flows(family, 24_100, 10), /no echo/);
    assert.ok((await limited()) - before >= 5);
    await set(service, { rateLimit: null });
    assert.equal((await flows(family, 24_200, 20)).length, 20);
  });

for (const family of [4, 6] as const)
  test(`modes: QUIC goes by connection ID, whatever the port it comes from, IPv${family}`, async () => {
    const serverIds = (config: number) =>
      lab.topology.backends.map((one, at) => ({
        name: one.name,
        address: family === 4 ? one.address4 : one.address6,
        serverIds: [{ config, id: `aa0${at}` }, ...(config === 0 ? [] : [{ config: 0, id: `bb${at}0cc` }])],
      }));
    await lab.api('PUT', `/api/v1/pools/quic${family}?wait=applied`, { backends: serverIds(2) });
    await set(`echo${family}`, { pool: `quic${family}`, affinity: 'quic-cid' });
    for (const [at, { name: backend }] of lab.topology.backends.entries()) {
      for (const id of [`40aa0${at}`, `00bb${at}0cc`]) {
        // Short headers: 0x40, then the connection ID; config 2 and, before the rotation, config 0.
        // The same ports for every ID: what they were used for before must not matter.
        const answers = await quic(family, `40${id}`.padEnd(40, '7'), 25_000, 8);
        assert.deepEqual(new Set(answers), new Set([backend]), `${id}: ${answers}`);
      }
    }
    const initial = await quic(family, `c00000000108${'40aa00'.padEnd(16, '1')}00`.padEnd(80, '0'), 26_000, 30);
    assert.ok(new Set(initial).size > 1, 'an Initial goes by its flow');
    const text = String((await lab.ask('GET', '/metrics')).body);
    for (const [kind, count] of [
      ['routed', 8 * 2 * lab.topology.backends.length],
      ['initial', 30],
    ] as const)
      assert.match(text, new RegExp(`^fairlead_quic_total\\{service="echo${family}",kind="${kind}"\\} ${count}$`, 'm'));
    await set(`echo${family}`, { pool: `web${family}`, affinity: 'flow' });
  });

/** Sends this payload once from each of `count` ports: the backends that echoed it. */
async function quic(family: 4 | 6, payload: string, firstPort: number, count: number): Promise<string[]> {
  const ports = Array.from({ length: count }, (_, at) => firstPort + at);
  const script = `
    const dgram = require('node:dgram');
    Promise.all(${JSON.stringify(ports)}.map((port) => new Promise((resolve, reject) => {
      const socket = dgram.createSocket('udp${family}');
      setTimeout(reject, 3000, new Error('no echo')).unref();
      socket.on('message', (m) => { socket.close(); resolve(m.subarray(0, m.indexOf(' ')).toString()); });
      socket.bind(port, () => socket.send(Buffer.from('${payload}', 'hex'), ${lab.topology.echoPort}, '${family === 4 ? lab.topology.vip4 : lab.topology.vip6}'));
    }))).then((all) => console.log(all.join(' ')));`;
  return (await lab.inClient(process.execPath, '-e', script)).trim().split(' ');
}

test('modes: the balancer answers pings to its VIPs', async () => {
  const answered = () => metric('fairlead_icmp_total{kind="echo_answered"}');
  const before = await answered();
  for (const vip of [lab.topology.vip4, lab.topology.vip6])
    for (const size of ['56', '1400'])
      assert.match(await lab.inClient('ping', '-n', '-c', '5', '-i', '0.05', '-s', size, vip), / 5 received/);
  assert.equal((await answered()) - before, 20);
  for (const namespace of [lab.topology.balancers[0].namespace, ...lab.topology.backends.map((one) => one.namespace)]) {
    const text = await run('ip', [
      'netns',
      'exec',
      namespace,
      'nstat',
      '-asz',
      '--json',
      'IcmpInEchos',
      'Icmp6InEchos',
    ]);
    assert.deepEqual(JSON.parse(text).kernel, { IcmpInEchos: 0, Icmp6InEchos: 0 }, `no host answered: ${namespace}`);
  }
});

for (const family of [4, 6] as const)
  test(`modes: ${DATAGRAMS} datagrams of 3,000 bytes over IPv${family} are all answered, in order and shuffled`, async () => {
    // The first may teach the client what fits (IPv6): it is not counted, and may get lost.
    if (family === 6) await flows(6, 27_000, 1, { size: 3_000 }).catch(() => null);
    assert.equal((await flows(family, 27_100, 10, { size: 3_000, count: DATAGRAMS / 10 })).length, 10);
    // Until no identification of these is remembered any more: the kernel may have given them those that are used below.
    await pause(2_200);
    const early = () => metric(`fairlead_fragments_total{service="echo${family}",kind="early"}`);
    const before = await early();
    assert.equal(await shuffled(family), DATAGRAMS);
    assert.equal((await early()) - before, DATAGRAMS, 'each datagram came with another than its first fragment ahead');
  });

/** Sends datagrams whose last fragment comes first: how many were echoed. */
async function shuffled(family: 4 | 6): Promise<number> {
  const { client, router, vip4, vip6, echoPort } = lab.topology;
  const macOf = async (namespace: string, device: string): Promise<Buffer> =>
    Buffer.from(
      JSON.parse(await run('ip', ['-n', namespace, '-j', 'link', 'show', device]))[0].address.replaceAll(':', ''),
      'hex',
    );
  const macs = Buffer.concat([await macOf(router, 'client'), await macOf(client, 'eth0')]);
  // In turn: what came last between the two addresses went to another flow's backend.
  const localPorts = Array.from({ length: 10 }, (_, at) => 28_000 + at);
  const vip = family === 4 ? vip4 : vip6;
  const payloads = Array.from({ length: DATAGRAMS }, (_, at) => Buffer.alloc(3_000, `${at},`));
  const datagrams = payloads.map((payload, at) => {
    const parts = fragmentsOf(
      family,
      CLIENT[family],
      vip,
      udp(CLIENT[family], vip, localPorts[at % 10] ?? 0, echoPort, payload),
      at + 1,
    );
    const order =
      [
        [2, 1, 0],
        [1, 2, 0],
        [2, 0, 1],
        [1, 0, 2],
      ][at % 4] ?? [];
    return order.map((part) => frame(parts[part] ?? assert.fail(), macs).toString('hex'));
  });
  const relayPort = 29_000;
  const socat = spawnInside(
    client,
    ['socat', '-u', `UDP4-RECV:${relayPort},bind=127.0.0.1,rcvbuf=4000000`, 'INTERFACE:eth0'],
    ['ignore', 'inherit', 'inherit'],
  );
  const child = await startInside(client, '../../test/support/shuffler.js', []);
  try {
    const job: ShuffleJob = {
      relayPort,
      family,
      localPorts,
      datagrams,
      payloads: payloads.map((one) => one.toString('hex')),
    };
    child.send(job);
    const [{ answered }] = (await once(child, 'message')) as [{ answered: number }];
    return answered;
  } finally {
    socat.kill('SIGKILL');
    await stopChild(child, 1_000);
  }
}

function udp(from: string, to: string, fromPort: number, toPort: number, payload: Buffer): Buffer {
  const size = payload.length + 8;
  const segment = Buffer.concat([Buffer.alloc(8), payload]);
  for (const [at, word] of [fromPort, toPort, size].entries()) segment.writeUInt16BE(word, at * 2);
  const pseudo = Buffer.concat([
    parseAddress(from).bytes,
    parseAddress(to).bytes,
    Buffer.of(0, 17, size >> 8, size & 255),
  ]);
  segment.writeUInt16BE(checksum(Buffer.concat([pseudo, segment])) || 0xffff, 6);
  return segment;
}

/** Three fragments: over IPv4 as long as the link allows, over IPv6 as the tunnel does. */
function fragmentsOf(family: 4 | 6, from: string, to: string, segment: Buffer, id: number): Buffer[] {
  const step = family === 4 ? 1_480 : 1_400;
  return [0, step, 2 * step].map((start) => {
    const data = segment.subarray(start, start + step);
    const more = start + step < segment.length;
    if (family === 4) {
      const header = ipv4Header(from, to, 17, data.length, { fragment: (start >> 3) | (more ? 0x2000 : 0) });
      header.writeUInt16BE(id, 4);
      header.writeUInt16BE(0, 10);
      header.writeUInt16BE(checksum(header), 10);
      return Buffer.concat([header, data]);
    }
    const extension = Buffer.of(17, 0, start >> 8, (start & 0xf8) | (more ? 1 : 0), 0, 0, id >> 8, id & 255);
    return Buffer.concat([ipv6Header(from, to, 44, data.length + 8), extension, data]);
  });
}
