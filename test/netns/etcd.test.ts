// SPDX-License-Identifier: Apache-2.0
// The daemon with its store in etcd, and without etcd.
import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { after, before, test } from 'node:test';
import { spawnInside } from '../../src/lab/children.js';
import { destroyNamespaces, run, unmount } from '../../src/lab/netns.js';
import type { NodeStatus } from '../../src/model/node-view.js';
import { readExposition } from '../support/exposition.js';
import { until } from '../support/lab.js';
import { ask, startServe, untilReady } from '../support/serve.js';

const lab = 'ftestetcd';
const namespace = `${lab}-lb1`; // so that destroyNamespaces knows it
let directory: string;
let etcd: ChildProcess | null = null;

function startEtcd(): void {
  const url = 'http://127.0.0.1:2379';
  const args = [`--listen-client-urls=${url}`, `--advertise-client-urls=${url}`, '--log-level=error', '--logger=zap'];
  etcd = spawnInside(namespace, ['etcd', `--data-dir=${directory}/data`, ...args], 'ignore');
}

async function killEtcd(): Promise<void> {
  const child = etcd;
  etcd = null;
  if (child === null) return;
  const ended = new Promise((resolve) => child.once('close', resolve));
  child.kill('SIGKILL');
  await ended;
}

before(async () => {
  await destroyNamespaces(lab); // of a run that was killed
  directory = mkdtempSync(`${tmpdir()}/fairlead-etcd-`);
  chmodSync(directory, 0o755);
  const links = [
    'link set lo up',
    'link add eth0 type veth peer name peer0',
    'link set eth0 up',
    'link set peer0 up',
    'address add 10.9.0.10/24 dev eth0',
  ];
  await run('ip', ['netns', 'add', namespace]);
  await run('ip', ['-n', namespace, '-batch', '-'], links.join('\n'));
});
after(async () => {
  await killEtcd();
  await destroyNamespaces(lab);
  await unmount(`${directory}/bpf`);
  rmSync(directory, { recursive: true });
});

test('serve: with etcd, without it, begun without it, and with it again', async () => {
  const config = `${directory}/config.yaml`;
  const socket = `${directory}/api.sock`;
  writeFileSync(
    config,
    `node: lb1
interfaces: [{ name: eth0, xdp: generic }]
store: { type: etcd, endpoints: ["http://127.0.0.1:2379"], snapshot: ${directory}/state/snapshot.json }
api: { socket: ${socket} }
bpffs: ${directory}/bpf
tunnel: { source: 10.9.0.10 }
`,
  );
  const put = (path: string, body: object) => ask(socket, 'PUT', `/api/v1/${path}`, body);
  const status = async () => (await ask(socket, 'GET', '/api/v1/status')).body as NodeStatus;
  const metric = async (name: string) => {
    const families = readExposition(String((await ask(socket, 'GET', '/metrics')).body));
    return families.get(`fairlead_${name}`)?.samples ?? [];
  };
  const pool = { backends: [{ name: 'b1', address: '10.9.0.21' }] };

  startEtcd();
  const first = startServe(namespace, config);
  await untilReady(first, socket);
  assert.equal((await put('pools/web?wait=applied', pool)).status, 201);
  const service = { address: '192.0.2.10', port: 80, protocol: 'tcp', pool: 'web' };
  assert.equal((await put('services/www?wait=applied', service)).status, 201);
  assert.deepEqual((await status()).store.connected, true);
  assert.deepEqual((await ask(socket, 'GET', '/readyz')).body, { ready: true });

  await killEtcd();
  await until('it is noticed', async () => !(await status()).store.connected);
  assert.equal((await put('pools/web', { ...pool, holdSeconds: 60 })).status, 503);
  assert.equal((await ask(socket, 'GET', '/api/v1/services/www')).status, 200);
  const readyz = await ask(socket, 'GET', '/readyz');
  assert.equal(readyz.status, 200);
  assert.match((readyz.body as { store: string }).store, /^etcd: .*; revision \d+ stays in force$/);
  assert.deepEqual(
    (await metric('store_connected')).map(({ value }) => value),
    [0],
  );
  const before = await status();
  const saved = () => JSON.parse(readFileSync(`${directory}/state/snapshot.json`, 'utf8')).revision;
  await until('it is on disk', () => saved() === before.store.revision);
  await first.kill('SIGKILL');

  const second = startServe(namespace, config);
  await untilReady(second, socket);
  const without = await status();
  assert.deepEqual(
    [without.store.revision, without.appliedRevision, without.store.connected],
    [before.store.revision, before.store.revision, false],
  );
  assert.ok(
    without.warnings.some((line) => line.startsWith('the store is not connected: etcd: ')),
    String(without.warnings),
  );
  assert.match(second.output(), /etcd is away; the last state on disk is in force/);
  assert.match(((await ask(socket, 'GET', '/readyz')).body as { store: string }).store, /stays in force$/);

  startEtcd();
  await until('it is back', async () => (await status()).store.connected);
  assert.equal((await put('pools/web?wait=applied', { ...pool, holdSeconds: 60 })).status, 200);
  const relists = await metric('store_relists_total');
  assert.deepEqual(Object.fromEntries(relists.map(({ labels, value }) => [labels.reason, value])), {
    start: 1,
    compacted: 0,
    cluster_changed: 0,
    revision_back: 0,
    periodic: 0,
    asked: 0,
  });
  assert.deepEqual((await second.kill('SIGTERM')).code, 0);
});
