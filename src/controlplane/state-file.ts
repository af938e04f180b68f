// SPDX-License-Identifier: Apache-2.0
import { isRecord, type Reading, reader, Type } from '../model/check.js';
import { FairleadError, type FieldError, messageOf } from '../model/errors.js';
import { parseJson } from '../model/json-locate.js';
import type { Pool, PoolHealth, RingLog, Service, Snapshot, Stored, StoredPool } from '../model/objects.js';
import { readPool, readService } from '../model/schema.js';
import { type Problems, poolProblems, serviceProblems } from '../model/validate.js';
import { readHealth } from './health-file.js';
import { logProblems } from './ring-log.js';
import { readLog } from './ring-log-file.js';
import { slices } from './slices.js';

const revision = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER });

// Each object is its document with its revision beside the fields: what the API shows, without status.
const StateBody = Type.Object(
  {
    format: Type.Literal(1),
    revision,
    hashKey: Type.String({ pattern: '^[0-9a-f]{32}$', description: '32 hex digits' }),
    services: Type.Array(Type.Object({ revision })),
    pools: Type.Array(
      Type.Object({ revision, ringLog: Type.Optional(Type.Unknown()), health: Type.Optional(Type.Unknown()) }),
    ),
  },
  { additionalProperties: false },
);

interface State {
  readonly revision: number;
  readonly hashKey: string;
  readonly services: readonly { readonly revision: number }[];
  readonly pools: readonly { readonly revision: number; readonly ringLog?: unknown; readonly health?: unknown }[];
}

const readState = reader<State>(StateBody);

type Item = Stored<object> & Pick<StoredPool, 'log' | 'health'>;

const documentOf = ({ value, revision: own, log, health }: Item): object => ({
  ...value,
  revision: own,
  ...(health && { health }),
  ...(log && { ringLog: log }),
});

/** The text of a state file, format 1: the whole snapshot, for people to read too. */
export function formatState({ revision, hashKey, services, pools }: Snapshot): string {
  const list = (objects: ReadonlyMap<string, Item>) =>
    [...objects].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, item]) => documentOf(item));
  const state = { format: 1, revision, hashKey, services: list(services), pools: list(pools) };
  return `${JSON.stringify(state, null, 2)}\n`;
}

/** The same for a large one, letting the event loop turn: an object a line. */
export async function formatStateSlowly({ revision, hashKey, services, pools }: Snapshot): Promise<string> {
  const pause = slices();
  const pieces = [`{"format":1,"revision":${revision},"hashKey":"${hashKey}"`];
  const add = async (name: string, objects: ReadonlyMap<string, Item>) => {
    pieces.push(`,\n"${name}":[`);
    let between = '\n';
    for (const item of objects.values()) {
      pieces.push(between, JSON.stringify(documentOf(item)));
      between = ',\n';
      await pause();
    }
    pieces.push(']');
  };
  await add('services', services);
  await add('pools', pools);
  return `${pieces.join('')}}\n`;
}

/** What `readState` looks at: the objects in it are read one by one, with the event loop turning between them. */
function outlineOf(value: unknown): unknown {
  if (!isRecord(value)) return value;
  const bare = (item: unknown): unknown => (isRecord(item) && 'revision' in item ? { revision: item.revision } : item);
  const list = (items: unknown): unknown => (Array.isArray(items) ? items.map(bare) : items);
  return { ...value, services: list(value.services), pools: list(value.pools) };
}

/** The snapshot in the text of a state file. Rejects with 'damaged' that names `path`, line, column and field of the first problem. */
export async function parseState(text: string, path: string): Promise<Snapshot> {
  let json: ReturnType<typeof parseJson>;
  try {
    json = parseJson(text);
  } catch (error) {
    throw new FairleadError('damaged', `read "${path}": ${messageOf(error)}; the file is left as it is`);
  }
  const refuse = (fields: readonly FieldError[]): void => {
    const [first] = fields;
    if (first === undefined) return;
    const { line, column } = json.at(first.pointer);
    const where = `line ${line} column ${column}: ${first.pointer || 'the document'}`;
    throw new FairleadError('damaged', `read "${path}": ${where}: ${first.detail}; the file is left as it is`, fields);
  };

  const pause = slices();
  await pause();
  refuse(readState(outlineOf(json.value)).fields);
  const state = json.value as State;
  const { pools, services } = state;
  const bare: Snapshot = { revision: state.revision, hashKey: state.hashKey, services: new Map(), pools: new Map() };
  const documents = pools.map(({ ringLog: _log, health: _health, ...document }) => document);
  const read = await readAll<Pool>(bare, documents, '/pools', readPool, poolProblems, refuse);
  const withPools = { ...bare, pools: await withLogs(read, pools, refuse) };
  return {
    ...withPools,
    services: await readAll<Service>(withPools, services, '/services', readService, serviceProblems, refuse),
  };
}

const NOTHING: Reading<PoolHealth> = { draft: {}, fields: [] };

/** `items` are the documents of `pools`, in the same order. */
async function withLogs(
  pools: ReadonlyMap<string, Stored<Pool>>,
  items: State['pools'],
  refuse: (fields: readonly FieldError[]) => void,
): Promise<ReadonlyMap<string, StoredPool>> {
  const pause = slices();
  const found = new Map<string, StoredPool>();
  for (const [i, [name, stored]] of [...pools].entries()) {
    const { ringLog, health: seen } = items[i] ?? {};
    const below = (field: string, problems: readonly FieldError[]) =>
      refuse(problems.map(({ pointer, detail }) => ({ pointer: `/pools/${i}/${field}${pointer}`, detail })));
    const { draft: health, fields: unread } = seen === undefined ? NOTHING : readHealth(seen, stored.value);
    below('health', unread);
    const known = { ...stored, ...(seen !== undefined && { health: health as PoolHealth }) };
    if (ringLog === undefined) found.set(name, known);
    else {
      const { draft, fields } = readLog(ringLog);
      below('ringLog', fields.length > 0 ? fields : logProblems(draft as RingLog, stored.value, known.health));
      found.set(name, { ...known, log: draft as RingLog });
    }
    await pause();
  }
  return found;
}

async function readAll<T extends { readonly name: string }>(
  snapshot: Snapshot,
  items: readonly { readonly revision: number }[],
  pointer: string,
  read: (input: unknown) => Reading<T>,
  check: (snapshot: Snapshot, draft: Reading<T>['draft']) => Problems,
  refuse: (fields: readonly FieldError[]) => void,
): Promise<ReadonlyMap<string, Stored<T>>> {
  const pause = slices();
  const objects = new Map<string, Stored<T>>();
  for (const [i, { revision: own, ...document }] of items.entries()) {
    const { draft, fields } = read(document);
    const { invalid, conflict } = check(snapshot, draft);
    const value = draft as T;
    const twice = objects.has(value.name) ? [{ pointer: '/name', detail: `"${value.name}" is here twice` }] : [];
    const late =
      own > snapshot.revision
        ? [{ pointer: '/revision', detail: `${own} is later than the file's ${snapshot.revision}` }]
        : [];
    const all = [...fields, ...invalid, ...conflict, ...twice, ...late];
    refuse(all.map((field) => ({ pointer: `${pointer}/${i}${field.pointer}`, detail: field.detail })));
    objects.set(value.name, { value, revision: own });
    await pause();
  }
  return objects;
}
