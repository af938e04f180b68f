// SPDX-License-Identifier: Apache-2.0
// `fairlead migrate`, as an operator runs it.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { loadConfig } from '../../src/controlplane/config.js';
import { openFileStore } from '../../src/controlplane/file-store.js';
import { openShared } from '../../src/controlplane/shared.js';
import { parseState } from '../../src/controlplane/state-file.js';
import type { Change } from '../../src/controlplane/store.js';
import type { Snapshot } from '../../src/model/objects.js';
import { openEventLog } from '../../src/observability/event-log.js';
import { type Etcd, startEtcd } from '../support/etcd.js';
import { until } from '../support/lab.js';
import { mainFile } from '../support/serve.js';
import { pool, putPool } from '../unit/store-contract.js';
import { assertEqualToEtcd, openStore } from './stores.js';

interface Setup {
  readonly etcd: Etcd;
  readonly file: string;
  readonly state: Snapshot;
  run(...args: readonly string[]): { readonly code: number | null; readonly out: string; readonly err: string };
}

/** A state file with 150 pools, changed once each, and as many services; an empty etcd; a configuration that names both. */
async function setup(t: TestContext): Promise<Setup> {
  const etcd = await startEtcd(t);
  const file = join(etcd.directory, 'state.json');
  const store = await openFileStore(file);
  const names = Array.from({ length: 150 }, (_, i) => `p${i}`);
  await store.update(() => names.map((name) => putPool(name, 1)));
  await store.update(() => names.map((name) => putPool(name, 2)));
  const state = await store.update(() =>
    names.map((name, i): Change => {
      const value = { name, address: '192.0.2.1', port: i + 1, protocol: 'tcp', pool: name } as const;
      return { kind: 'service', name, value: { ...value, forwarding: 'ipip', affinity: 'flow' } };
    }),
  );
  await store.close();
  const config = join(etcd.directory, 'fairlead.yaml');
  writeFileSync(config, `interfaces: [{ name: eth0 }]\nstore: { path: ${file}, endpoints: ["${etcd.endpoint}"] }\n`);
  const run = (...args: readonly string[]) => {
    const command = [mainFile, 'migrate', '--config', config, ...args];
    const { status, stdout, stderr } = spawnSync(process.execPath, command, { encoding: 'utf8' });
    return { code: status, out: stdout, err: stderr };
  };
  return { etcd, file, state, run };
}

/** Without revisions, which are each store's own. */
const content = ({ hashKey, pools, services }: Snapshot) => ({
  hashKey,
  pools: [...pools].map(([name, { value, log }]) => [name, value, log]).sort(),
  services: [...services].map(([name, { value }]) => [name, value]).sort(),
});

const fileToEtcd = ['--from', 'file', '--to', 'etcd'] as const;

test('migrate: a dry run counts and writes nothing', async (t) => {
  const { etcd, file, run } = await setup(t);
  const { code, out, err } = run(...fileToEtcd, '--dry-run');
  assert.deepEqual([code, err], [0, '']);
  assert.deepEqual(out.split('\n'), [
    `from   file "${file}", revision 3`,
    `to     etcd "/fairlead/" at ${etcd.endpoint}`,
    'holds  150 services, 150 pools',
    'dry run: nothing was written',
    '',
  ]);
  assert.equal(etcd.ctl('get', '--prefix', '--keys-only', '/'), '');
});

test('migrate: etcd then holds what the file holds, hash key and logs too; a second time it is refused', async (t) => {
  const { etcd, state, run } = await setup(t);
  const { code, out } = run(...fileToEtcd, '-o', 'json');
  assert.equal(code, 0);
  const { written, services, pools, notes } = JSON.parse(out);
  assert.deepEqual({ written, services, pools, notes }, { written: 300, services: 150, pools: 150, notes: [] });
  const { store } = await openStore(t, { etcd });
  assert.deepEqual(content(store.read()), content(state));
  await assertEqualToEtcd({ etcd, store });
  const before = store.read();
  const again = run(...fileToEtcd);
  assert.equal(again.code, 4);
  assert.match(again.err, /is not empty, it holds 150 services and 150 pools; nothing was changed/);
  assert.equal(store.read(), before);
});

test('migrate: one that was interrupted goes on, and nodes take nothing before it is whole', async (t) => {
  const { etcd, state, run } = await setup(t);
  assert.equal(run(...fileToEtcd).code, 0);
  for (const key of ['cluster', 'revision', 'pools/p7', 'services/p8']) etcd.ctl('del', `/fairlead/v1/${key}`);
  const { code, out } = run(...fileToEtcd);
  assert.equal(code, 0);
  assert.match(
    out,
    /note {3}298 documents were there already, of a migration that was interrupted\ndone: 2 documents written/,
  );
  const { store } = await openStore(t, { etcd });
  assert.deepEqual(content(store.read()), content(state));
  etcd.ctl('del', '/fairlead/v1/cluster');
  etcd.ctl('put', '/fairlead/v1/pools/p7', JSON.stringify(pool('p7', 99)));
  assert.equal(run(...fileToEtcd).code, 4);
});

test('migrate: back to a file', async (t) => {
  const { etcd, run } = await setup(t);
  assert.equal(run(...fileToEtcd).code, 0);
  const { store } = await openStore(t, { etcd });
  await store.update(() => [putPool('later', 5)]);
  const back = join(etcd.directory, 'back.json');
  assert.equal(run('--from', 'etcd', '--to', `file:${back}`).code, 0);
  const read = await parseState(readFileSync(back, 'utf8'), back);
  assert.deepEqual(content(read), content(store.read()));
  assert.equal(read.revision, store.read().revision);
  assert.equal(run('--from', 'etcd', '--to', `file:${back}`).code, 4);
  etcd.ctl('put', '/fairlead/v1/pools/bad', '{');
  const refused = run('--from', 'etcd', '--to', `file:${back}2`);
  assert.deepEqual([refused.code, existsSync(`${back}2`)], [1, false]);
  assert.match(refused.err, /"\/fairlead\/v1\/pools\/bad" is not in force: .*; mend or delete it first/);
});

test('migrate: a wiped etcd is filled again from the snapshot of a node, which goes on with it', async (t) => {
  const { etcd, run } = await setup(t);
  assert.equal(run(...fileToEtcd).code, 0);
  const { store, snapshot } = await openStore(t, { etcd });
  const before = await store.update(() => [putPool('p3', 9)]);
  const onDisk = (): number => (existsSync(snapshot) ? JSON.parse(readFileSync(snapshot, 'utf8')).revision : 0);
  await until('the snapshot is written', () => onDisk() === before.revision);
  await etcd.kill();
  etcd.wipe();
  await etcd.start();
  await until('it is noticed', () => /holds no cluster/.test(store.state().detail ?? ''));
  store.watch(({ pools, services }) => assert.deepEqual([pools.size, services.size], [150, 150], 'never less'));
  const { code, err } = run('--from', `file:${snapshot}`, '--to', 'etcd');
  assert.deepEqual([code, err], [0, '']);
  await until('it is back', () => store.state().connected);
  assert.deepEqual(content(store.read()), content(before));
  await store.update(() => [putPool('p3', 10)]);
  await assertEqualToEtcd({ etcd, store });
});

test('migrate: a node that goes over to an empty etcd does not forget the file it had', async (t) => {
  const { etcd, file, state, run } = await setup(t);
  const config = join(etcd.directory, 'fairlead.yaml');
  const { store: settings } = loadConfig({ path: config, env: {}, flags: { 'store.type': 'etcd' } });
  const etcdSettings = { ...settings.etcd, snapshot: join(etcd.directory, 'snapshot.json') };
  const open = () =>
    openShared(
      { ...settings, etcd: etcdSettings },
      'edge-1',
      { info: () => undefined, warn: () => undefined },
      openEventLog(),
    );
  await assert.rejects(open(), {
    code: 'conflict',
    message: new RegExp(`"${file}" holds 300 objects; bring them over`),
  });
  assert.equal(etcd.ctl('get', '--prefix', '--keys-only', '/'), '');
  assert.equal(run(...fileToEtcd).code, 0);
  const shared = await open();
  etcd.using(shared);
  assert.deepEqual(content(shared.store.read()), content(state));
});

test('migrate: what cannot be done is said in a sentence', async (t) => {
  const { etcd, file, run } = await setup(t);
  const held = await openFileStore(file);
  assert.match(
    run(...fileToEtcd, '--dry-run').out,
    /note {3}a daemon has ".*" open: what it writes from now on is not migrated/,
  );
  await held.close();
  const cases: [readonly string[], number, RegExp][] = [
    [['--from', 'file', '--to', 'file'], 4, /--from and --to are both file/],
    [['--from', 'file', '--to', 'consul'], 4, /--to "consul": wanted file, file:PATH or etcd/],
    [['--from', 'file:/nowhere/x', '--to', 'etcd'], 4, /"\/nowhere\/x": it does not exist/],
    [['--from', 'etcd', '--to', `file:${file}2`], 4, /holds no cluster/],
    [['--from', 'file'], 2, /--to/],
  ];
  for (const [args, code, message] of cases) {
    const ended = run(...args);
    assert.equal(ended.code, code, ended.err);
    assert.match(ended.err, message);
  }
  await etcd.kill();
  assert.equal(run(...fileToEtcd).code, 3);
});
