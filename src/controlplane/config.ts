// SPDX-License-Identifier: Apache-2.0
import { type ApiConfig, apiConfig, apiProblems } from './config-api.js';
import { type ConfigSources, readConfig } from './config-file.js';
import { type ConfigValues, configKeys } from './config-keys.js';

export { type ConfigSources, envName } from './config-file.js';

/** What the daemon is told about its machine. Paths are absolute; addresses are as written. */
export interface Config {
  readonly node: string;
  readonly interfaces: ConfigValues['interfaces']; // at least one, names unique
  readonly store: StoreConfig;
  readonly api: ApiConfig;
  readonly flows: { readonly perCpu: number; readonly mode: 'all'; readonly newPerSecond: number };
  readonly tunnel: { readonly source: string | null; readonly source6: string | null; readonly mtu: number };
  readonly nat: {
    readonly connections: number;
    readonly source: string | null; // of `snat: auto`
    readonly source6: string | null;
    readonly prefix: string; // of 96 bits: of IPv6 addresses that stand for IPv4 clients where sources stay
    readonly egress: ConfigValues['nat.egress'];
    /** Seconds without a packet after which a connection ends, by its state. */
    readonly timeouts: Readonly<
      Record<'tcpNew' | 'tcpEstablished' | 'tcpClosing' | 'tcpClosed' | 'udpNew' | 'udpEstablished', number>
    >;
  };
  readonly bpffs: string; // the pins go to <bpffs>/fairlead
}

/** Which store; what is said of the other kind is there for `migrate`. */
export interface StoreConfig {
  readonly type: 'file' | 'etcd';
  readonly path: string; // of the file store
  readonly follow: boolean; // another process writes that file
  readonly etcd: EtcdConfig;
}

/** What it takes to reach etcd: `endpoints` empty, or at least one http://HOST:PORT or https://HOST:PORT, all of one kind; files by their paths. */
export interface EtcdConfig {
  readonly endpoints: readonly string[];
  readonly prefix: string; // begins and ends with '/'
  readonly ca: string | null;
  readonly cert: string | null; // with key
  readonly key: string | null;
  readonly username: string | null; // with passwordFile
  readonly passwordFile: string | null;
  readonly snapshot: string; // the last state, for a start without etcd
}

export const defaultConfigPath = '/etc/fairlead/fairlead.yaml';

/** A configuration to begin with. */
export const exampleConfig = `interfaces:
  - { name: eth0, xdp: auto }
tunnel: { source: 192.0.2.1 }
`;

/** Reads the configuration of the daemon; see readConfig for what is thrown. */
export function loadConfig(sources: ConfigSources, defaultPath: string = defaultConfigPath): Config {
  return assemble(readConfig({ rules: configKeys, begin, whole }, sources, defaultPath));
}

function begin(file: string): string {
  const example = exampleConfig.trimEnd().replaceAll('\n', '\n    ');
  return `there is no configuration, so no interface is touched; to begin, write ${file} with the interface and the address of this machine:\n\n    ${example}`;
}

const whole = (given: ReadonlyMap<string, unknown>): readonly string[] => [
  ...(given.has('interfaces')
    ? []
    : ['interfaces: missing; wanted at least one, as in "interfaces: [{ name: eth0 }]"']),
  ...storeProblems(given),
  ...apiProblems(given),
];

/** What does not go together in `store`. */
function* storeProblems(given: ReadonlyMap<string, unknown>): Generator<string> {
  const missing = (key: string, why: string) => `store.${key}: missing; ${why}`;
  const has = (key: string) => given.has(`store.${key}`);
  const endpoints = given.get('store.endpoints');
  if (given.get('store.type') === 'etcd') {
    if (!has('endpoints'))
      yield missing('endpoints', 'wanted at least one, as in "endpoints: [https://10.0.0.5:2379]"');
    if (given.get('store.follow') === true) yield 'store.follow: is for type file; every node follows what is in etcd';
  }
  for (const [one, other] of [
    ['cert', 'key'],
    ['key', 'cert'],
    ['username', 'passwordFile'],
    ['passwordFile', 'username'],
  ] as const)
    if (has(one) && !has(other)) yield missing(other, `store.${one} needs it`);
  const isPlain = Array.isArray(endpoints) && String(endpoints[0]).startsWith('http:');
  for (const key of ['ca', 'cert', 'key'])
    if (isPlain && has(key)) yield `store.${key}: is for https: endpoints, these are http:`;
}

function assemble(values: ConfigValues): Config {
  return {
    node: values.node,
    interfaces: values.interfaces,
    store: {
      type: values['store.type'],
      path: values['store.path'],
      follow: values['store.follow'],
      etcd: {
        endpoints: values['store.endpoints'],
        prefix: values['store.prefix'],
        ca: values['store.ca'],
        cert: values['store.cert'],
        key: values['store.key'],
        username: values['store.username'],
        passwordFile: values['store.passwordFile'],
        snapshot: values['store.snapshot'],
      },
    },
    api: apiConfig(values),
    flows: {
      perCpu: values['flows.perCpu'],
      mode: values['flows.mode'],
      newPerSecond: values['flows.newPerSecond'],
    },
    tunnel: { source: values['tunnel.source'], source6: values['tunnel.source6'], mtu: values['tunnel.mtu'] },
    nat: {
      connections: values['nat.connections'],
      source: values['nat.source'] ?? values['tunnel.source'],
      source6: values['nat.source6'] ?? values['tunnel.source6'],
      prefix: values['nat.prefix'],
      egress: values['nat.egress'],
      timeouts: {
        tcpNew: values['nat.tcpNew'],
        tcpEstablished: values['nat.tcpEstablished'],
        tcpClosing: values['nat.tcpClosing'],
        tcpClosed: values['nat.tcpClosed'],
        udpNew: values['nat.udpNew'],
        udpEstablished: values['nat.udpEstablished'],
      },
    },
    bpffs: values.bpffs,
  };
}
