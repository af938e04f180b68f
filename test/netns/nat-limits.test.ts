// SPDX-License-Identifier: Apache-2.0
// NAT at its limits with real connections: a full table refuses, counts and recovers; segments are no larger than a service allows.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { spawnInside, stopChild } from '../../src/lab/children.js';
import { run } from '../../src/lab/netns.js';
import { natServices, putObjects } from '../../src/lab/objects.js';
import type { FlowView, NodeStatus } from '../../src/model/node-view.js';
import { tracesOf, until } from '../support/lab.js';
import { openServedLab, type ServedLab } from '../support/served-lab.js';

const name = 'nb-lim';
const ROOM = 1024;
const TIMEOUTS = 'tcpNew: 1, tcpEstablished: 60, tcpClosing: 1, tcpClosed: 1';
let lab: ServedLab;

before(async () => {
  lab = await openServedLab(name, 2, `nat: { connections: ${ROOM}, ${TIMEOUTS} }\n`);
  await putObjects(lab.api, lab.topology, natServices(lab.topology));
});
after(async () => {
  await lab?.close();
  assert.deepEqual(tracesOf(name), []);
});

const status = async (): Promise<NodeStatus> => (await lab.api('GET', '/api/v1/status')) as NodeStatus;
const entries = async (): Promise<number> => (await status()).nat?.entries ?? -1;

async function metric(sample: string): Promise<number> {
  const lines = String((await lab.ask('GET', '/metrics')).body).split('\n');
  return Number(lines.find((line) => line.startsWith(`${sample} `))?.slice(sample.length) ?? 0);
}

/** Opens so many connections, one after the other in small groups, until told to let go: how many there are after each settled. */
async function hold(count: number): Promise<{ readonly open: number; release(): Promise<void> }> {
  const { vip4, natPort, client } = lab.topology;
  const script = `
    const { connect } = require('node:net');
    let open = 0;
    const sockets = [];
    (async () => {
      while (sockets.length < ${count}) {
        await Promise.race([Promise.all(Array.from({ length: Math.min(32, ${count} - sockets.length) }, () => new Promise((done) => {
          const socket = connect(${natPort}, '${vip4}', () => { open++; done(); });
          socket.on('error', done);
          sockets.push(socket);
        }))), new Promise((done) => setTimeout(done, 900))]);
      }
      console.log(open);
      process.stdin.once('data', () => { for (const socket of sockets) socket.connecting ? socket.destroy() : socket.resetAndDestroy(); setTimeout(() => process.exit(), 200); });
    })();`;
  const child = spawnInside(
    client,
    ['prlimit', '--nofile=4096', process.execPath, '-e', script],
    ['pipe', 'pipe', 'inherit'],
  );
  const [first] = (await once(child.stdout ?? child, 'data')) as [Buffer];
  return {
    open: Number(first),
    async release() {
      const ended = once(child, 'exit');
      child.stdin?.write('now\n');
      await ended;
    },
  };
}

const get = (maxTime = '5'): Promise<string> =>
  lab.inClient(
    'curl',
    '-sSf',
    '--max-time',
    maxTime,
    '-o',
    '/dev/null',
    `http://${lab.topology.vip4}:${lab.topology.natPort}/`,
  );

test('nat limits: a full table refuses new connections with their reason, keeps those it has, and recovers', async () => {
  const url = `http://${lab.topology.vip4}:${lab.topology.natPort}/bytes/1000000000`;
  const download = spawnInside(
    lab.topology.client,
    ['curl', '-sSf', '--limit-rate', '4M', '-o', '/dev/null', url],
    'ignore',
  );
  try {
    const received = async (): Promise<number> => {
      const { items } = (await lab.api('GET', '/api/v1/flows?service=nat4&sort=bytes&limit=1')) as {
        items: FlowView[];
      };
      return items[0]?.nat?.replyBytes ?? 0;
    };
    await until('the download is under way', async () => (await received()) > 1_000_000);
    for (let round = 0; round < 2; round++) {
      const refusedBefore = await metric('fairlead_drops_total{service="nat4",reason="nat_full"}');
      const held = await hold(ROOM + 20);
      assert.equal(held.open, ROOM - 1, 'all there is room for beside the download');
      assert.equal(await entries(), ROOM);
      assert.equal(await metric('fairlead_nat_entries'), await metric('fairlead_nat_capacity'));
      await assert.rejects(get('2'), /timed out/i);
      const refused = await metric('fairlead_drops_total{service="nat4",reason="nat_full"}');
      assert.ok(refused >= refusedBefore + 21, `${refused - refusedBefore} refused`);
      const sofar = await received();
      await until('the download goes on', async () => (await received()) > sofar + 1_000_000);
      await held.release();
      await until('there is room again', async () => (await entries()) === 1);
      for (let at = 0; at < 5; at++) await get();
    }
  } finally {
    await stopChild(download, 1_000);
  }
});

/** The segment sizes that SYN and SYN-ACK of a request have at one end. */
async function sizes(namespace: string, port: number): Promise<string[]> {
  const filter = `tcp port ${port} and tcp[tcpflags] & tcp-syn != 0`;
  const command = ['tcpdump', '-nn', '-l', '-i', 'eth0', '-c', '2', filter];
  const child = spawnInside(namespace, command, ['ignore', 'pipe', 'pipe']);
  let text = '';
  for (const stream of [child.stdout, child.stderr])
    stream?.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk;
    });
  try {
    await until('tcpdump listens', () => text.includes('listening on'));
    const ended = once(child, 'exit');
    await get();
    await ended;
    return [...text.matchAll(/Flags \[(S\.?)\].*mss (\d+)/g)].map(([, flags, mss]) => `${flags} ${mss}`);
  } finally {
    await stopChild(child, 1_000);
  }
}

test('nat limits: SYN and SYN-ACK ask for no more than the service allows; auto follows the MTU of the way', async () => {
  const { client, backends, balancers, vip4, natPort, natBackendPort } = lab.topology;
  const service = { address: vip4, port: natPort, protocol: 'tcp', pool: 'web4', forwarding: 'nat' };
  const put = (more: object): Promise<unknown> =>
    lab.api('PUT', '/api/v1/services/nat4?wait=applied', { ...service, ...more });
  // One backend, so that it is known where to listen.
  await lab.api('POST', '/api/v1/pools/web4/backends/be2/drain?wait=applied');
  const backend = backends[0]?.namespace ?? '';
  const whole = await sizes(backend, natBackendPort);
  assert.equal(new Set(whole.map((each) => each.split(' ')[1])).size, 1, `${whole}`);
  await put({ mss: 1000 });
  assert.deepEqual(await sizes(backend, natBackendPort), ['S 1000', whole[1]], 'the backend is asked for less');
  assert.deepEqual(await sizes(client, natPort), [whole[0], 'S. 1000'], 'and the client');
  await put({ mss: 'auto' });
  assert.deepEqual(await sizes(backend, natBackendPort), whole, 'all of it fits');
  await run('ip', ['-n', balancers[0].namespace, 'link', 'set', 'eth0', 'mtu', '1300']);
  await until('the MTU is known', async () => (await sizes(backend, natBackendPort))[0] === 'S 1260');
  assert.deepEqual(await sizes(client, natPort), [whole[0], 'S. 1260']);
  const url = `http://${vip4}:${natPort}/bytes/3000000`;
  const size = await lab.inClient('curl', '-sSf', '--max-time', '10', '-w', '%{size_download}', '-o', '/dev/null', url);
  assert.equal(size, '3000000');
  await put({});
  assert.equal((await sizes(backend, natBackendPort))[0], whole[0]);
});

test('nat limits: a table of another size than the configuration wants stays, and the status names the key', async () => {
  await lab.serve().kill('SIGTERM');
  writeFileSync(lab.config, readFileSync(lab.config, 'utf8').replace(`connections: ${ROOM}`, 'connections: 2048'));
  await lab.start();
  await until('NAT is there', async () => (await status()).nat !== undefined);
  const { nat, warnings } = await status();
  assert.equal(nat?.capacity, ROOM);
  const wanted = /^nat\.connections: 2048 wanted, the table there is has room for 1024: .*fairlead detach$/;
  assert.equal(warnings.filter((each) => wanted.test(each)).length, 1, warnings.join('\n'));
  assert.match(lab.serve().output(), /nat\.connections: 2048 wanted/, 'the log says so, too');
  await get();
});
