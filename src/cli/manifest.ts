// SPDX-License-Identifier: Apache-2.0
// Files of objects, as `apply` and `diff` take them.
import { FairleadError, type FieldError } from '../model/errors.js';
import { type Path, readYamlDocuments, type YamlText } from '../model/yaml.js';
import type { Io } from './io.js';

/** What files say the store is to hold. */
export interface Manifest {
  readonly services: readonly unknown[];
  readonly pools: readonly unknown[];
  /** The field of the document that was sent, as a place in the file it came from: `web.yaml:7:3: service "web": /port`. */
  locate(field: FieldError): FieldError;
}

interface Entry {
  readonly body: Record<string, unknown>;
  readonly where: string; // file
  readonly text: YamlText;
  readonly path: Path;
}

const lists = { Service: 'services', Pool: 'pools' } as const;
type List = (typeof lists)[keyof typeof lists];

/**
 * Reads YAML or JSON files, `-` is standard input. A file holds documents, one after the other: an object with `kind: Service` or `kind: Pool`, a list of
 * such, `{ services: [...], pools: [...] }`, or `{ items: [...] }`. Throws 'invalid' with file, line and column. A file without any object is refused unless it
 * has an empty list in it: it would delete everything.
 */
export async function readManifest(io: Io, files: readonly string[]): Promise<Manifest> {
  const found: Record<List, Entry[]> = { services: [], pools: [] };
  let isMeant = false;
  for (const file of files) {
    const where = titleOf(file);
    for (const text of readYamlDocuments(await io.read(file))) {
      const [problem] = text.problems;
      if (problem) throw refused(`${where}:${problem.line}:${problem.column}: ${problem.detail}`);
      isMeant = take({ where, text, value: text.value, path: [] }, found) || isMeant;
    }
  }
  const isEmpty = found.services.length + found.pools.length === 0;
  if (isEmpty && !isMeant)
    throw refused(
      `${files.map(titleOf).join(', ')}: no object in it; to delete everything, write "services: []" and "pools: []"`,
    );
  return {
    services: found.services.map(({ body }) => body),
    pools: found.pools.map(({ body }) => body),
    locate: (field) => locate(field, found),
  };
}

/** What a file is called in a sentence. */
export const titleOf = (file: string): string => (file === '-' ? 'standard input' : file);

interface Part {
  readonly where: string;
  readonly text: YamlText;
  readonly value: unknown;
  readonly path: Path;
}

/** Sorts what a part of a document holds; true when it has a list, were it empty. */
function take(part: Part, found: Record<List, Entry[]>): boolean {
  const { value, path } = part;
  if (value === null || value === undefined) return false; // an empty document between two ---
  if (Array.isArray(value)) {
    for (const [at, each] of value.entries()) takeObject({ ...part, value: each, path: [...path, at] }, found);
    return true;
  }
  const fields = Object.keys(Object(value));
  if (
    isRecord(value) &&
    fields.length > 0 &&
    fields.every((field) => ['services', 'pools', 'items', 'revision'].includes(field))
  ) {
    for (const list of ['services', 'pools', 'items'] as const) {
      const items = value[list];
      if (items === undefined) continue;
      if (!Array.isArray(items)) throw wrong({ ...part, path: [...path, list] }, 'wanted a list');
      for (const [at, each] of items.entries()) {
        const inner = { ...part, value: each, path: [...path, list, at] };
        if (list === 'items') takeObject(inner, found);
        else takeBody(inner, list, found);
      }
    }
    return true;
  }
  takeObject(part, found);
  return true;
}

function takeObject(part: Part, found: Record<List, Entry[]>): void {
  const { value } = part;
  if (!isRecord(value)) throw wrong(part, 'wanted the fields of an object');
  const { kind } = value;
  if (kind !== 'Service' && kind !== 'Pool') {
    const got = kind === undefined ? 'it has none' : `got ${JSON.stringify(kind)}`;
    throw wrong(part, `wanted "kind: Service" or "kind: Pool"; ${got}`);
  }
  takeBody(part, lists[kind], found);
}

function takeBody({ where, text, value, path, ...rest }: Part, list: List, found: Record<List, Entry[]>): void {
  if (!isRecord(value)) throw wrong({ where, text, value, path, ...rest }, 'wanted the fields of an object');
  const { kind: _kind, ...body } = value;
  found[list].push({ body, where, text, path });
}

function locate({ pointer, detail }: FieldError, found: Readonly<Record<List, readonly Entry[]>>): FieldError {
  const [, list = '', at = '', ...rest] = pointer.split('/');
  const entry = (list === 'services' || list === 'pools') && found[list][Number(at)];
  if (!entry) return { pointer, detail };
  const inner = rest.map((token) =>
    /^\d+$/.test(token) ? Number(token) : token.replaceAll('~1', '/').replaceAll('~0', '~'),
  );
  const { line, column } = entry.text.position([...entry.path, ...inner], 'value');
  const title = `${list.slice(0, -1)} "${entry.body.name ?? at}"`;
  const field = rest.length > 0 ? `/${rest.join('/')}: ` : '';
  return { pointer: `${entry.where}:${line}:${column}`, detail: `${title}: ${field}${detail}` };
}

const refused = (message: string): FairleadError => new FairleadError('invalid', message);

function wrong({ where, text, path }: Part, detail: string): FairleadError {
  const { line, column } = text.position(path, 'value');
  return refused(`${where}:${line}:${column}: ${detail}`);
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
