// SPDX-License-Identifier: Apache-2.0
import { isRecord, type TSchema, Type } from '../model/check.js';

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
  readonly tag: string;
  readonly query: TSchema;
  readonly body?: TSchema;
  readonly answer?: TSchema;
  readonly status?: number;
  readonly path?: readonly string[];
}

/** The fastify schema of a route. */
export function describe({ summary, tag, query, body, answer, status = 200, path = [] }: Description): object {
  const params = Object.fromEntries(path.map((name) => [name, { type: 'string' }]));
  return {
    summary,
    tags: [tag],
    querystring: query,
    ...(path.length > 0 ? { params: { type: 'object', required: path, properties: params } } : {}),
    ...(body === undefined ? {} : { body }),
    response: {
      [status]: answer ?? { type: 'null', description: 'done' },
      default: { description: 'a problem', content: { 'application/problem+json': { schema: Problem } } },
    },
  };
}

/** The schema with these fields no longer required: a body whose path says the name, or a patch. */
export function without(schema: TSchema, optional: (field: string) => boolean): TSchema {
  const required = 'required' in schema && Array.isArray(schema.required) ? schema.required : [];
  return { ...schema, required: required.filter((field) => !optional(String(field))) };
}

/** The schema of an object as answered: the document with `revision` and `status`. */
export function answered(schema: TSchema): TSchema {
  const properties = 'properties' in schema && isRecord(schema.properties) ? schema.properties : {};
  const status = { type: ['object', 'null'], description: 'what this node knows of it; null when nothing yet' };
  return { ...schema, properties: { ...properties, revision: { type: 'integer' }, status } };
}

/** The schema of a page of a list. */
export function pageOf(item: TSchema): TSchema {
  return Type.Object({ items: Type.Array(item), nextCursor: Type.Unsafe<string | null>({ type: ['string', 'null'] }) });
}
