// SPDX-License-Identifier: Apache-2.0
import { readFileSync } from 'node:fs';
import { FairleadError, messageOf } from '../model/errors.js';
import { type Path, type Position, readYaml, type YamlText } from '../model/yaml.js';
import { type ConfigKey, type ConfigValues, configKeys, defaultsAnd, show } from './config-keys.js';

/** What the daemon is told about its machine. Paths are absolute; addresses are as written. */
export interface Config {
  readonly node: string;
  readonly interfaces: ConfigValues['interfaces']; // at least one, names unique
  readonly store: { readonly type: 'file'; readonly path: string; readonly follow: boolean }; // follow: another process writes it
  readonly api: { readonly socket: string; readonly listen: string | null }; // listen: 127.0.0.1:7080, [::1]:7080
  readonly flows: { readonly perCpu: number; readonly mode: 'all'; readonly newPerSecond: number };
  readonly tunnel: { readonly source: string | null; readonly source6: string | null; readonly mtu: number };
  readonly bpffs: string; // the pins go to <bpffs>/fairlead
}

/** Where a configuration comes from; later ones win: file, `env` (FAIRLEAD_FLOWS_PERCPU), `flags` (by key: `flows.perCpu`). */
export interface ConfigSources {
  readonly path: string | null; // null: the default path
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly flags: Readonly<Record<string, string>>;
}

export const defaultConfigPath = '/etc/fairlead/fairlead.yaml';

/** A configuration to begin with. */
export const exampleConfig = `interfaces:
  - { name: eth0, xdp: auto }
tunnel: { source: 192.0.2.1 }
`;

type Problem = Position & { readonly text: string };
type Origin = Position & { readonly name: string };
type Entry = {
  readonly key: ConfigKey;
  readonly value: unknown;
  readonly origin: (path: Path, part: 'key' | 'value') => Origin;
};

const afterFile: Position = { line: Number.POSITIVE_INFINITY, column: 0 };

/**
 * Reads the configuration. Throws 'not-found' without a file, and 'invalid' with everything that is wrong in it, one line each
 * below the first: `FILE:LINE:COLUMN: KEY: got X, wanted Y`.
 */
export function loadConfig({ path, env, flags }: ConfigSources, defaultPath: string = defaultConfigPath): Config {
  const file = path ?? defaultPath;
  const text = readText(file, path !== null);
  const problems: Problem[] = [];
  const entries = [...fromFile(file, text, problems), ...fromEnv(env, problems), ...fromFlags(flags, problems)];
  const values: Partial<Record<ConfigKey, unknown>> = {};
  for (const { key, value, origin } of entries) {
    values[key] = configKeys[key].read(value, (detail, at = [], part = 'value') => {
      const { name, ...position } = origin(at, part);
      problems.push({ ...position, text: `${name}: ${key}${shown(at)}: ${detail}` });
    });
  }
  if (problems.length === 0 && values.interfaces === undefined) {
    const text = `${file}: interfaces: missing; wanted at least one, as in "interfaces: [{ name: eth0 }]"`;
    problems.push({ ...afterFile, text });
  }
  if (problems.length > 0) {
    const count = problems.length === 1 ? 'one problem' : `${problems.length} problems`;
    problems.sort((a, b) => (a.line === b.line ? a.column - b.column : a.line - b.line));
    const lines = problems.map(({ text }) => `\n  ${text}`);
    throw new FairleadError('invalid', `read the configuration: ${count}${lines.join('')}`);
  }
  return assemble(defaultsAnd(values));
}

/** The variable that sets this key: FAIRLEAD_ and the key's path, in capitals, joined by underscores. */
export function envName(key: string): string {
  return `FAIRLEAD_${key.replaceAll('.', '_').toUpperCase()}`;
}

function readText(file: string, isExplicit: boolean): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    const errno = error instanceof Error && 'code' in error ? error.code : null;
    if (errno !== 'ENOENT') {
      throw new FairleadError(
        errno === 'EACCES' ? 'permission' : 'invalid',
        `read the configuration: ${messageOf(error)}`,
      );
    }
    if (isExplicit) throw new FairleadError('not-found', `read the configuration "${file}": it does not exist`);
    const example = exampleConfig.trimEnd().replaceAll('\n', '\n    ');
    const text = `there is no configuration, so no interface is touched; to begin, write ${file} with the interface and the address of this machine:\n\n    ${example}`;
    throw new FairleadError('not-found', text);
  }
}

function fromFile(file: string, text: string, problems: Problem[]): Entry[] {
  const yaml = readYaml(text);
  const problem = (position: Position, detail: string) => {
    problems.push({ ...position, text: `${placeIn(file, position)}: ${detail}` });
  };
  for (const { detail, ...position } of yaml.problems) problem(position, detail);
  return yaml.problems.length > 0 ? [] : entriesIn(yaml, file, [], yaml.value, problem);
}

// Sections are maps of keys; what is below a key is the key's business.
function entriesIn(
  yaml: YamlText,
  file: string,
  path: Path,
  value: unknown,
  problem: (position: Position, detail: string) => void,
): Entry[] {
  const section = path.join('.');
  if (value === null || value === undefined) return []; // written but empty: the defaults
  if (typeof value !== 'object' || Array.isArray(value)) {
    const prefix = section === '' ? '' : `${section}: `;
    problem(yaml.position(path, 'value'), `${prefix}got ${show(value)}, wanted the keys ${keysIn(section)}`);
    return [];
  }
  const isEtcd = section === 'store' && 'type' in value && value.type === 'etcd'; // refused as a whole: by its type
  return Object.entries(value).flatMap(([token, each]): Entry[] => {
    const below = [...path, token];
    const key = below.join('.');
    if (!token.includes('.') && isKey(key)) {
      const origin = (at: Path, part: 'key' | 'value') => {
        const position = yaml.position([...below, ...at], part);
        return { ...position, name: placeIn(file, position) };
      };
      return each === null ? [] : [{ key, value: each, origin }];
    }
    if (keysIn(key) !== '') return entriesIn(yaml, file, below, each, problem);
    if (!isEtcd) problem(yaml.position(below, 'key'), unknownKey(key));
    return [];
  });
}

function placeIn(file: string, { line, column }: Position): string {
  return `${file}:${line}:${column}`;
}

// A variable of no section may be anybody's: FAIRLEAD_SOCKET is the command line's.
function fromEnv(env: ConfigSources['env'], problems: Problem[]): Entry[] {
  const byName = new Map(keyNames().map((key) => [envName(key), key]));
  const sections = keyNames().flatMap((key) => (key.includes('.') ? [envName(`${key.split('.')[0]}.`)] : []));
  return Object.entries(env).flatMap(([name, text]) => {
    if (text === undefined || text === '') return [];
    const key = byName.get(name);
    if (key !== undefined)
      return [{ key, value: configKeys[key].fromText(text), origin: () => ({ ...afterFile, name }) }];
    const section = sections.find((prefix) => name.startsWith(prefix));
    if (section !== undefined) {
      const known = [...byName.keys()].filter((each) => each.startsWith(section));
      problems.push({ ...afterFile, text: `${name}: unknown variable; known: ${known.join(', ')}` });
    }
    return [];
  });
}

function fromFlags(flags: ConfigSources['flags'], problems: Problem[]): Entry[] {
  return Object.entries(flags).flatMap(([key, text]) => {
    if (isKey(key))
      return [{ key, value: configKeys[key].fromText(text), origin: () => ({ ...afterFile, name: 'flag' }) }];
    problems.push({ ...afterFile, text: `flag: ${unknownKey(key)}` });
    return [];
  });
}

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
    bpffs: values.bpffs,
  };
}

function unknownKey(key: string): string {
  const section = key.split('.').slice(0, -1).join('.');
  const known = keysIn(section) || keysIn('');
  return `unknown key "${key}"; known${section === '' ? '' : ` in ${section}`}: ${known}`;
}

// The keys and sections right below a section, for people; '' when there is no such section.
function keysIn(section: string): string {
  const prefix = section === '' ? '' : `${section}.`;
  const below = keyNames().filter((key) => key.startsWith(prefix));
  return [...new Set(below.map((key) => key.slice(prefix.length).split('.')[0]))].join(', ');
}

function shown(path: Path): string {
  return path.map((token) => (typeof token === 'number' ? `[${token}]` : `.${token}`)).join('');
}

function keyNames(): ConfigKey[] {
  return Object.keys(configKeys) as ConfigKey[];
}

function isKey(key: string): key is ConfigKey {
  return Object.hasOwn(configKeys, key);
}
