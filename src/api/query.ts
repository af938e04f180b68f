// SPDX-License-Identifier: Apache-2.0
import { isRecord, reader, type Static, type TSchema, Type } from '../model/check.js';
import { FairleadError } from '../model/errors.js';

const closed = { additionalProperties: false };

/** No parameters at all. A misspelt one, `dryrun`, must not be taken for its absence. */
export const NoQuery = Type.Object({}, closed);

/** Parameters of every write. */
export const WriteQuery = Type.Object(
  {
    dryRun: Type.Optional(Type.Boolean({ description: 'validate and answer the effect, write nothing' })),
    wait: Type.Optional(Type.Enum(['applied'], { description: 'answer once the kernel has it' })),
  },
  closed,
);
export type WriteQuery = Static<typeof WriteQuery>;

/** Parameters of a write of everything. */
export const ReplaceQuery = Type.Object(
  {
    ...WriteQuery.properties,
    keep: Type.Optional(Type.Boolean({ description: 'delete nothing: what is not in the document stays' })),
  },
  closed,
);
export type ReplaceQuery = Static<typeof ReplaceQuery>;

/** Parameters of the service map. */
export const TopologyParameters = Type.Object(
  {
    service: Type.Optional(Type.String({ description: 'only this one' })),
    prefix4: Type.Integer({ minimum: 0, maximum: 32, default: 24, description: "bits of a client's IPv4 address" }),
    prefix6: Type.Integer({ minimum: 0, maximum: 128, default: 48, description: "bits of a client's IPv6 address" }),
    clients: Type.Integer({ minimum: 0, maximum: 1000, default: 50, description: 'prefixes; the rest is "other"' }),
    services: Type.Integer({ minimum: 1, maximum: 1000, default: 200, description: 'those with the most flows' }),
  },
  closed,
);
export type TopologyParameters = Static<typeof TopologyParameters>;

/** Parameters of a list. */
export const ListQuery = Type.Object(
  {
    limit: Type.Integer({ minimum: 1, maximum: 1000, default: 100 }),
    cursor: Type.Optional(Type.String({ description: 'nextCursor of the page before' })),
  },
  closed,
);
export type ListQuery = Static<typeof ListQuery>;

/** Parameters of the flow list. */
export const FlowsQuery = Type.Object(
  {
    service: Type.Optional(Type.String()),
    backend: Type.Optional(Type.String()),
    client: Type.Optional(Type.String({ description: 'an address, without port' })),
    sort: Type.Enum(['bytes', 'packets', 'age'], { default: 'bytes' }),
    limit: Type.Integer({ minimum: 1, maximum: 1000, default: 100 }),
    cursor: Type.Optional(Type.String({ description: 'nextCursor of the page before; exact with sort=age' })),
  },
  closed,
);
export type FlowsQuery = Static<typeof FlowsQuery>;

/** A validator for a query string, in fastify's form: text becomes what the schema wants, defaults are filled in. */
export function queryValidator(schema: TSchema): (query: unknown) => { value: unknown } | { error: FairleadError } {
  const read = reader(schema);
  return (query) => {
    const { draft, fields } = read(typed(schema, query));
    if (fields.length === 0) return { value: draft };
    const text = fields.map(({ pointer, detail }) => `query parameter "${pointer.slice(1)}": ${detail}`);
    return { error: new FairleadError('invalid', text.join('; ')) };
  };
}

function typed(schema: TSchema, query: unknown): unknown {
  const properties = 'properties' in schema && isRecord(schema.properties) ? schema.properties : {};
  const entries = Object.entries(isRecord(query) ? query : {}).map(([name, text]) => {
    const rule = properties[name];
    const type = isRecord(rule) ? rule.type : undefined;
    if (type === 'integer' && /^\d{1,15}$/.test(String(text))) return [name, Number(text)];
    if (type === 'boolean' && (text === 'true' || text === 'false')) return [name, text === 'true'];
    return [name, text];
  });
  return Object.fromEntries(entries);
}
