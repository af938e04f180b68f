// SPDX-License-Identifier: Apache-2.0
// The daemon as a user with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON and nothing else, with real traffic; and its API over TLS.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chmodSync, chownSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { createToken, removeToken } from '../../src/api/access/token-file.js';
import { agentKey } from '../../src/dataplane/program.js';
import { apiAt } from '../../src/lab/api.js';
import { type LabBase, openBase } from '../../src/lab/base.js';
import { startDriver } from '../../src/lab/drive.js';
import { namespacePath, processesIn, run } from '../../src/lab/netns.js';
import { allServices, putObjects, readServices } from '../../src/lab/objects.js';
import { sum } from '../../src/lab/table.js';
import { labInterface, labMtu } from '../../src/lab/topology.js';
import { attachAgents, attachPass } from '../../src/lab/xdp.js';
import type { NodeStatus } from '../../src/model/node-view.js';
import { makeAuthority } from '../support/certificates.js';
import { tracesOf, until } from '../support/lab.js';
import { ask, type Serve, startServe, untilReady } from '../support/serve.js';
import { never } from '../support/served-lab.js';

const name = 'ac-user';
const user = 64_123; // nobody's here
const hashKey = 'a5a4a3a2a1a0afaeadacabaaa9a8a7a6';
const capabilities = { bpf: 39, net_admin: 12, perfmon: 38 };
let base: LabBase;
let namespace: string;
let socket: string;
let serve: Serve;
let output = '';
const tokens: Record<string, string> = {};

const at = (path: string): string => join(base.directory, path);

function configure(mtu: number): void {
  const { address4, address6 } = base.topology.balancers[0];
  const text = `node: ${namespace}
interfaces: [{ name: ${labInterface}, xdp: native }]
store: { type: file, path: ${at('lib/state.json')} }
api:
  socket: ${socket}
  listen: 0.0.0.0:7443
  tls: { cert: ${at('etc/ca-server.pem')}, key: ${at('etc/ca-server.key')} }
  tokens: ${at('etc/tokens')}
  audit: ${at('log/audit.jsonl')}
tunnel: { source: ${address4}, source6: "${address6}", mtu: ${mtu} }
bpffs: ${at('bpf')}
`;
  writeFileSync(at('etc/fairlead.yaml'), text);
}

/** As systemd starts it: the checkout and node may lie where only root gets, so they are shown at another place. */
async function start(): Promise<void> {
  const caps = Object.keys(capabilities).map((each) => `+${each}`);
  const drop = [
    ...['--reuid', `${user}`, '--regid', `${user}`, '--clear-groups', '--no-new-privs', '--pdeathsig', 'KILL'],
    ...['--bounding-set', 'inh-caps', 'ambient-caps'].map((set) => (set.startsWith('--') ? set : `--${set}`)),
  ].flatMap((word) => (/-(set|caps)$/.test(word) ? [`${word}=${['-all', ...caps].join()}`] : [word]));
  const script = `mount --bind "$1" "$2/code" && mount --bind "$3" "$2/node" && cd / && exec setpriv ${drop.join(' ')} -- "$2/node" "$2/code/dist/src/main.js" serve --config "$2/etc/fairlead.yaml"`;
  const checkout = fileURLToPath(new URL('../../..', import.meta.url));
  const prefix = ['unshare', '--mount', 'sh', '-c', script, 'sh', checkout, base.directory, process.execPath];
  serve = startServe(namespace, at('etc/fairlead.yaml'), prefix);
  await untilReady(serve, socket);
}

async function stop(signal: NodeJS.Signals): Promise<void> {
  await serve.kill(signal);
  output += serve.output();
}

before(async () => {
  base = await openBase({ name, backends: 3 }, never);
  const { topology } = base;
  namespace = topology.balancers[0].namespace;
  socket = at('run/api.sock');
  for (const programs of [await attachPass(topology), await attachAgents(topology, Buffer.from(hashKey, 'hex'))])
    base.onClose(() => programs.close());
  base.onClose(async () => void (await serve?.kill('SIGKILL')));
  for (const each of ['code', 'etc', 'bpf', 'lib', 'log', 'run']) mkdirSync(at(each));
  writeFileSync(at('node'), '');
  await run('mount', ['-t', 'bpf', '-o', 'mode=0711', 'bpf', at('bpf')]);
  mkdirSync(at('bpf/fairlead'), { mode: 0o700 });
  const state = { format: 1, revision: 0, hashKey, services: [], pools: [] };
  writeFileSync(at('lib/state.json'), JSON.stringify(state), { mode: 0o600 });
  for (const each of ['bpf/fairlead', 'lib', 'lib/state.json', 'log', 'run']) chownSync(at(each), user, user);
  chownSync(at('etc'), 0, user);
  chmodSync(at('etc'), 0o750);
  const { keyFile } = makeAuthority(at('etc')).issue('server');
  chownSync(keyFile, 0, user);
  chmodSync(keyFile, 0o640);
  for (const scope of ['read', 'admin'] as const)
    tokens[scope] = await createToken(at('etc/tokens'), { name: scope, scope, expires: null });
  configure(labMtu);
  await start();
});
after(async () => {
  await base?.close();
  assert.deepEqual(tracesOf(name), []);
});

test('rootless: the daemon has three capabilities, and no way to more', async () => {
  const pids = processesIn([namespace]);
  assert.equal(pids.length, 1);
  const status = readFileSync(`/proc/${pids[0]}/status`, 'utf8');
  const field = (key: string) => new RegExp(`^${key}:\\s+(.*)$`, 'm').exec(status)?.[1];
  const mask = sum(Object.values(capabilities).map((bit) => 2 ** bit))
    .toString(16)
    .padStart(16, '0');
  assert.deepEqual(['CapEff', 'CapPrm', 'CapAmb', 'CapBnd'].map(field), Array(4).fill(mask));
  assert.deepEqual([field('Uid'), field('NoNewPrivs')], [Array(4).fill(user).join('\t'), '1']);
});

test('rootless: tunnels and NAT carry traffic, and no request fails when it is killed and starts again', {
  timeout: 90_000,
}, async () => {
  const { topology } = base;
  const api = apiAt(socket);
  await putObjects(api, topology, allServices(topology));
  const driver = await startDriver(topology, allServices(topology));
  try {
    driver.command({ kind: 'run', phase: 'only', rate: 200, count: null });
    const more = async (count: number): Promise<void> => {
      const goal = (driver.report().phases.only?.requests ?? 0) + count;
      await driver.until(({ phases }) => (phases.only?.requests ?? 0) >= goal, 20_000, never);
    };
    await more(300);
    for (const [mtu, wanted] of [
      [labMtu, 'kept'],
      [labMtu - 100, 'replaced'],
      [labMtu - 100, 'kept'],
    ] as const) {
      await stop('SIGKILL');
      await more(100);
      configure(mtu);
      await start();
      assert.match(serve.output(), new RegExp(`"msg":"program ${wanted}"`), `MTU ${mtu}`);
      await more(100);
    }
    driver.command({ kind: 'stop' });
    const { phases, errors } = await driver.until(({ idle }) => idle, 15_000, never);
    assert.deepEqual(errors, []);
    assert.equal(phases.only?.failed, 0);
  } finally {
    await driver.stop();
  }
  const services = await readServices(api, topology, allServices(topology));
  for (const [service, { packets }] of Object.entries(services)) assert.ok(packets > 100, `${service}: ${packets}`);
  const status = (await api('GET', '/api/v1/status')) as NodeStatus;
  assert.deepEqual([status.ready, status.lastError, status.warnings], [true, null, []]);
  assert.ok((status.nat?.entries ?? 0) > 0);
});

/** `fairlead` inside the balancer's namespace, over TLS. */
async function remote(token: string, ...command: string[]): Promise<string> {
  const file = at(`${token}.token`);
  writeFileSync(file, tokens[token] ?? '', { mode: 0o600 });
  const main = fileURLToPath(new URL('../../src/main.js', import.meta.url));
  const access = ['--url', 'https://127.0.0.1:7443', '--ca', at('etc/ca-ca.pem'), '--token-file', file];
  return run('nsenter', [`--net=${namespacePath(namespace)}`, process.execPath, main, ...access, ...command]);
}

test('rootless: the API over TLS goes by tokens; certificate and tokens change without a restart', async () => {
  assert.match(await remote('read', 'pools', 'ls'), /web4/);
  await assert.rejects(remote('read', 'backends', 'weight', 'web4', 'be1', '90'), /exit 4: .*takes scope "operate"/);
  await remote('admin', 'backends', 'weight', 'web4', 'be1', '90');
  await removeToken(at('etc/tokens'), 'read');
  const [pid = 0] = processesIn([namespace]);
  process.kill(pid, 'SIGHUP');
  await until('the token is gone', async () =>
    (await remote('read', 'pools', 'ls').catch(String)).includes('not known'),
  );
  assert.deepEqual(processesIn([namespace]), [pid]);
});

test('rootless: no secret is in what is logged, audited or answered', async () => {
  await stop('SIGTERM');
  await start();
  const { paths } = (await ask(socket, 'GET', '/openapi.json')).body as { paths: Record<string, object> };
  const [hidden, names] = ['/api/v1/agent-key', { name: 'web4', pool: 'web4', backend: 'be1' }];
  let answers = '';
  for (const [path, methods] of Object.entries(paths)) {
    if (!('get' in methods) || path === hidden || /events|captures/.test(path)) continue; // streams, and what is not there
    const name = path.includes('/backends/')
      ? 'be1'
      : path.includes('/services/')
        ? 'http4'
        : path.includes('/nodes/')
          ? namespace
          : 'web4';
    const url = path.replaceAll(/\{(\w+)\}/g, (_, key: string) => ({ ...names, name })[key as 'name'] ?? key);
    const { status, body } = await ask(socket, 'GET', url);
    assert.equal(status, 200, url);
    answers += JSON.stringify(body);
  }
  await stop('SIGTERM');
  const audit = readFileSync(at('log/audit.jsonl'), 'utf8');
  assert.ok(audit.includes('"name":"admin"') && audit.includes('/pools/web4') && output.includes('serving'));
  const key = readFileSync(at('etc/ca-server.key'), 'utf8').split('\n')[1] ?? '';
  const agents = Buffer.from(agentKey(Buffer.from(hashKey, 'hex'))).toString('hex');
  const pins = execFileSync('ls', ['-lR', at('bpf')], { encoding: 'utf8' });
  for (const secret of [hashKey, agents, key, ...Object.values(tokens).map((token) => token.slice(9))])
    for (const [where, text] of Object.entries({ answers, audit, output, pins }))
      assert.ok(secret.length > 20 && !text.includes(secret), where);
  assert.equal(statSync(at('log/audit.jsonl')).mode & 0o777, 0o600);
  assert.equal(statSync(at('lib/state.json')).mode & 0o077, 0);
  assert.deepEqual(readdirSync(at('run')), [], 'the socket is gone');
});
