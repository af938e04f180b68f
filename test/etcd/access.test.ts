// SPDX-License-Identifier: Apache-2.0
// Certificates and passwords, against a real etcd with its users and roles.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { buildApi } from '../../src/api/app.js';
import type { EtcdConfig } from '../../src/controlplane/config.js';
import { readAccess } from '../../src/controlplane/etcd/access.js';
import type { EtcdAccess } from '../../src/controlplane/etcd/client.js';
import type { Store } from '../../src/controlplane/store.js';
import { type Certificate, makeAuthority } from '../support/certificates.js';
import { type Etcd, startEtcd } from '../support/etcd.js';
import { until } from '../support/lab.js';
import { nodeDouble } from '../unit/node-double.js';
import { putPool } from '../unit/store-contract.js';
import { assertEqualToEtcd, openStore } from './stores.js';

function scratch(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'fairlead-etcd-tls-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

/** Users of the cluster: root, and one that may only what a node needs. */
function enableAuth(etcd: Etcd, user: string, password: string | null): void {
  etcd.ctl('user', 'add', 'root:secret');
  etcd.ctl('user', 'grant-role', 'root', 'root');
  etcd.ctl('role', 'add', 'fairlead');
  etcd.ctl('role', 'grant-permission', 'fairlead', '--prefix=true', 'readwrite', '/fairlead/');
  etcd.ctl('user', 'add', ...(password === null ? [user, '--no-password'] : [`${user}:${password}`]));
  etcd.ctl('user', 'grant-role', user, 'fairlead');
  etcd.ctl('auth', 'enable');
}

async function restarted(etcd: Etcd, store: Store): Promise<void> {
  await etcd.kill();
  await until('it is away', () => !store.state().connected);
  await etcd.start();
  await until('it is back', () => store.state().connected);
}

test('etcd store: client certificates, a role by common name', async (t) => {
  const authority = makeAuthority(scratch(t));
  const stranger = makeAuthority(scratch(t), 'stranger');
  const [server, root, node, other] = ['server', 'root', 'node-1', 'nobody'].map((name) => authority.issue(name));
  assert.ok(server && root && node && other);
  const ca = authority.ca.certFile;
  const etcd = await startEtcd(t, {
    server: [
      `--cert-file=${server.certFile}`,
      `--key-file=${server.keyFile}`,
      `--trusted-ca-file=${ca}`,
      '--client-cert-auth',
    ],
    ctl: [`--cacert=${ca}`, `--cert=${root.certFile}`, `--key=${root.keyFile}`],
  });
  enableAuth(etcd, 'node-1', null);
  const as = (who: Certificate | null, trusted = authority.ca): Partial<EtcdAccess> => ({
    endpoints: [`https://localhost:${etcd.port}`],
    tls: { ca: trusted.cert, cert: who?.cert ?? null, key: who?.key ?? null },
  });
  const { store } = await openStore(t, { etcd, over: as(node) });
  await store.update(() => [putPool('a', 1)]);
  await restarted(etcd, store);
  await store.update(() => [putPool('a', 2)]);
  assert.match(etcd.ctl('get', '/fairlead/v1/pools/a'), /"weight":2/);
  await assert.rejects(openStore(t, { etcd, over: as(other), name: 'x' }), {
    code: 'permission',
    message: /permission denied/,
  });
  await assert.rejects(openStore(t, { etcd, over: as(null), name: 'x' }), { code: 'unavailable' });
  await assert.rejects(openStore(t, { etcd, over: as(node, stranger.ca), name: 'x' }), {
    code: 'unavailable',
    message: /certificate/,
  });
});

test('etcd store: a password over TLS, and the token that a restart of etcd takes away', async (t) => {
  const authority = makeAuthority(scratch(t));
  const server = authority.issue('server');
  const etcd = await startEtcd(t, {
    server: [`--cert-file=${server.certFile}`, `--key-file=${server.keyFile}`],
    ctl: [`--cacert=${authority.ca.certFile}`],
  });
  enableAuth(etcd, 'fairlead', 'pass word');
  const as = (username: string, password: string): Partial<EtcdAccess> => ({
    endpoints: [`https://localhost:${etcd.port}`],
    tls: { ca: authority.ca.cert, cert: null, key: null },
    auth: { username, password },
  });
  const over = as('fairlead', 'pass word');
  const one = await openStore(t, { etcd, over });
  const other = await openStore(t, { etcd, over, name: 'other' });
  await one.store.update(() => [putPool('a', 1)]);
  await restarted(etcd, one.store);
  const { revision } = await one.store.update(() => [putPool('a', 2)]);
  await until('the other is told', () => other.store.read().revision === revision);
  etcd.ctl('--user=root:secret', 'user', 'add', 'somebody:else'); // makes every token too old
  await one.store.update(() => [putPool('a', 3)]);
  await until('the other is told', () => other.store.read().pools.get('a')?.value.backends[0]?.weight === 3);
  const reader = { client: () => etcd.client(over) } as Etcd;
  await assertEqualToEtcd({ etcd: reader, store: other.store });
  await assert.rejects(openStore(t, { etcd, over: as('fairlead', 'wrong'), name: 'x' }), {
    code: 'permission',
    message: /authentication failed/,
  });
  // What is said to people has no secret in it, also when etcd is away.
  const { hashKey } = one.store.read();
  const app = buildApi({ store: one.store, node: nodeDouble() });
  await etcd.kill();
  await until('it is away', () => !one.store.state().connected);
  const refused = await app.inject({ method: 'PUT', url: '/api/v1/pools/b', payload: {} });
  assert.equal(refused.statusCode, 503);
  const pools = await app.inject('/api/v1/pools');
  await app.close();
  const told = JSON.stringify([one.store.state(), other.store.state(), one.log, other.log, refused.body, pools.body]);
  assert.ok(told.includes('etcd') && !told.includes('pass word') && !told.includes(hashKey), told);
});

test('etcd access: files that the configuration names', async (t) => {
  const directory = scratch(t);
  const file = (name: string, text: string): string => {
    writeFileSync(join(directory, name), text);
    return join(directory, name);
  };
  const config: EtcdConfig = {
    endpoints: ['https://a:1'],
    prefix: '/fairlead/',
    ca: file('ca', 'CA'),
    cert: null,
    key: null,
    username: 'u',
    passwordFile: file('password', ' p w \n'),
    snapshot: '/x',
  };
  const { auth, tls } = await readAccess(config);
  assert.deepEqual([auth, tls.ca?.toString(), tls.cert], [{ username: 'u', password: ' p w ' }, 'CA', null]);
  await assert.rejects(readAccess({ ...config, ca: '/nowhere' }), {
    code: 'not-found',
    message: /^store\.ca: read "\/nowhere": /,
  });
  await assert.rejects(readAccess({ ...config, key: file('key', '') }), { code: 'invalid', message: /is empty$/ });
  await assert.rejects(readAccess({ ...config, cert: directory }), { code: 'invalid' });
});
