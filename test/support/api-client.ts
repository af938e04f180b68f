// SPDX-License-Identifier: Apache-2.0
// A client made from /openapi.json alone: one function for each operation, which holds what it sends and gets to the document.
import { Compile } from 'typebox/compile';
import { isRecord } from '../../src/model/check.js';
import type { Reply } from './serve.js';

type Ask = (
  method: string,
  path: string,
  body?: unknown,
  headers?: Readonly<Record<string, string>>,
) => Promise<Reply & { readonly type?: string }>;

export interface Operation {
  readonly id: string;
  readonly method: string;
  readonly path: string; // with {name}
  readonly body: object | null; // schema
  readonly isBodyRequired: boolean;
  readonly parameters: readonly { readonly name: string; readonly in: string; readonly required?: boolean }[];
  /** Answers by status, 'default' for the rest; null: without a body. */
  readonly answers: ReadonlyMap<string, object | null>;
}

export interface Arguments {
  readonly path?: Readonly<Record<string, string>>;
  readonly query?: Readonly<Record<string, string>>;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: unknown;
}

const record = (value: unknown): Record<string, unknown> => (isRecord(value) ? value : {});

/** The schema of JSON in a `content`, of any media type with json in its name. */
function jsonIn(content: unknown): object | null {
  const entry = Object.entries(record(content)).find(([type]) => type.includes('json'));
  return entry ? record(record(entry[1]).schema) : null;
}

/** The operations of a document by their id. */
export function operationsOf(document: unknown): Map<string, Operation> {
  const found = new Map<string, Operation>();
  for (const [path, item] of Object.entries(record(record(document).paths)))
    for (const [method, raw] of Object.entries(record(item))) {
      const operation = record(raw);
      const id = String(operation.operationId);
      if (found.has(id) || operation.operationId === undefined) throw new Error(`operationId of ${method} ${path}`);
      const body = record(operation.requestBody);
      const answers = Object.entries(record(operation.responses)).map(
        ([status, answer]) => [status, jsonIn(record(answer).content)] as const,
      );
      found.set(id, {
        ...{ id, path, method: method.toUpperCase() },
        body: jsonIn(body.content),
        isBodyRequired: body.required === true,
        parameters: (operation.parameters as Operation['parameters'] | undefined) ?? [],
        answers: new Map(answers),
      });
    }
  return found;
}

/** Calls an operation as the document says it is called. Throws when the document does not allow the call, or not the answer. */
export async function callOperation(ask: Ask, operation: Operation, given: Arguments = {}): Promise<Reply> {
  const { path: parts = {}, query = {}, headers = {}, body } = given;
  for (const [place, names] of Object.entries({ path: parts, query, header: headers }))
    for (const name of Object.keys(names))
      if (!operation.parameters.some((each) => each.in === place && each.name.toLowerCase() === name.toLowerCase()))
        throw new Error(`${operation.id} has no parameter "${name}" in ${place}`);
  if (body !== undefined && operation.body === null) throw new Error(`${operation.id} takes no body`);
  const path = operation.path.replaceAll(/\{(\w+)\}/g, (_, name: string) => encodeURIComponent(parts[name] ?? ''));
  const text = new URLSearchParams(query).toString();
  const reply = await ask(operation.method, text === '' ? path : `${path}?${text}`, body, headers);
  assertAnswer(operation, reply);
  return reply;
}

const validators = new WeakMap<object, ReturnType<typeof Compile>>();

function validatorOf(schema: object): ReturnType<typeof Compile> {
  const known = validators.get(schema) ?? Compile(schema);
  validators.set(schema, known);
  return known;
}

/** Throws unless the document has this answer. */
export function assertAnswer({ id, answers }: Operation, { status, body }: Reply): void {
  const schema = answers.get(String(status)) ?? (answers.has(String(status)) ? null : answers.get('default'));
  if (schema === undefined) throw new Error(`${id}: ${status} is not in the document`);
  if (schema === null) {
    if (body !== null && typeof body !== 'string') throw new Error(`${id}: ${status} with a body`);
    return;
  }
  const compiled = validatorOf(schema);
  if (compiled.Check(body)) return;
  const wrong = compiled.Errors(body).map(({ instancePath, message }) => `${instancePath}: ${message}`);
  throw new Error(`${id}: ${status} is not as documented: ${wrong.slice(0, 5).join('; ')}: ${JSON.stringify(body)}`);
}
