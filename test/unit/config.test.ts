// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { type ConfigSources, envName, exampleConfig, loadConfig } from '../../src/controlplane/config.js';
import { configKeys } from '../../src/controlplane/config-keys.js';
import { FairleadError } from '../../src/model/errors.js';

const directory = mkdtempSync(join(tmpdir(), 'fairlead-config-'));
after(() => rmSync(directory, { recursive: true }));
const path = join(directory, 'fairlead.yaml');

function load(text: string, rest: Partial<ConfigSources> = {}) {
  writeFileSync(path, text);
  return loadConfig({ path, env: {}, flags: {}, ...rest });
}

/** The problems of a refused configuration, without the file's name. */
function problemsOf(text: string, rest: Partial<ConfigSources> = {}): string[] {
  try {
    load(text, rest);
  } catch (error) {
    assert.ok(error instanceof FairleadError);
    assert.equal(error.code, 'invalid');
    const [first, ...lines] = error.message.split('\n  ');
    const count = lines.length === 1 ? 'one problem' : `${lines.length} problems`;
    assert.equal(first, `read the configuration: ${count}`);
    return lines.map((line) => line.replace(`${path}:`, ''));
  }
  return assert.fail('the configuration was accepted');
}

const etcd = {
  endpoints: [],
  prefix: '/fairlead/',
  ca: null,
  cert: null,
  key: null,
  username: null,
  passwordFile: null,
  snapshot: '/var/lib/fairlead/etcd-snapshot.json',
};

const api = {
  socket: '/run/fairlead/api.sock',
  ...{ socketGroup: null, listen: null, tls: null, clients: [], tokens: null, open: 'probes' },
  ...{ requestsPerSecond: 1000, audit: null },
};

const small = 'interfaces: [{ name: eth0 }]\n';

test('config: an interface is enough, everything else has a default', () => {
  assert.deepEqual(load(small), {
    node: hostname(),
    interfaces: [{ name: 'eth0', xdp: 'auto' }],
    store: { type: 'file', path: '/var/lib/fairlead/state.json', follow: false, etcd },
    api,
    flows: { perCpu: 131_072, mode: 'all', newPerSecond: 65_536 },
    tunnel: { source: null, source6: null, mtu: 1500 },
    nat: {
      ...{ connections: 262_144, source: null, source6: null, prefix: '64:ff9b::', egress: [] },
      timeouts: { tcpNew: 60, tcpEstablished: 7440, tcpClosing: 240, tcpClosed: 10, udpNew: 30, udpEstablished: 300 },
    },
    bpffs: '/sys/fs/bpf',
  });
});

test('config: every key of the documented file is taken', () => {
  const config = load(`
node: edge-1
interfaces:
  - { name: eth0, xdp: native }
  - name: eth1
    xdp: generic
store: { type: file, path: /srv/state.json }
api:
  socket: /run/x.sock
  socketGroup: ops
  listen: 0.0.0.0:7443
  tls: { cert: /etc/x.pem, key: /etc/x.key, clientCa: /etc/ca.pem }
  clients:
    - { cn: root, scope: admin }
    - { san: "DNS:ci.example", scope: read }
  tokens: /etc/tokens
  open: metrics
  requestsPerSecond: 7
  audit: /var/log/audit.jsonl
flows: { perCpu: 4096, mode: all, newPerSecond: 100 }
tunnel: { source: 192.0.2.1, source6: 2001:db8::1, mtu: 9000 }
nat:
  connections: 1024
  source: 192.0.2.2
  source6: 2001:db8::2
  prefix: fd00:64::/96
  egress:
    - { from: [10.1.0.0/16, 10.2.0.0/16], interface: eth1, to: [192.0.2.9] }
    - { from: ['fd00:1::/32'], interface: eth1, to: ['2001:db8::9'], mss: 1220 }
  tcpNew: 1
  tcpEstablished: 2
  tcpClosing: 3
  tcpClosed: 4
  udpNew: 5
  udpEstablished: 6
bpffs: /srv/bpf
`);
  assert.deepEqual(config, {
    node: 'edge-1',
    interfaces: [
      { name: 'eth0', xdp: 'native' },
      { name: 'eth1', xdp: 'generic' },
    ],
    store: { type: 'file', path: '/srv/state.json', follow: false, etcd },
    api: {
      ...{ socket: '/run/x.sock', socketGroup: 'ops', listen: '0.0.0.0:7443' },
      tls: { cert: '/etc/x.pem', key: '/etc/x.key', clientCa: '/etc/ca.pem' },
      clients: [
        { cn: 'root', scope: 'admin' },
        { san: 'DNS:ci.example', scope: 'read' },
      ],
      ...{ tokens: '/etc/tokens', open: 'metrics', requestsPerSecond: 7, audit: '/var/log/audit.jsonl' },
    },
    flows: { perCpu: 4096, mode: 'all', newPerSecond: 100 },
    tunnel: { source: '192.0.2.1', source6: '2001:db8::1', mtu: 9000 },
    nat: {
      ...{ connections: 1024, source: '192.0.2.2', source6: '2001:db8::2', prefix: 'fd00:64::' },
      egress: [
        { from: ['10.1.0.0/16', '10.2.0.0/16'], interface: 'eth1', to: ['192.0.2.9'] },
        { from: ['fd00:1::/32'], interface: 'eth1', to: ['2001:db8::9'], mss: 1220 },
      ],
      timeouts: { tcpNew: 1, tcpEstablished: 2, tcpClosing: 3, tcpClosed: 4, udpNew: 5, udpEstablished: 6 },
    },
    bpffs: '/srv/bpf',
  });
});

test('config: what leaves with which address: mistakes are named', () => {
  const bad = (egress: string): readonly string[] => problemsOf(`${small}nat: { egress: ${egress} }\n`);
  for (const [egress, wanted] of [
    ['7', /nat\.egress: got 7, wanted a list of \{ from/],
    [
      '[{ from: [10.0.0.0/8], interface: eth0 }]',
      /nat\.egress\[0\]\.to: got nothing, wanted a list of 1 to 16 addresses/,
    ],
    ['[{ from: [10.0.0.0/8], interface: eth0, to: [x] }]', /to: got "x", wanted an address/],
    ['[{ from: [10.0.0.1/8], interface: eth0, to: [192.0.2.1] }]', /from: /],
    ['[{ from: [10.0.0.0/8], interface: eth0, to: ["fd00::1"] }]', /from and to are of two families/],
    ['[{ from: [10.0.0.0/8], interface: "a b", to: [192.0.2.1] }]', /interface: got "a b"/],
    ['[{ from: [10.0.0.0/8], interface: eth0, to: [192.0.2.1], via: 1 }]', /unknown key/],
    ...['535', '65496', '"1400"', '1400.5', 'none'].map(
      (mss) =>
        [
          `[{ from: [10.0.0.0/8], interface: eth0, to: [192.0.2.1], mss: ${mss} }]`,
          /egress\[0\]\.mss: got .*, wanted "auto" or 536 to 65495 bytes/,
        ] as const,
    ),
  ] as const)
    assert.match(bad(egress).join(' '), wanted, egress);
});

test('config: NAT takes the sources of tunnels unless it has its own', () => {
  const { nat } = load(`${small}tunnel: { source: 192.0.2.1, source6: 2001:db8::1 }\nnat: { source: 192.0.2.2 }\n`);
  assert.deepEqual([nat.source, nat.source6], ['192.0.2.2', '2001:db8::1']);
  assert.deepEqual(problemsOf(`${small}nat: { connections: 3000, source: "2001:db8::1", tcpNew: 0, tcpnew: 1 }\n`), [
    '2:21: nat.connections: got 3000, wanted a power of two from 1024 to 4194304',
    '2:35: nat.source: got "2001:db8::1", wanted an IPv4 address',
    '2:58: nat.tcpNew: got 0, wanted a whole number from 1 to 3600',
    '2:61: unknown key "nat.tcpnew"; known in nat: connections, source, source6, prefix, egress, tcpNew, tcpEstablished, tcpClosing, tcpClosed, udpNew, udpEstablished',
  ]);
});

test('config: an empty section or key means its defaults', () => {
  assert.deepEqual(load(`${small}flows:\napi:\n  listen:\n`), load(small));
});

test('config: every mistake of a file is reported at once, in its order, with line and column', () => {
  const problems = problemsOf(`node: edge 1
interfaces:
  - { name: eth0, xdp: fast }
  - { name: eth/1 }
  - eth2
  - { nam: eth3 }
  - { name: eth0, tc: tcx }
  - { name: eth0, tc: ingress }
store:
  type: file
  path: state.json
api:
  socket: run/x.sock
  listen: example:80
flows: { perCpu: 1000, perCPU: 1 }
tunnel:
  source: 2001:db8::1
  mtu: big
apii: {}
flows.mode: all
`);
  assert.deepEqual(problems, [
    '1:7: node: got "edge 1", wanted a name of 1 to 253 letters, digits and . _ -, a letter or digit first and last',
    '3:24: interfaces[0].xdp: got "fast", wanted auto, native or generic',
    '4:13: interfaces[1].name: got "eth/1", wanted the name of an interface, as eth0',
    '5:5: interfaces[2]: got "eth2", wanted { name: eth0, xdp: auto }',
    '6:5: interfaces[3].name: got nothing, wanted the name of an interface, as eth0',
    '6:7: interfaces[3].nam: unknown key; known: name, xdp, tc',
    '8:13: interfaces[5].name: "eth0" is in the list already',
    '8:23: interfaces[5].tc: got "ingress", wanted auto, tcx or clsact',
    '11:9: store.path: got "state.json", wanted an absolute path',
    '13:11: api.socket: got "run/x.sock", wanted an absolute path of at most 107 bytes',
    '14:11: api.listen: got "example:80", wanted ADDRESS:PORT, as 127.0.0.1:7080 or "[::1]:7080"',
    '15:18: flows.perCpu: got 1000, wanted a power of two from 1024 to 4194304',
    '15:24: unknown key "flows.perCPU"; known in flows: perCpu, mode, newPerSecond',
    '17:11: tunnel.source: got "2001:db8::1", wanted an IPv4 address',
    '18:8: tunnel.mtu: got "big", wanted a whole number from 1280 to 9216',
    '19:1: unknown key "apii"; known: node, interfaces, store, api, flows, tunnel, nat, bpffs',
    '20:1: unknown key "flows.mode"; known in flows: perCpu, mode, newPerSecond',
  ]);
});

test('config: what is planned is refused as not supported, not as a typing error', () => {
  assert.deepEqual(problemsOf(`${small}flows: { mode: sample:64 }\n`), [
    '2:16: flows.mode: "sample:64" is not supported by this version; use "all"',
  ]);
});

test('config: a store in etcd', () => {
  const read = load(`${small}store:
  type: etcd
  endpoints: [https://etcd-1.example:2379, "https://[2001:db8::5]:2379"]
  prefix: /edge/lb/
  ca: /etc/fairlead/ca.pem
  cert: /etc/fairlead/node.pem
  key: /etc/fairlead/node.key
  username: fairlead
  passwordFile: /etc/fairlead/password
  snapshot: /srv/snapshot.json
`);
  assert.deepEqual(read.store, {
    type: 'etcd',
    path: '/var/lib/fairlead/state.json',
    follow: false,
    etcd: {
      endpoints: ['https://etcd-1.example:2379', 'https://[2001:db8::5]:2379'],
      prefix: '/edge/lb/',
      ca: '/etc/fairlead/ca.pem',
      cert: '/etc/fairlead/node.pem',
      key: '/etc/fairlead/node.key',
      username: 'fairlead',
      passwordFile: '/etc/fairlead/password',
      snapshot: '/srv/snapshot.json',
    },
  });
  const env = { FAIRLEAD_STORE_TYPE: 'etcd', FAIRLEAD_STORE_ENDPOINTS: 'http://127.0.0.1:1,http://127.0.0.1:2' };
  assert.deepEqual(load(small, { env }).store.etcd.endpoints, ['http://127.0.0.1:1', 'http://127.0.0.1:2']);
});

test('config: what is wrong with a store in etcd is named', () => {
  const problems = (store: string) => problemsOf(`${small}store: ${store}\n`);
  assert.deepEqual(problems('{ type: consul }'), ['2:16: store.type: got "consul", wanted "file" or "etcd"']);
  assert.deepEqual(problems('{ type: etcd }'), [
    ' store.endpoints: missing; wanted at least one, as in "endpoints: [https://10.0.0.5:2379]"',
  ]);
  assert.deepEqual(
    problems('{ type: etcd, endpoints: [https://a:1, http://b:2, c:3, https://a:1], prefix: x, typo: 1 }'),
    [
      '2:47: store.endpoints[1]: got "http://b:2", wanted https: as the first has',
      '2:59: store.endpoints[2]: got "c:3", wanted https://HOST:PORT, or http:// without TLS',
      '2:64: store.endpoints[3]: "https://a:1" is in the list already',
      '2:86: store.prefix: got "x", wanted a key that begins and ends with /, as /fairlead/',
      '2:89: unknown key "store.typo"; known in store: type, path, follow, endpoints, prefix, ca, cert, key, username, passwordFile, snapshot',
    ],
  );
  assert.deepEqual(problems('{ type: etcd, endpoints: [http://a:1], follow: true, ca: /ca, cert: /c, username: u }'), [
    ' store.follow: is for type file; every node follows what is in etcd',
    ' store.key: missing; store.cert needs it',
    ' store.passwordFile: missing; store.username needs it',
    ' store.ca: is for https: endpoints, these are http:',
    ' store.cert: is for https: endpoints, these are http:',
  ]);
});

test('config: flows.perCpu is a power of two from 1024 to 4194304', () => {
  for (const good of [1024, 65_536, 4_194_304]) {
    assert.equal(load(`${small}flows: { perCpu: ${good} }\n`).flows.perCpu, good);
  }
  for (const bad of ['512', '1025', '8388608', '0', '-1024', '2048.5', '"2048"', '[2048]', 'true']) {
    assert.equal(problemsOf(`${small}flows: { perCpu: ${bad} }\n`).length, 1, bad);
  }
});

test('config: a file without an interface is refused, an empty one too', () => {
  for (const text of ['', 'node: edge-1\n']) {
    assert.deepEqual(problemsOf(text), [
      ' interfaces: missing; wanted at least one, as in "interfaces: [{ name: eth0 }]"',
    ]);
  }
  assert.deepEqual(problemsOf('interfaces: []\n'), [
    '1:13: interfaces: got [], wanted a list of at least one { name: eth0, xdp: auto }',
  ]);
});

test('config: what is not YAML, or not keys, is refused where it begins', () => {
  assert.deepEqual(problemsOf('node: a\nnode: b\n'), ['2:1: Map keys must be unique']);
  assert.deepEqual(problemsOf(`${small}---\n${small}`), ['2:1: a second document begins here; wanted one']);
  assert.deepEqual(problemsOf(`${small}api: 7\n`), [
    '2:6: api: got 7, wanted the keys socket, socketGroup, listen, tls, clients, tokens, open, requestsPerSecond, audit',
  ]);
  assert.deepEqual(problemsOf('- eth0\n'), [
    '1:1: got ["eth0"], wanted the keys node, interfaces, store, api, flows, tunnel, nat, bpffs',
  ]);
  assert.equal(problemsOf('a: *b\n').length, 1);
});

test('config: the environment wins over the file, flags over both', () => {
  const text = 'node: file\ninterfaces: [{ name: eth0 }]\nflows: { perCpu: 1024 }\ntunnel: { mtu: 1400 }\n';
  const env = {
    FAIRLEAD_NODE: 'env',
    FAIRLEAD_INTERFACES: 'eth1,eth2:native',
    FAIRLEAD_FLOWS_PERCPU: '2048',
    FAIRLEAD_API_LISTEN: '[::1]:80',
    FAIRLEAD_TUNNEL_MTU: '', // as good as not set
  };
  const config = load(text, { env, flags: { node: 'flag', 'flows.newPerSecond': '7' } });
  assert.equal(config.node, 'flag');
  assert.deepEqual(config.interfaces, [
    { name: 'eth1', xdp: 'auto' },
    { name: 'eth2', xdp: 'native' },
  ]);
  assert.deepEqual(config.flows, { perCpu: 2048, mode: 'all', newPerSecond: 7 });
  assert.equal(config.api.listen, '[::1]:80');
  assert.equal(config.tunnel.mtu, 1400);
});

test('config: each key has a variable of its own', () => {
  const names = Object.keys(configKeys).map(envName);
  assert.equal(new Set(names).size, names.length);
  assert.equal(envName('flows.newPerSecond'), 'FAIRLEAD_FLOWS_NEWPERSECOND');
  assert.equal(envName('bpffs'), 'FAIRLEAD_BPFFS');
});

test('config: a wrong variable or flag is named, after the mistakes of the file', () => {
  const env = { FAIRLEAD_FLOWS_PERCPU: 'many', FAIRLEAD_API_SOKET: '/x', FAIRLEAD_SOCKET: '/x', FAIRLEAD_URL: 'x' };
  assert.deepEqual(problemsOf(`${small}typo: 1\n`, { env, flags: { 'tunnel.mtu': '12', 'flows.x': '1' } }), [
    '2:1: unknown key "typo"; known: node, interfaces, store, api, flows, tunnel, nat, bpffs',
    'FAIRLEAD_API_SOKET: unknown variable; known: FAIRLEAD_API_SOCKET, FAIRLEAD_API_SOCKETGROUP, FAIRLEAD_API_LISTEN, FAIRLEAD_API_TLS_CERT, FAIRLEAD_API_TLS_KEY, FAIRLEAD_API_TLS_CLIENTCA, FAIRLEAD_API_CLIENTS, FAIRLEAD_API_TOKENS, FAIRLEAD_API_OPEN, FAIRLEAD_API_REQUESTSPERSECOND, FAIRLEAD_API_AUDIT',
    'flag: unknown key "flows.x"; known in flows: perCpu, mode, newPerSecond',
    'FAIRLEAD_FLOWS_PERCPU: flows.perCpu: got "many", wanted a power of two from 1024 to 4194304',
    'flag: tunnel.mtu: got 12, wanted a whole number from 1280 to 9216',
  ]);
});

test('config: a file that is not there is refused by its name', () => {
  const missing = join(directory, 'missing.yaml');
  assert.throws(() => loadConfig({ path: missing, env: {}, flags: {} }), {
    code: 'not-found',
    message: `read the configuration "${missing}": it does not exist`,
  });
  assert.throws(() => loadConfig({ path: directory, env: {}, flags: {} }), { code: 'invalid' });
});

test('config: without any configuration the refusal says how to begin, with an example that works', () => {
  const none = join(directory, 'none.yaml');
  const begin = () => loadConfig({ path: null, env: { FAIRLEAD_INTERFACES: 'eth0' }, flags: {} }, none);
  assert.throws(begin, (error) => {
    assert.ok(error instanceof FairleadError);
    assert.equal(error.code, 'not-found');
    const [sentence, example = ''] = error.message.split('\n\n');
    assert.match(
      sentence ?? '',
      /^there is no configuration, so no interface is touched; to begin, write .*none\.yaml /,
    );
    assert.equal(example.replaceAll(/^ {4}/gm, ''), exampleConfig.trimEnd());
    return true;
  });
  assert.equal(load(exampleConfig).interfaces.length, 1);
});
