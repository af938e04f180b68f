// SPDX-License-Identifier: Apache-2.0
// Starts of `fairlead serve` that must fail in one sentence and leave the machine as it was, and those that must not fail.
import assert from 'node:assert/strict';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { after, before, beforeEach, test } from 'node:test';
import { native } from '../../src/dataplane/native.js';
import { pinRoot } from '../../src/dataplane/pins.js';
import { objectPath } from '../../src/dataplane/program.js';
import { startInside, stopChild } from '../../src/lab/children.js';
import { destroyNamespaces, namespacePath, run, unmount } from '../../src/lab/netns.js';
import type { NodeStatus } from '../../src/model/node-view.js';
import { ask, startServe, untilReady } from '../support/serve.js';

const lab = 'ftestart';
const namespace = `${lab}-lb1`; // so that destroyNamespaces knows it
let directory: string;

before(async () => {
  await destroyNamespaces(lab); // of a run that was killed
  directory = mkdtempSync(`${tmpdir()}/${lab}-`);
  chmodSync(directory, 0o755);
  const links = [
    'link set lo up',
    'link add eth0 type veth peer name peer0',
    'link add eth1 type veth peer name peer1',
    'link add br0 type bridge',
    ...['eth0', 'eth1', 'peer0', 'peer1', 'br0'].map((name) => `link set ${name} up`),
    'address add 10.9.0.10/24 dev eth0',
    'address add fd00:9::10/64 dev eth0 nodad',
  ];
  await run('ip', ['netns', 'add', namespace]);
  await run('ip', ['-n', namespace, '-batch', '-'], links.join('\n'));
});
beforeEach(() => rmSync(`${directory}/state.json`, { force: true }));
after(async () => {
  await destroyNamespaces(lab);
  await unmount(`${directory}/bpf`);
  rmSync(directory, { recursive: true });
});

interface Setup {
  readonly interfaces: string;
  readonly more?: string;
}

function configure({ interfaces, more = '' }: Setup): string {
  const path = `${directory}/config.yaml`;
  const api = more.includes('api:') ? '' : `api: { socket: ${directory}/api.sock }\n`;
  const store = more.includes('store:') ? '' : `store: { path: ${directory}/state.json }\n`;
  const rest = `bpffs: ${directory}/bpf\ntunnel: { source: 10.9.0.10, source6: "fd00:9::10" }`;
  writeFileSync(path, `node: lb1\ninterfaces: ${interfaces}\n${store}${api}${rest}\n${more}\n`);
  return path;
}

/** XDP programs on the namespace's interfaces, as "interface id". */
async function attached(): Promise<readonly string[]> {
  const links = JSON.parse(await run('ip', ['-n', namespace, '-j', 'link', 'show'])) as {
    ifname: string;
    xdp?: { prog?: { id: number } };
  }[];
  return links.flatMap(({ ifname, xdp }) => (xdp ? [`${ifname} ${xdp.prog?.id}`] : []));
}

/** Every pin below the configured bpffs. */
function pins(): readonly string[] {
  const root = `${directory}/bpf/fairlead`;
  if (!existsSync(root)) return [];
  return readdirSync(root, { recursive: true, withFileTypes: true })
    .filter((entry) => !entry.isDirectory())
    .map((entry) => entry.name);
}

/** Takes off what a start that succeeded left on purpose. */
async function cleared(): Promise<void> {
  const links = `${pinRoot(`${directory}/bpf`)}/links`;
  for (const pin of existsSync(links) ? readdirSync(links) : []) {
    const link = native.openLink(`${links}/${pin}`);
    link.detach();
    link.close();
  }
  await unmount(`${directory}/bpf`);
  rmSync(`${directory}/state.json`, { force: true });
}

/** Starts the daemon, which must end by itself with this exit code, one sentence on its output, and nothing left. */
async function refused(setup: Setup, code: number, sentence: RegExp, prefix: readonly string[] = []): Promise<void> {
  const before = { programs: await attached(), pins: pins() };
  const serve = startServe(namespace, configure(setup), prefix);
  const timer = setTimeout(() => void serve.kill('SIGKILL'), 15_000);
  const end = await serve.ended;
  clearTimeout(timer);
  const output = serve.output();
  assert.match(output, sentence);
  const said = output.split('\n').filter((line) => line !== '' && !line.startsWith('{')); // structured lines are the log
  assert.equal(said.length, 1, output);
  assert.deepEqual(end, { code, signal: null }, output);
  assert.deepEqual({ programs: await attached(), pins: pins() }, before);
  assert.equal(existsSync(`${directory}/state.json.lock`), false, 'the store stays locked');
  assert.equal(existsSync(`${directory}/api.sock`), false, 'the socket is left');
}

/** With another program on the interface while `work` runs. */
async function busy(name: string, work: () => Promise<void>): Promise<void> {
  const object = native.openObject(objectPath('xdp_pass'));
  await object.load();
  const link = await native.attachXdp(object.program('xdp_pass'), name, namespacePath(namespace), 'native');
  try {
    await work();
  } finally {
    link.close();
    object.close();
  }
}

test('start: an interface that does not exist is named', () =>
  refused({ interfaces: '[{ name: eth7 }]' }, 4, /^fairlead: attach xdp_lb to "eth7": no such interface/));

test('start: an interface with another program is left to it, with auto and with native', () =>
  busy('eth0', async () => {
    for (const mode of ['auto', 'native'])
      await refused({ interfaces: `[{ name: eth0, xdp: ${mode} }]` }, 1, /^fairlead: .*"eth0": .*EBUSY/);
  }));

test('start: of two interfaces the second is busy: the first is not left attached', () =>
  busy('eth1', () => refused({ interfaces: '[{ name: eth0 }, { name: eth1 }]' }, 1, /^fairlead: .*"eth1": .*EBUSY/)));

test('start: a damaged store file is named with its line and stays as it is, byte for byte', async () => {
  const path = `${directory}/state.json`;
  for (const [text, where] of [
    ['{\n  "format": 1,\n  "revision": oops\n}\n', /line 3/],
    [
      '{\n "format": 1,\n "revision": 3,\n "hashKey": "00",\n "services": [],\n "pools": []\n}\n',
      /line 4 column \d+: \/hashKey/,
    ],
    ['', /state\.json/],
  ] as const) {
    writeFileSync(path, text);
    await refused({ interfaces: '[{ name: eth0 }]' }, 1, where);
    assert.equal(readFileSync(path, 'utf8'), text);
  }
});

test('start: a mistake in the configuration is named with its line, and touches nothing', async () => {
  const before = { programs: await attached(), pins: pins() };
  const serve = startServe(namespace, configure({ interfaces: '[{ name: eth0, xpd: auto }]', more: 'tunel: {}' }));
  assert.deepEqual(await serve.ended, { code: 4, signal: null });
  assert.match(serve.output(), /config\.yaml:2:\d+: .*xpd[\s\S]*config\.yaml:7:1: unknown key "tunel"/);
  assert.deepEqual({ programs: await attached(), pins: pins() }, before);
  assert.equal(existsSync(`${directory}/state.json`), false);
});

test('start: without privileges it ends with one sentence', async () => {
  const nobody = ['setpriv', '--reuid', 'nobody', '--regid', 'nogroup', '--clear-groups', '--inh-caps=-all', '--'];
  await refused({ interfaces: '[{ name: eth0 }]' }, 4, /^fairlead: open ".*state\.json": EACCES/, nobody);
  mkdirSync(`${directory}/own`);
  await run('chown', ['nobody', `${directory}/own`]);
  const own = `store: { path: ${directory}/own/state.json }`;
  await refused({ interfaces: '[{ name: eth0 }]', more: own }, 4, /^fairlead: listen on socket .*EACCES/, nobody);
  // Where both may be opened, the kernel refuses.
  const more = `${own}\napi: { socket: ${directory}/own/api.sock }`;
  await refused({ interfaces: '[{ name: eth0 }]', more }, 1, /^fairlead: .*(EPERM|EACCES)/, nobody);
  assert.equal(existsSync(`${directory}/own/state.json.lock`), false);
});

test('start: a TCP port in use is named, and nothing is left attached', async () => {
  const holder = await startInside(namespace, 'echo-server.js', ['holder', '7080', '7081', '127.0.0.1']);
  const more = `api: { socket: ${directory}/api.sock, listen: "127.0.0.1:7080" }`;
  await refused({ interfaces: '[{ name: eth0 }]', more }, 1, /^fairlead: listen on "127\.0\.0\.1:7080": .*EADDRINUSE/m);
  await stopChild(holder, 1_000);
});

test('start: a socket somebody answers on is left to him, and nothing is left attached', async () => {
  const server = createServer().listen(`${directory}/taken.sock`).unref();
  const more = `api: { socket: ${directory}/taken.sock }`;
  await refused(
    { interfaces: '[{ name: eth0 }]', more },
    1,
    /^fairlead: listen on ".*taken\.sock": another process answers/m,
  );
  assert.ok(existsSync(`${directory}/taken.sock`));
  server.close();
});

test('start: generic mode, asked for, is no warning', async () => {
  const serve = startServe(namespace, configure({ interfaces: '[{ name: eth0, xdp: generic }]' }));
  await untilReady(serve, `${directory}/api.sock`);
  const { interfaces, warnings } = (await ask(`${directory}/api.sock`, 'GET', '/api/v1/status')).body as NodeStatus;
  assert.deepEqual([interfaces[0]?.mode, warnings], ['generic', []]);
  await serve.kill('SIGTERM');
  await cleared();
});

test('start: auto falls back to generic where the driver has no XDP, and the warning stays in the status', async () => {
  const serve = startServe(namespace, configure({ interfaces: '[{ name: br0, xdp: auto }]' }));
  await untilReady(serve, `${directory}/api.sock`);
  const { interfaces, warnings } = (await ask(`${directory}/api.sock`, 'GET', '/api/v1/status')).body as NodeStatus;
  assert.equal(interfaces[0]?.mode, 'generic');
  assert.match(warnings.join('\n'), /"br0" runs generic XDP/);
  await serve.kill('SIGTERM');
  // A warning is about the state, so the next daemon, which adopts the link, has it too.
  const next = startServe(namespace, configure({ interfaces: '[{ name: br0, xdp: auto }]' }));
  await untilReady(next, `${directory}/api.sock`);
  const status = (await ask(`${directory}/api.sock`, 'GET', '/api/v1/status')).body as NodeStatus;
  assert.match(status.warnings.join('\n'), /"br0" runs generic XDP/);
  await next.kill('SIGTERM');
  // A mode that cannot be had does not cost the one there is.
  const left = pins();
  const native = startServe(namespace, configure({ interfaces: '[{ name: br0, xdp: native }]' }));
  assert.equal((await native.ended).code, 1);
  assert.match(native.output(), /^fairlead: attach .*"br0"/m);
  assert.equal((await attached()).length, 1);
  assert.deepEqual(pins(), left);
  await cleared();
});
