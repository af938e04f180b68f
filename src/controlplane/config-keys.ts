// SPDX-License-Identifier: Apache-2.0
import { isIPv4, isIPv6 } from 'node:net';
import { hostname } from 'node:os';
import { apiKeys } from './config-api.js';
import { egressList } from './config-egress.js';
import {
  address,
  endpointList,
  interfaceList,
  number,
  oneOf,
  optionalPath,
  path,
  range,
  scalar,
  supported,
  textOf,
  type ValuesOf,
  yesOrNo,
} from './config-rules.js';

/** Every key of the configuration by its path, and so every environment variable. */
export const configKeys = {
  node: scalar(
    'a name of 1 to 253 letters, digits and . _ -, a letter or digit first and last',
    (value) => textOf(value, /^[a-z0-9]([a-z0-9._-]{0,251}[a-z0-9])?$/i),
    hostname,
  ),
  interfaces: interfaceList,
  'store.type': oneOf('file', 'etcd'),
  'store.path': path('/var/lib/fairlead/state.json'),
  'store.follow': yesOrNo(false),
  'store.endpoints': endpointList,
  'store.prefix': scalar(
    'a key that begins and ends with /, as /fairlead/',
    (value) => textOf(value, /^\/([\w.-]+\/)*$/),
    () => '/fairlead/',
  ),
  'store.ca': optionalPath(),
  'store.cert': optionalPath(),
  'store.key': optionalPath(),
  'store.username': scalar<string | null>(
    'a name',
    (value) => textOf(value, /^[^\s\0]+$/),
    () => null,
  ),
  'store.passwordFile': optionalPath(),
  'store.snapshot': path('/var/lib/fairlead/etcd-snapshot.json'),
  ...apiKeys,
  'flows.perCpu': number('a power of two from 1024 to 4194304', 131_072, (count) => {
    return count >= 1024 && count <= 4_194_304 && (count & (count - 1)) === 0;
  }),
  'flows.mode': supported('all', ['transition', 'sample']),
  'flows.newPerSecond': range(1, 4_294_967_295, 65_536), // per CPU and service
  'tunnel.source': address('an IPv4 address', isIPv4),
  'tunnel.source6': address('an IPv6 address', (text) => isIPv6(text) && !text.includes('%')),
  'tunnel.mtu': range(1280, 9216, 1500),
  'nat.connections': number('a power of two from 1024 to 4194304', 262_144, (count) => {
    return count >= 1024 && count <= 4_194_304 && (count & (count - 1)) === 0;
  }),
  'nat.source': address('an IPv4 address', isIPv4), // of `snat: auto`; tunnel.source when left out
  'nat.source6': address('an IPv6 address', (text) => isIPv6(text) && !text.includes('%')),
  'nat.prefix': scalar(
    'an IPv6 prefix of 96 bits, as 64:ff9b::/96',
    (value) => {
      const [text = '', bits] = String(value).split('/');
      return bits === '96' && isIPv6(text) && !text.includes('.') ? text : undefined;
    },
    () => '64:ff9b::',
  ),
  'nat.egress': egressList,
  // Seconds without a packet after which a connection ends.
  'nat.tcpNew': range(1, 3600, 60),
  'nat.tcpEstablished': range(1, 2_592_000, 7440), // RFC 5382, REQ-5
  'nat.tcpClosing': range(1, 3600, 240), // the same
  'nat.tcpClosed': range(1, 3600, 10),
  'nat.udpNew': range(1, 3600, 30),
  'nat.udpEstablished': range(1, 86_400, 300), // RFC 4787, REQ-5
  bpffs: path('/sys/fs/bpf'),
};

export type ConfigKey = keyof typeof configKeys;

/** The value of every key. */
export type ConfigValues = ValuesOf<typeof configKeys>;
