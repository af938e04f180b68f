// SPDX-License-Identifier: Apache-2.0
import { isRecord, type TSchema, Type } from '../model/check.js';
import { EffectAnswer } from './answers.js';

const Problem = Type.Object(
  {
    type: Type.String(),
    title: Type.String(),
    status: Type.Integer(),
    detail: Type.String(),
    errors: Type.Optional(
      Type.Array(
        Type.Object({ pointer: Type.String({ description: 'JSON pointer into the body' }), detail: Type.String() }),
      ),
    ),
  },
  { description: 'RFC 9457' },
);

/** What a route is, for its OpenAPI entry. Bodies are checked by the commands, not by these schemas; queries are checked by theirs. */
export interface Description {
  readonly summary: string;
  /** Unique; what a client that is generated calls the function. */
  readonly operation: string;
  readonly tag: string;
  readonly query: TSchema;
  readonly body?: TSchema;
  /** The body may be left out. */
  readonly isBodyOptional?: boolean;
  /** The body is a merge patch: it has a media type of its own too. */
  readonly isPatch?: boolean;
  readonly answer?: TSchema;
  /** Of a write: what it may answer. 204 is without a body. */
  readonly status?: readonly (200 | 201 | 204)[];
  readonly path?: readonly string[];
  readonly headers?: Readonly<Record<string, object>>;
  /** `answer` comes as server-sent events, or as a page of them. */
  readonly stream?: boolean;
}

const OPTIONAL = 'x-body-optional';

/** Puts right in the document what the generator does not know: which bodies may be left out. */
export function finished<T extends { readonly paths?: object }>(document: T): T {
  for (const item of Object.values(document.paths ?? {}))
    for (const operation of Object.values(Object(item))) {
      if (!isRecord(operation) || !(OPTIONAL in operation)) continue;
      delete operation[OPTIONAL];
      if (isRecord(operation.requestBody)) operation.requestBody.required = false;
    }
  return document;
}

/** Headers of a write to one object. */
export const conditions = {
  'if-match': { type: 'string', description: 'only if the ETag of the object is one of these; else 412' },
  'if-none-match': { type: 'string', description: '*: only if there is no such object; else 412' },
} as const;

/** The fastify schema of a route. */
export function describe(description: Description): object {
  const {
    summary,
    operation,
    tag,
    query,
    body,
    isBodyOptional,
    isPatch,
    answer,
    status = [200],
    path = [],
    headers,
    stream,
  } = description;
  const params = Object.fromEntries(path.map((name) => [name, { type: 'string' }]));
  const done = (code: number): object =>
    code === 204
      ? { type: 'null', description: 'done' }
      : {
          description: code === 201 ? 'made' : 'done',
          content: { 'application/json': { schema: answer ?? Type.Object({ effect: EffectAnswer }) } },
        };
  return {
    summary,
    operationId: operation,
    tags: [tag],
    querystring: query,
    ...(path.length > 0 ? { params: { type: 'object', required: path, properties: params } } : {}),
    ...(headers === undefined ? {} : { headers: { type: 'object', properties: headers } }),
    ...(body === undefined ? {} : { body }),
    ...(isPatch ? { consumes: ['application/json', 'application/merge-patch+json'] } : {}),
    ...(isBodyOptional ? { [OPTIONAL]: true } : {}),
    response: {
      ...Object.fromEntries(status.map((code) => [code, done(code)])),
      ...(stream && answer ? { 200: streamOf(answer) } : {}),
      default: { description: 'a problem', content: { 'application/problem+json': { schema: Problem } } },
    },
  };
}

function streamOf(item: TSchema): object {
  return {
    description: 'server-sent events, the data of each as below; or a page',
    content: {
      'text/event-stream': { schema: { type: 'string' } },
      'application/json': {
        schema: Type.Object({ ...pageOf(item).properties, lost: Type.Union([Type.Integer(), Type.Null()]) }),
      },
    },
  };
}

/** The schema with these fields no longer required: a body whose path says the name, or a patch. */
export function without(schema: TSchema, optional: (field: string) => boolean): TSchema {
  const required = 'required' in schema && Array.isArray(schema.required) ? schema.required : [];
  return { ...schema, required: required.filter((field) => !optional(String(field))) };
}

/** The schema of a merge patch (RFC 7396): no field is required, null takes one away. */
export function patchOf(schema: TSchema): TSchema {
  const properties = 'properties' in schema && isRecord(schema.properties) ? schema.properties : {};
  const nullable = Object.entries(properties).map(([field, rule]) => [field, { anyOf: [rule, { type: 'null' }] }]);
  return { ...without(schema, () => true), properties: Object.fromEntries(nullable) };
}

/** The schema of an object as answered: the document with `revision` and `status`, and of a dry run its effect. */
export function answered(schema: TSchema, status: TSchema): TSchema {
  const properties = 'properties' in schema && isRecord(schema.properties) ? schema.properties : {};
  const required = 'required' in schema && Array.isArray(schema.required) ? schema.required : [];
  return {
    ...schema,
    required: [...required, 'revision', 'status'],
    properties: {
      ...properties,
      revision: { type: 'integer' },
      status: {
        anyOf: [status, { type: 'null' }],
        description: 'what this node knows of it; null when nothing yet',
      },
      effect: EffectAnswer,
    },
  };
}

/** The schema of a page of a list. */
export function pageOf(item: TSchema) {
  return Type.Object({ items: Type.Array(item), nextCursor: Type.Unsafe<string | null>({ type: ['string', 'null'] }) });
}
