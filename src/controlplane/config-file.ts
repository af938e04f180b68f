// SPDX-License-Identifier: Apache-2.0
// How a configuration is read: by its rules, from a file, the environment and flags, with every mistake named where it is.
import { readFileSync } from 'node:fs';
import { FairleadError, messageOf } from '../model/errors.js';
import { type Path, type Position, readYaml, type YamlText } from '../model/yaml.js';
import { type Rules, show, type ValuesOf } from './config-rules.js';

/** Where a configuration comes from; later ones win: file, `env` (FAIRLEAD_FLOWS_PERCPU), `flags` (by key: `flows.perCpu`). */
export interface ConfigSources {
  readonly path: string | null; // null: the default path
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly flags: Readonly<Record<string, string>>;
}

/** A kind of configuration. */
export interface ConfigKind<R extends Rules> {
  readonly rules: R;
  /** What is said without a file at the default path: how to begin. */
  readonly begin: (file: string) => string;
  /** What is wrong with the whole, as `KEY: DETAIL`; `given` are the keys that were, with their values. Asked when each is right by itself. */
  readonly whole: (given: ReadonlyMap<keyof R & string, unknown>) => readonly string[];
}

type Problem = Position & { readonly text: string };
type Origin = Position & { readonly name: string };
type Entry = {
  readonly key: string;
  readonly value: unknown;
  readonly origin: (path: Path, part: 'key' | 'value') => Origin;
};

const afterFile: Position = { line: Number.POSITIVE_INFINITY, column: 0 };

/**
 * Reads a configuration; what is not given has its default. Throws 'not-found' without a file, and 'invalid' with everything that
 * is wrong in it, one line each below the first: `FILE:LINE:COLUMN: KEY: got X, wanted Y`.
 */
export function readConfig<R extends Rules>(
  { rules, begin, whole }: ConfigKind<R>,
  { path, env, flags }: ConfigSources,
  defaultPath: string,
): ValuesOf<R> {
  const file = path ?? defaultPath;
  const text = readText(file, path === null ? begin : null);
  const problems: Problem[] = [];
  const entries = [
    ...fromFile(rules, file, text, problems),
    ...fromEnv(rules, env, problems),
    ...fromFlags(rules, flags, problems),
  ];
  const values = new Map<string, unknown>();
  for (const { key, value, origin } of entries) {
    const read = rules[key]?.read(value, (detail, at = [], part = 'value') => {
      const { name, ...position } = origin(at, part);
      problems.push({ ...position, text: `${name}: ${key}${shown(at)}: ${detail}` });
    });
    values.set(key, read);
  }
  if (problems.length === 0)
    for (const detail of whole(values)) problems.push({ ...afterFile, text: `${file}: ${detail}` });
  if (problems.length > 0) {
    const count = problems.length === 1 ? 'one problem' : `${problems.length} problems`;
    problems.sort((a, b) => (a.line === b.line ? a.column - b.column : a.line - b.line));
    const lines = problems.map(({ text }) => `\n  ${text}`);
    throw new FairleadError('invalid', `read the configuration: ${count}${lines.join('')}`);
  }
  const all = Object.entries(rules).map(([key, rule]) => [key, values.get(key) ?? rule.fallback()]);
  return Object.fromEntries(all) as ValuesOf<R>;
}

/** The variable that sets this key: FAIRLEAD_ and the key's path, in capitals, joined by underscores. */
export function envName(key: string): string {
  return `FAIRLEAD_${key.replaceAll('.', '_').toUpperCase()}`;
}

// `begin` is null for a file that was asked for.
function readText(file: string, begin: ((file: string) => string) | null): string {
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
    if (begin === null) throw new FairleadError('not-found', `read the configuration "${file}": it does not exist`);
    throw new FairleadError('not-found', begin(file));
  }
}

function fromFile(rules: Rules, file: string, text: string, problems: Problem[]): Entry[] {
  const yaml = readYaml(text);
  const problem = (position: Position, detail: string) => {
    problems.push({ ...position, text: `${placeIn(file, position)}: ${detail}` });
  };
  for (const { detail, ...position } of yaml.problems) problem(position, detail);
  return yaml.problems.length > 0 ? [] : entriesIn(rules, yaml, file, [], yaml.value, problem);
}

// Sections are maps of keys; what is below a key is the key's business.
function entriesIn(
  rules: Rules,
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
    problem(yaml.position(path, 'value'), `${prefix}got ${show(value)}, wanted the keys ${keysIn(rules, section)}`);
    return [];
  }
  return Object.entries(value).flatMap(([token, each]): Entry[] => {
    const below = [...path, token];
    const key = below.join('.');
    if (!token.includes('.') && isKey(rules, key)) {
      const origin = (at: Path, part: 'key' | 'value') => {
        const position = yaml.position([...below, ...at], part);
        return { ...position, name: placeIn(file, position) };
      };
      return each === null ? [] : [{ key, value: each, origin }];
    }
    if (keysIn(rules, key) !== '') return entriesIn(rules, yaml, file, below, each, problem);
    problem(yaml.position(below, 'key'), unknownKey(rules, key));
    return [];
  });
}

function placeIn(file: string, { line, column }: Position): string {
  return `${file}:${line}:${column}`;
}

// A variable of no section may be anybody's: FAIRLEAD_SOCKET is the command line's.
function fromEnv(rules: Rules, env: ConfigSources['env'], problems: Problem[]): Entry[] {
  const byName = new Map(Object.keys(rules).map((key) => [envName(key), key]));
  const sections = Object.keys(rules).flatMap((key) => (key.includes('.') ? [envName(`${key.split('.')[0]}.`)] : []));
  return Object.entries(env).flatMap(([name, text]) => {
    if (text === undefined || text === '') return [];
    const key = byName.get(name);
    if (key !== undefined) return [{ key, value: rules[key]?.fromText(text), origin: () => ({ ...afterFile, name }) }];
    const section = sections.find((prefix) => name.startsWith(prefix));
    if (section !== undefined) {
      const known = [...byName.keys()].filter((each) => each.startsWith(section));
      problems.push({ ...afterFile, text: `${name}: unknown variable; known: ${known.join(', ')}` });
    }
    return [];
  });
}

function fromFlags(rules: Rules, flags: ConfigSources['flags'], problems: Problem[]): Entry[] {
  return Object.entries(flags).flatMap(([key, text]) => {
    if (isKey(rules, key))
      return [{ key, value: rules[key]?.fromText(text), origin: () => ({ ...afterFile, name: 'flag' }) }];
    problems.push({ ...afterFile, text: `flag: ${unknownKey(rules, key)}` });
    return [];
  });
}

function unknownKey(rules: Rules, key: string): string {
  const section = key.split('.').slice(0, -1).join('.');
  const known = keysIn(rules, section) || keysIn(rules, '');
  return `unknown key "${key}"; known${section === '' ? '' : ` in ${section}`}: ${known}`;
}

// The keys and sections right below a section, for people; '' when there is no such section.
function keysIn(rules: Rules, section: string): string {
  const prefix = section === '' ? '' : `${section}.`;
  const below = Object.keys(rules).filter((key) => key.startsWith(prefix));
  return [...new Set(below.map((key) => key.slice(prefix.length).split('.')[0]))].join(', ');
}

function shown(path: Path): string {
  return path.map((token) => (typeof token === 'number' ? `[${token}]` : `.${token}`)).join('');
}

function isKey(rules: Rules, key: string): boolean {
  return Object.hasOwn(rules, key);
}
