// SPDX-License-Identifier: Apache-2.0
// What is known of a pool's backends, in a document: read and checked.
import { createHash } from 'node:crypto';
import { type Reading, reader, Type } from '../model/check.js';
import type { FieldError } from '../model/errors.js';
import { type Pool, type PoolHealth, SLOW_STEPS } from '../model/objects.js';
import { Name } from '../model/schema.js';

const closed = { additionalProperties: false };
const whole = (minimum: number, maximum: number) => Type.Integer({ minimum, maximum });

/** As a document of etcd has it: `revision` is that of the pool, and counts while `digest` is the pool's. */
export interface WrittenHealth extends PoolHealth {
  readonly revision?: number;
  readonly digest?: string;
}

const readOne = reader<WrittenHealth>(
  Type.Object(
    {
      failOpen: Type.Boolean(),
      down: Type.Array(Type.Object({ name: Name, since: whole(0, Number.MAX_SAFE_INTEGER) }, closed)),
      slow: Type.Array(Type.Object({ name: Name, step: whole(1, SLOW_STEPS - 1) }, closed)),
      revision: Type.Optional(whole(1, Number.MAX_SAFE_INTEGER)),
      digest: Type.Optional(Type.String()),
    },
    closed,
  ),
);

/** Reads a pool's health; pointers are into it. */
export function readHealth(input: unknown, pool: Pool): Reading<WrittenHealth> {
  const { draft, fields } = readOne(input);
  const names = new Set(pool.backends.map(({ name }) => name));
  const strange = (['down', 'slow'] as const).flatMap((field) =>
    (draft[field] ?? []).flatMap((each, at): FieldError[] =>
      each?.name === undefined || names.has(each.name)
        ? []
        : [{ pointer: `/${field}/${at}/name`, detail: `the pool has no backend "${each.name}"` }],
    ),
  );
  return { draft, fields: [...fields, ...strange] };
}

/** Tells a pool that someone has edited from the one whose health was written. */
export const digestOf = (pool: Pool): string =>
  createHash('sha256').update(JSON.stringify(pool)).digest('base64url').slice(0, 22);
