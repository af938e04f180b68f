// SPDX-License-Identifier: Apache-2.0
import { type ConfigSources, readConfig } from './config-file.js';
import { type ConfigValues, configKeys } from './config-keys.js';

export { type ConfigSources, envName } from './config-file.js';

/** What the daemon is told about its machine. Paths are absolute; addresses are as written. */
export interface Config {
  readonly node: string;
  readonly interfaces: ConfigValues['interfaces']; // at least one, names unique
  readonly store: { readonly type: 'file'; readonly path: string; readonly follow: boolean }; // follow: another process writes it
  readonly api: { readonly socket: string; readonly listen: string | null }; // listen: 127.0.0.1:7080, [::1]:7080
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

const whole = (given: ReadonlySet<string>): readonly string[] =>
  given.has('interfaces') ? [] : ['interfaces: missing; wanted at least one, as in "interfaces: [{ name: eth0 }]"'];

function assemble(values: ConfigValues): Config {
  return {
    node: values.node,
    interfaces: values.interfaces,
    store: { type: values['store.type'], path: values['store.path'], follow: values['store.follow'] },
    api: { socket: values['api.socket'], listen: values['api.listen'] },
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
