// SPDX-License-Identifier: Apache-2.0
import { isIPv4, isIPv6 } from 'node:net';
import { hostname } from 'node:os';
import {
  absolute,
  address,
  endpointList,
  interfaceList,
  isLoopback,
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
  'api.socket': scalar(
    'an absolute path of at most 107 bytes',
    (value) => (Buffer.byteLength(String(value)) <= 107 ? absolute(value) : undefined), // sun_path, unix(7)
    () => '/run/fairlead/api.sock',
  ),
  'api.listen': scalar<string | null>(
    'a loopback ADDRESS:PORT, as 127.0.0.1:7080 or "[::1]:7080"; another address needs tls, which this version has not',
    (value) => (isLoopback(value) ? value : undefined),
    () => null,
  ),
  'flows.perCpu': number('a power of two from 1024 to 4194304', 131_072, (count) => {
    return count >= 1024 && count <= 4_194_304 && (count & (count - 1)) === 0;
  }),
  'flows.mode': supported('all', ['transition', 'sample']),
  'flows.newPerSecond': range(1, 4_294_967_295, 65_536), // per CPU and service
  'tunnel.source': address('an IPv4 address', isIPv4),
  'tunnel.source6': address('an IPv6 address', (text) => isIPv6(text) && !text.includes('%')),
  'tunnel.mtu': range(1280, 9216, 1500),
  bpffs: path('/sys/fs/bpf'),
};

export type ConfigKey = keyof typeof configKeys;

/** The value of every key. */
export type ConfigValues = ValuesOf<typeof configKeys>;
