// SPDX-License-Identifier: Apache-2.0
import { isIPv4, isIPv6 } from 'node:net';
import { hostname } from 'node:os';
import type { InterfaceConfig } from '../dataplane/dataplane.js';
import type { Path } from '../model/yaml.js';

/** Called with what is wrong, and where below the key: the value at that path or the last key of the path. */
export type Refuse = (detail: string, at?: Path, part?: 'key' | 'value') => void;

interface Rule<T> {
  /** The value; it means nothing when `refuse` was called. */
  read(value: unknown, refuse: Refuse): T | undefined;
  /** What an environment variable or a flag means, to be given to `read`. */
  fromText(text: string): unknown;
  fallback(): T;
}

/** Every key of the configuration by its path, and so every environment variable. */
export const configKeys = {
  node: scalar(
    'a name of 1 to 253 letters, digits and . _ -, a letter or digit first and last',
    (value) => textOf(value, /^[a-z0-9]([a-z0-9._-]{0,251}[a-z0-9])?$/i),
    hostname,
  ),
  interfaces: {
    read: readInterfaces,
    fromText: (text) =>
      text.split(',').map((each) => {
        const [name, xdp] = each.split(/:(.*)/);
        return xdp === undefined ? { name } : { name, xdp };
      }),
    fallback: () => [],
  } satisfies Rule<readonly InterfaceConfig[]> as Rule<readonly InterfaceConfig[]>,
  'store.type': supported('file', ['etcd']),
  'store.path': path('/var/lib/fairlead/state.json'),
  'store.follow': yesOrNo(false),
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
export type ConfigValues = { [K in ConfigKey]: (typeof configKeys)[K] extends Rule<infer T> ? T : never };

/** These values, as `read` answered them, and the defaults of all others. */
export function defaultsAnd(values: Partial<Record<ConfigKey, unknown>>): ConfigValues {
  const all = Object.entries(configKeys).map(([key, rule]) => [key, values[key as ConfigKey] ?? rule.fallback()]);
  return Object.fromEntries(all) as ConfigValues;
}

/** A value as an error shows it. */
export function show(value: unknown): string {
  const text = JSON.stringify(value) ?? 'nothing';
  return text.length <= 60 ? text : `${text.slice(0, 57)}...`;
}

function readInterfaces(value: unknown, refuse: Refuse): readonly InterfaceConfig[] | undefined {
  if (!Array.isArray(value) || value.length === 0) {
    refuse(`got ${show(value)}, wanted a list of at least one { name: eth0, xdp: auto }`);
    return undefined;
  }
  const read: InterfaceConfig[] = [];
  for (const [i, item] of value.entries()) {
    if (typeof item !== 'object' || item === null || Array.isArray(item)) {
      refuse(`got ${show(item)}, wanted { name: eth0, xdp: auto }`, [i]);
      continue;
    }
    const { name, xdp = 'auto', ...others }: Record<string, unknown> = item;
    for (const other of Object.keys(others)) refuse('unknown key; known: name, xdp', [i, other], 'key');
    const goodName = textOf(name, /^(?!\.{1,2}$)[^\s/:]{1,15}$/); // dev_valid_name() of the kernel
    const goodXdp = xdpModes.find((mode) => mode === xdp);
    if (goodName === undefined) refuse(`got ${show(name)}, wanted the name of an interface, as eth0`, [i, 'name']);
    if (goodXdp === undefined) refuse(`got ${show(xdp)}, wanted auto, native or generic`, [i, 'xdp']);
    if (goodName === undefined || goodXdp === undefined) continue;
    if (read.some((other) => other.name === goodName)) refuse(`${show(name)} is in the list already`, [i, 'name']);
    read.push({ name: goodName, xdp: goodXdp });
  }
  return read;
}

const xdpModes: readonly InterfaceConfig['xdp'][] = ['auto', 'native', 'generic'];

function yesOrNo(fallback: boolean): Rule<boolean> {
  const accept = (value: unknown): boolean | undefined =>
    typeof value === 'boolean' ? value : ({ true: true, false: false } as Record<string, boolean>)[String(value)];
  return scalar('true or false', accept, () => fallback);
}

function scalar<T>(wanted: string, accept: (value: unknown) => T | undefined, fallback: () => T): Rule<T> {
  return {
    read(value, refuse) {
      const accepted = accept(value);
      if (accepted === undefined) refuse(`got ${show(value)}, wanted ${wanted}`);
      return accepted;
    },
    fromText: (text) => text,
    fallback,
  };
}

function range(min: number, max: number, fallback: number): Rule<number> {
  return number(`a whole number from ${min} to ${max}`, fallback, (value) => value >= min && value <= max);
}

function number(wanted: string, fallback: number, isGood: (value: number) => boolean): Rule<number> {
  const accept = (value: unknown) =>
    typeof value === 'number' && Number.isInteger(value) && isGood(value) ? value : undefined;
  const fromText = (text: string) => (/^\d{1,15}$/.test(text) ? Number(text) : text);
  return { ...scalar(wanted, accept, () => fallback), fromText };
}

// One value works today; the others are planned, and named so that nobody looks for a typing error.
function supported<T extends string>(value: T, later: readonly string[]): Rule<T> {
  return {
    read(given, refuse) {
      if (given === value) return value;
      const isLater = later.some((each) => String(given).split(':')[0] === each);
      refuse(
        isLater
          ? `${show(given)} is not supported by this version; use ${show(value)}`
          : `got ${show(given)}, wanted ${show(value)}`,
      );
      return undefined;
    },
    fromText: (text) => text,
    fallback: () => value,
  };
}

function path(fallback: string): Rule<string> {
  return scalar('an absolute path', absolute, () => fallback);
}

function address(wanted: string, isGood: (text: string) => boolean): Rule<string | null> {
  return scalar<string | null>(
    wanted,
    (value) => (typeof value === 'string' && isGood(value) ? value : undefined),
    () => null,
  );
}

function textOf(value: unknown, pattern: RegExp): string | undefined {
  return typeof value === 'string' && pattern.test(value) ? value : undefined;
}

function absolute(value: unknown): string | undefined {
  return textOf(value, /^\/[^\0]*$/);
}

function isLoopback(value: unknown): value is string {
  const [, host = '', port = ''] = /^(.*):(\d{1,5})$/.exec(String(value)) ?? [];
  const isLocal = host === '[::1]' || (isIPv4(host) && host.startsWith('127.'));
  return typeof value === 'string' && isLocal && Number(port) <= 65_535;
}
