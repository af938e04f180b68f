// SPDX-License-Identifier: Apache-2.0
// The log of a pool's members in a document: read and checked.
import { type Reading, reader, Type } from '../model/check.js';
import type { FieldError } from '../model/errors.js';
import type { RingLog } from '../model/objects.js';
import { Name } from '../model/schema.js';

const closed = { additionalProperties: false };
const Time = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER, description: 'a time, Unix ms' });
const Members = Type.Array(
  Type.Object(
    {
      name: Name,
      weight: Type.Integer({ minimum: 0, maximum: 256 }),
      state: Type.Enum(['live', 'drain', 'down']),
      part: Type.Optional(Type.Number({ minimum: 0, maximum: 1 })),
    },
    closed,
  ),
);

const readOne = reader<Omit<RingLog, 'before'> & { before?: unknown }>(
  Type.Object(
    {
      generation: Type.Integer({ minimum: 1, maximum: 0xffff_ffff }),
      size: Type.Integer({ minimum: 1, maximum: 131071 }),
      at: Time,
      members: Members,
      changes: Type.Array(Type.Object({ at: Time, set: Members, removed: Type.Array(Name) }, closed)),
      before: Type.Optional(Type.Unknown()),
    },
    closed,
  ),
);

/** Reads a log and those before it. That it fits its pool: logProblems. */
export function readLog(input: unknown): Reading<RingLog> {
  const { draft, fields } = readOne(input);
  const { before, ...log } = draft;
  if (before === undefined) return { draft: log, fields };
  const older = readLog(before);
  const inside = older.fields.map(({ pointer, detail }): FieldError => ({ pointer: `/before${pointer}`, detail }));
  return { draft: { ...log, before: older.draft }, fields: [...fields, ...inside] };
}
