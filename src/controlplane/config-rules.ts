// SPDX-License-Identifier: Apache-2.0
// What the value of a key may be: the rules that configurations are made of.
import { isIPv4 } from 'node:net';
import type { InterfaceConfig, TcChoice } from '../dataplane/interfaces.js';
import type { Path } from '../model/yaml.js';

/** Called with what is wrong, and where below the key: the value at that path or the last key of the path. */
export type Refuse = (detail: string, at?: Path, part?: 'key' | 'value') => void;

/** How one key is read. */
export interface Rule<T> {
  /** The value; it means nothing when `refuse` was called. */
  read(value: unknown, refuse: Refuse): T | undefined;
  /** What an environment variable or a flag means, to be given to `read`. */
  fromText(text: string): unknown;
  fallback(): T;
}

/** The rules of a configuration, by the path of the key: `flows.perCpu`. */
export type Rules = Readonly<Record<string, Rule<unknown>>>;

/** The value of every key. */
export type ValuesOf<R extends Rules> = { readonly [K in keyof R]: R[K] extends Rule<infer T> ? T : never };

/** A value as an error shows it. */
export function show(value: unknown): string {
  const text = JSON.stringify(value) ?? 'nothing';
  return text.length <= 60 ? text : `${text.slice(0, 57)}...`;
}

/** A list of at least one interface, without doubles. */
export const interfaceList: Rule<readonly InterfaceConfig[]> = {
  read: readInterfaces,
  fromText: (text) =>
    text.split(',').map((each) => {
      const [name, xdp] = each.split(/:(.*)/);
      return xdp === undefined ? { name } : { name, xdp };
    }),
  fallback: () => [],
};

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
    const { name, xdp = 'auto', tc, ...others }: Record<string, unknown> = item;
    for (const other of Object.keys(others)) refuse('unknown key; known: name, xdp, tc', [i, other], 'key');
    const goodName = textOf(name, /^(?!\.{1,2}$)[^\s/:]{1,15}$/); // dev_valid_name() of the kernel
    const goodXdp = xdpModes.find((mode) => mode === xdp);
    if (goodName === undefined) refuse(`got ${show(name)}, wanted the name of an interface, as eth0`, [i, 'name']);
    if (goodXdp === undefined) refuse(`got ${show(xdp)}, wanted auto, native or generic`, [i, 'xdp']);
    const goodTc = tc === undefined ? undefined : tcModes.find((mode) => mode === tc);
    if (tc !== undefined && goodTc === undefined) refuse(`got ${show(tc)}, wanted auto, tcx or clsact`, [i, 'tc']);
    if (goodName === undefined || goodXdp === undefined) continue;
    if (read.some((other) => other.name === goodName)) refuse(`${show(name)} is in the list already`, [i, 'name']);
    read.push({ name: goodName, xdp: goodXdp, ...(goodTc && { tc: goodTc }) });
  }
  return read;
}

const xdpModes: readonly InterfaceConfig['xdp'][] = ['auto', 'native', 'generic'];
const tcModes: readonly TcChoice[] = ['auto', 'tcx', 'clsact'];

export function yesOrNo(fallback: boolean): Rule<boolean> {
  const accept = (value: unknown): boolean | undefined =>
    typeof value === 'boolean' ? value : ({ true: true, false: false } as Record<string, boolean>)[String(value)];
  return scalar('true or false', accept, () => fallback);
}

export function scalar<T>(wanted: string, accept: (value: unknown) => T | undefined, fallback: () => T): Rule<T> {
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

export function range(min: number, max: number, fallback: number): Rule<number> {
  return number(`a whole number from ${min} to ${max}`, fallback, (value) => value >= min && value <= max);
}

export function number(wanted: string, fallback: number, isGood: (value: number) => boolean): Rule<number> {
  const accept = (value: unknown) =>
    typeof value === 'number' && Number.isInteger(value) && isGood(value) ? value : undefined;
  const fromText = (text: string) => (/^\d{1,15}$/.test(text) ? Number(text) : text);
  return { ...scalar(wanted, accept, () => fallback), fromText };
}

/** One of these words; the first is the default. */
export function oneOf<T extends string>(...words: readonly [T, ...T[]]): Rule<T> {
  const accept = (value: unknown) => words.find((word) => word === value);
  return scalar(words.map((word) => JSON.stringify(word)).join(' or '), accept, () => words[0]);
}

/** A path that may be left out. */
export function optionalPath(): Rule<string | null> {
  return scalar<string | null>('an absolute path', absolute, () => null);
}

/** A list of at least one http://HOST:PORT or https://HOST:PORT, all of one kind. */
export const endpointList: Rule<readonly string[]> = {
  read(value, refuse) {
    if (!Array.isArray(value) || value.length === 0) {
      refuse(`got ${show(value)}, wanted a list of at least one https://HOST:PORT`);
      return undefined;
    }
    const schemes = value.map(
      (item) => (/^(https?):\/\/([^\s/:@]+|\[[0-9a-fA-F:]+\]):\d{1,5}$/.exec(String(item)) ?? [])[1],
    );
    for (const [i, scheme] of schemes.entries()) {
      if (scheme === undefined) refuse(`got ${show(value[i])}, wanted https://HOST:PORT, or http:// without TLS`, [i]);
      else if (scheme !== schemes[0]) refuse(`got ${show(value[i])}, wanted ${schemes[0]}: as the first has`, [i]);
      else if (value.indexOf(value[i]) !== i) refuse(`${show(value[i])} is in the list already`, [i]);
    }
    return value as string[];
  },
  fromText: (text) => text.split(','),
  fallback: () => [],
};

// One value works today; the others are planned, and named so that nobody looks for a typing error.
export function supported<T extends string>(value: T, later: readonly string[]): Rule<T> {
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

export function path(fallback: string): Rule<string> {
  return scalar('an absolute path', absolute, () => fallback);
}

export function address(wanted: string, isGood: (text: string) => boolean): Rule<string | null> {
  return scalar<string | null>(
    wanted,
    (value) => (typeof value === 'string' && isGood(value) ? value : undefined),
    () => null,
  );
}

export function textOf(value: unknown, pattern: RegExp): string | undefined {
  return typeof value === 'string' && pattern.test(value) ? value : undefined;
}

export function absolute(value: unknown): string | undefined {
  return textOf(value, /^\/[^\0]*$/);
}

export function isLoopback(value: unknown): value is string {
  const [, host = '', port = ''] = /^(.*):(\d{1,5})$/.exec(String(value)) ?? [];
  const isLocal = host === '[::1]' || (isIPv4(host) && host.startsWith('127.'));
  return typeof value === 'string' && isLocal && Number(port) <= 65_535;
}
