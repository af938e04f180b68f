// SPDX-License-Identifier: Apache-2.0
import Type, { type Static, type TSchema } from 'typebox';
import { Compile } from 'typebox/compile';
import type { TLocalizedValidationError } from 'typebox/error';
import Format from 'typebox/format';
import { Settings } from 'typebox/system';
import { Value } from 'typebox/value';
import type { FieldError } from './errors.js';

export type { Static, TSchema };
export { Type };

/** `T` with any field missing, at any depth: what is left of a document when its wrong fields are taken out. */
export type Draft<T> = T extends readonly (infer E)[]
  ? readonly (Draft<E> | undefined)[]
  : T extends object
    ? { readonly [K in keyof T]?: Draft<T[K]> }
    : T;

/** A document that was read: `draft` holds every field that is right, defaults filled in; it is whole when `fields` is empty. */
export interface Reading<T> {
  readonly draft: Draft<T>;
  readonly fields: readonly FieldError[];
}

// The default of 8 would hide problems. A body can hold 100,000; nobody reads more than these.
const maxErrors = 200;
Settings.Set({ maxErrors });

const formats = new Map<string, (text: string) => string | null>();

/** Adds a string format; `why` answers null or the sentence that says why the text is refused. */
export function defineFormat(name: string, why: (text: string) => string | null): void {
  formats.set(name, why);
  Format.Set(name, (text) => why(text) === null);
}

/** A reader for documents of this schema: never throws, never coerces, reports every field that is wrong. `T` is what a whole document is. */
export function reader<T>(schema: TSchema): (input: unknown) => Reading<T> {
  const compiled = Compile(schema);
  return (input) => {
    const filled = Value.Default(schema, structuredClone(input));
    if (compiled.Check(filled)) return { draft: filled as Draft<T>, fields: [] };
    const errors = compiled.Errors(filled);
    const fields = explain(schema, filled, errors);
    // Behind the last one told there may be more: then no field is known to be right.
    const right: unknown = errors.length >= maxErrors ? {} : filled;
    return {
      draft: fields.reduce<unknown>((rest, field) => without(rest, tokensOf(field.pointer)), right) as Draft<T>,
      fields,
    };
  };
}

/** The path of a JSON pointer, unescaped (RFC 6901 section 4). */
export function tokensOf(pointer: string): string[] {
  return pointer
    .split('/')
    .slice(1)
    .map((token) => token.replaceAll('~1', '/').replaceAll('~0', '~'));
}

/** True for a JSON object: not null, not an array. */
export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/**
 * Of a value that is to be one of several kinds, one thing: what is wrong inside it when it is of the kind of one branch, else
 * that it is none of them.
 */
function onePerChoice(errors: readonly TLocalizedValidationError[]): readonly TLocalizedValidationError[] {
  let kept = errors;
  for (const choice of errors.filter(({ keyword }) => keyword === 'anyOf')) {
    const prefix = `${choice.schemaPath}/anyOf/`;
    const branch = ({ schemaPath }: TLocalizedValidationError): string | null =>
      schemaPath.startsWith(prefix) ? (schemaPath.slice(prefix.length).split('/')[0] ?? null) : null;
    const wrongKind = new Set(errors.filter((each) => each.instancePath === choice.instancePath).map(branch));
    const inside = kept.some((each) => branch(each) !== null && !wrongKind.has(branch(each)));
    kept = kept.filter((each) => {
      const of = branch(each);
      return of === null ? !(inside && each === choice) : !wrongKind.has(of);
    });
  }
  return kept;
}

function explain(schema: TSchema, input: unknown, errors: readonly TLocalizedValidationError[]): FieldError[] {
  return onePerChoice(errors).flatMap((error): FieldError[] => {
    const pointer = error.instancePath;
    const value = at(input, pointer);
    const rule = at(schema, error.schemaPath);
    const limit = (name: string) => (isRecord(rule) ? rule[name] : undefined);
    const one = (detail: string) => [{ pointer, detail }];
    switch (error.keyword) {
      case 'additionalProperties': // each of them is reported as 'boolean' too, with its own pointer
        return [];
      case 'boolean':
        return one(`unknown field "${tokensOf(pointer).at(-1)}"`);
      case 'required':
        return error.params.requiredProperties.map((name) => ({
          pointer: `${pointer}/${name}`,
          detail: `"${name}" is missing`,
        }));
      case 'type':
        return one(`got ${kindOf(value)}; wanted ${article(String(error.params.type))}`);
      case 'enum':
        return one(notOneOf(value, error.params.allowedValues));
      case 'const':
        return one(notOneOf(value, [error.params.allowedValue]));
      case 'minimum':
      case 'maximum':
        return one(`${short(value)} is out of range; use ${limit('minimum')} to ${limit('maximum')}`);
      case 'format':
        return one(formats.get(error.params.format)?.(String(value)) ?? error.message);
      case 'anyOf':
        return one(
          `got ${typeof value === 'string' ? short(value) : Array.isArray(value) ? `an array of ${value.length}` : kindOf(value)}; wanted ${limit('description')}`,
        );
      case 'pattern':
        return one(`${short(value)} is not ${limit('description') ?? `of the form ${error.params.pattern}`}`);
      default:
        return one(error.message);
    }
  });
}

function notOneOf(value: unknown, allowed: readonly unknown[]): string {
  const list = allowed.map((each) => JSON.stringify(each)).join(', ');
  return allowed.length === 1
    ? `${short(value)} is not supported by this version; use ${list}`
    : `${short(value)} is not one of ${list}`;
}

function kindOf(value: unknown): string {
  if (value === undefined) return 'nothing';
  if (value === null) return 'null';
  if (typeof value === 'number') return `the number ${value}`;
  return Array.isArray(value) ? 'an array' : article(typeof value);
}

function article(noun: string): string {
  return `${/^[aeiou]/.test(noun) ? 'an' : 'a'} ${noun}`;
}

function short(value: unknown): string {
  const text = JSON.stringify(value) ?? 'nothing';
  return text.length <= 80 ? text : `${text.slice(0, 77)}...`;
}

function at(root: unknown, pointer: string): unknown {
  return tokensOf(pointer).reduce<unknown>((value, token) => (Object(value) as Record<string, unknown>)[token], root);
}

// Takes one field out; an element of an array becomes undefined so that the indexes of the others hold.
function without(root: unknown, path: readonly string[]): unknown {
  const [token, ...rest] = path;
  if (token === undefined) return {};
  if (Array.isArray(root)) {
    const at = Number(token);
    return root.with(at, rest.length === 0 ? undefined : without(root[at], rest)); // arrays have 100,000 elements here
  }
  if (!isRecord(root) || !(token in root)) return root;
  const { [token]: child, ...others } = root;
  return rest.length === 0 ? others : { ...others, [token]: without(child, rest) };
}
