// SPDX-License-Identifier: Apache-2.0
// Random bodies for the API: what a schema allows, that with something wrong, and bytes that are nothing at all.
import { isRecord } from '../../src/model/check.js';

type Random = () => number;
type Rule = Record<string, unknown>;

/** A body to send; `isJson` false: no JSON is to be expected of it. */
export interface RandomBody {
  readonly how: 'valid' | 'mutated' | 'bytes';
  readonly bytes: Buffer;
  readonly type: string;
}

const int = (random: Random, max: number): number => Math.floor(random() * max);
const pick = <T>(random: Random, list: readonly T[]): T => list[int(random, list.length)] as T;

/** Names are few, so that bodies meet the same objects. */
export const NAMES = ['web', 'dns', 'a', 'x.y-z_0'] as const;
const address = (random: Random): string =>
  random() < 0.7
    ? `10.0.${int(random, 2)}.${1 + int(random, 200)}`
    : `2001:db8::${(1 + int(random, 500)).toString(16)}`;

/** A value the schema allows, as far as a schema tells. */
export function allowedBy(random: Random, schema: unknown, field = ''): unknown {
  const rule: Rule = isRecord(schema) ? schema : {};
  if (Array.isArray(rule.anyOf)) return allowedBy(random, pick(random, rule.anyOf), field);
  if (Array.isArray(rule.enum)) return pick(random, rule.enum);
  switch (rule.type) {
    case 'object': {
      const required = Array.isArray(rule.required) ? rule.required : [];
      const entries = Object.entries(isRecord(rule.properties) ? rule.properties : {}).filter(
        ([name]) => required.includes(name) || random() < 0.3,
      );
      return Object.fromEntries(entries.map(([name, each]) => [name, allowedBy(random, each, name)]));
    }
    case 'array':
      return Array.from({ length: int(random, 4) }, () => allowedBy(random, rule.items, field));
    case 'integer': {
      const least = Number(rule.minimum ?? 0);
      return least + int(random, Math.min(Number(rule.maximum ?? 1000) - least + 1, pick(random, [3, 300, 1e9])));
    }
    case 'boolean':
      return random() < 0.5;
    case 'null':
      return null;
    default:
      return textOf(random, rule, field);
  }
}

function textOf(random: Random, rule: Rule, field: string): string {
  if (rule.format === 'unicast-address') return address(random);
  if (rule.format === 'utc-time') return `2026-0${1 + int(random, 9)}-11T00:00:00Z`;
  if (field === 'allow' || field === 'deny') return random() < 0.5 ? address(random) : `10.${int(random, 9)}.0.0/16`;
  if (field === 'id') return pick(random, ['00', 'c0ffee', '0123456789abcdef']);
  return pick(random, NAMES);
}

const ODD: readonly ((random: Random) => unknown)[] = [
  () => null,
  () => true,
  () => '',
  () => [],
  () => ({}),
  () => -1,
  () => 1.5,
  () => 1e300,
  () => 2 ** 53,
  () => '\u0000',
  () => '\ud800',
  () => '../../etc/passwd',
  () => "'; DROP TABLE services; --",
  () => '%00%2e%2e%2f',
  () => '🦑'.repeat(50),
  (random) => 'x'.repeat(int(random, 3000)),
  () => '127.0.0.1',
  () => '::ffff:10.0.0.1',
  () => '010.0.0.1',
  () => ({ toString: 'x', constructor: { prototype: {} } }),
  () => [[[[[[[[]]]]]]]],
  (random) => Array.from({ length: int(random, 300) }, () => 7),
  (random) => random(),
];
const ODD_KEYS = [
  '__proto__',
  'constructor',
  'toString',
  '',
  'a/b',
  'a~b',
  'revision',
  'status',
  'Port',
  'kind',
  '\u0000',
];

/** Every container of a value, itself first. */
function containers(value: unknown): (Record<string, unknown> | unknown[])[] {
  if (!isRecord(value) && !Array.isArray(value)) return [];
  return [value, ...Object.values(value).flatMap(containers)];
}

/** The value with one to three things that do not belong there. Changes it. */
function mutated(random: Random, value: unknown): unknown {
  for (let left = 1 + int(random, 3); left > 0; left--) {
    const odd = pick(random, ODD)(random);
    const all = containers(value);
    if (all.length === 0 || random() < 0.03) return odd;
    const at = pick(random, all);
    if (Array.isArray(at)) {
      if (at.length > 0 && random() < 0.4) at.push(structuredClone(pick(random, at)));
      else at.splice(int(random, at.length + 1), int(random, 2), odd);
      continue;
    }
    const keys = Object.keys(at);
    const key = keys.length > 0 && random() < 0.7 ? pick(random, keys) : pick(random, ODD_KEYS);
    if (random() < 0.25) delete at[key];
    else Object.defineProperty(at, key, { value: odd, enumerable: true, configurable: true, writable: true });
  }
  return value;
}

const RAW = [
  '{',
  '}',
  '[',
  ']',
  ',',
  ':',
  '"',
  '\\',
  '\\u00',
  '-',
  '1e999',
  'null',
  'tru',
  '\n',
  '\ufeff',
  '/*',
  '{"name":',
];

function rawBytes(random: Random, near: string): Buffer {
  switch (int(random, 6)) {
    case 0:
      return Buffer.from(Array.from({ length: int(random, 300) }, () => int(random, 256)));
    case 1:
      return Buffer.from(near.slice(0, int(random, near.length + 1)));
    case 2: {
      const bytes = Buffer.from(near);
      for (let left = 1 + int(random, 4); left > 0 && bytes.length > 0; left--)
        bytes[int(random, bytes.length)] = int(random, 256);
      return bytes;
    }
    case 3: {
      const depth = int(random, pick(random, [10, 1000, 100_000]));
      return Buffer.from('['.repeat(depth) + ']'.repeat(pick(random, [0, depth])));
    }
    case 4: {
      const depth = int(random, pick(random, [10, 100, 20_000]));
      return Buffer.from(`${'{"backends":'.repeat(depth)}[]${'}'.repeat(pick(random, [0, depth]))}`);
    }
    default:
      return Buffer.from(Array.from({ length: int(random, 40) }, () => pick(random, RAW)).join(''));
  }
}

const TYPES = [
  'application/json',
  'application/json',
  'application/json',
  'application/merge-patch+json',
  'text/plain',
  'application/json; charset=utf-8',
  '',
];

/** A body for this schema. */
export function randomBody(random: Random, schema: object): RandomBody {
  const value = allowedBy(random, schema);
  const turn = random();
  const bytes = (text: string): Buffer => Buffer.from(text);
  if (turn < 0.35) return { how: 'valid', bytes: bytes(JSON.stringify(value)), type: 'application/json' };
  if (turn < 0.75)
    return { how: 'mutated', bytes: bytes(JSON.stringify(mutated(random, value)) ?? ''), type: 'application/json' };
  return { how: 'bytes', bytes: rawBytes(random, JSON.stringify(value)), type: pick(random, TYPES) };
}
