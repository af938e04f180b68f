// SPDX-License-Identifier: Apache-2.0
import { FairleadError } from './errors.js';

/** Where something is in a text, counted from 1; `column` in UTF-16 units. */
export interface Place {
  readonly line: number;
  readonly column: number;
}

/**
 * Reads JSON (RFC 8259) and tells where each value begins, by JSON pointer. JSON.parse gives no usable position
 * for most errors (`[1,]` and `{"a": }` among them): then, and only then, the text is walked here.
 * `at` answers the place of the value, or of the nearest one around it that exists. Throws 'damaged' with line and column.
 */
export function parseJson(text: string): { readonly value: unknown; at(pointer: string): Place } {
  const value = parsed(text);
  let offsets: ReadonlyMap<string, number> | null = null;
  return {
    value,
    at(pointer) {
      offsets ??= offsetsOf(text);
      let known = pointer;
      while (known !== '' && !offsets.has(known)) known = known.slice(0, known.lastIndexOf('/'));
      return placeOf(text, offsets.get(known) ?? 0);
    },
  };
}

/** Of objects and arrays in one another: each level has its place on the stack. */
const DEEPEST = 1000;

const fits = (value: unknown, levels: number): boolean =>
  levels > 0 &&
  (typeof value !== 'object' || value === null || Object.values(value).every((each) => fits(each, levels - 1)));

function parsed(text: string): unknown {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    offsetsOf(text); // says where
    throw error;
  }
  if (!fits(value, DEEPEST)) offsetsOf(text);
  return value;
}

const token =
  /(?:[{}[\],:])|"(?:[ !#-[\]-\uffff]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null/y;

function offsetsOf(text: string): Map<string, number> {
  const offsets = new Map<string, number>();
  let offset = 0;
  let start = 0;

  const next = (): string => {
    while (' \t\r\n'.includes(text[offset] ?? '-')) offset++;
    start = offset;
    token.lastIndex = offset;
    const [found = ''] = token.exec(text) ?? [];
    offset += found.length;
    return found;
  };
  const expected = (what: string): FairleadError => {
    const { line, column } = placeOf(text, start);
    const got =
      start >= text.length ? 'the end of the text' : JSON.stringify(text.slice(start, start + 20).split('\n')[0]);
    return new FairleadError('damaged', `line ${line} column ${column}: got ${got}; wanted ${what}`);
  };
  const list = (close: string, member: (first: string, index: number) => void): void => {
    let found = next();
    if (found === close) return;
    for (let i = 0; ; i++) {
      member(found, i);
      const separator = next();
      if (separator === close) return;
      if (separator !== ',') throw expected(`"," or "${close}"`);
      found = next();
    }
  };
  let depth = 0;
  const value = (first: string, pointer: string): void => {
    offsets.set(pointer, start);
    if (++depth > DEEPEST) throw expected(`at most ${DEEPEST} levels`);
    if (first === '{') {
      list('}', (key) => {
        if (!key.startsWith('"')) throw expected('a name in double quotes');
        const name = String(JSON.parse(key)).replaceAll('~', '~0').replaceAll('/', '~1');
        if (next() !== ':') throw expected('":"');
        value(next(), `${pointer}/${name}`);
      });
    } else if (first === '[') list(']', (item, i) => value(item, `${pointer}/${i}`));
    else if (!/^["\-\dtfn]/.test(first)) throw expected('a value');
    depth--;
  };

  value(next(), '');
  if (next() !== '' || start < text.length) throw expected('the end of the text');
  return offsets;
}

function placeOf(text: string, offset: number): Place {
  const before = text.slice(0, offset).split('\n');
  return { line: before.length, column: (before.at(-1) ?? '').length + 1 };
}
