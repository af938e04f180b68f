// SPDX-License-Identifier: Apache-2.0
import type { Command } from 'commander';
import type { Effect, ObjectChange } from '../model/effect.js';
import { FairleadError } from '../model/errors.js';
import { withExamples } from './help.js';
import type { Io } from './io.js';
import { readManifest, titleOf } from './manifest.js';
import { openSession, type Session } from './session.js';
import { paint } from './table.js';
import { formatShare } from './units.js';
import { send, type WriteOptions, writing } from './write.js';

interface Changed {
  readonly revision: number;
  readonly changes: readonly ObjectChange[];
  readonly effect?: Effect;
}

interface FileOptions {
  readonly file: readonly string[];
  readonly keep?: true;
}

/** The commands `apply` and `diff`. `exit` is told the code of a `diff` that was asked for one. */
export function declarativeCommands(program: Command, io: Io, exit: (code: number) => void): void {
  const files = (name: string, description: string) =>
    program
      .command(name)
      .description(description)
      .requiredOption(
        '-f, --file <path>',
        'YAML or JSON of services and pools, - for standard input; repeatable',
        (text: string, before: readonly string[] | undefined) => [...(before ?? []), text],
      )
      .option('--keep', 'delete nothing: what the files do not name stays');

  const apply = files('apply', 'make the store equal the files, in one write: all of it or nothing');
  withExamples(writing(apply), 'apply -f fairlead.yaml --dry-run', 'apply -f fairlead.yaml --wait').action(
    async (options: FileOptions & WriteOptions, command: Command) => {
      const session = await openSession(io, command);
      const changed = await put(io, session, options);
      session.show(changed, () => applyLines(session, changed, options));
    },
  );

  const diff = files('diff', 'show what apply would change, and the share of flows that would move').option(
    '--exit-code',
    'exit with 1 when there is a difference',
  );
  withExamples(diff, 'diff -f fairlead.yaml').action(
    async (options: FileOptions & { exitCode?: true }, command: Command) => {
      const session = await openSession(io, command);
      const changed = await put(io, session, { ...options, dryRun: true });
      session.show(changed, () => diffLines(session, changed));
      if (options.exitCode && changed.changes.length > 0) exit(1);
    },
  );
}

async function put(io: Io, session: Session, { file, keep, ...options }: FileOptions & WriteOptions): Promise<Changed> {
  const manifest = await readManifest(io, file);
  const { services, pools } = manifest;
  try {
    return (await send(session, 'PUT', '/configuration', options, { services, pools }, { keep: keep && 'true' }))
      .body as Changed;
  } catch (error) {
    if (!(error instanceof FairleadError) || error.fields.length === 0) throw error;
    const fields = error.fields.map(manifest.locate);
    throw new FairleadError(error.code, `${file.map(titleOf).join(', ')}: nothing was changed`, fields, {
      cause: error,
    });
  }
}

const signs = { create: '+', change: '~', delete: '-' } as const;
const colours = { create: 'green', change: 'yellow', delete: 'red' } as const;

function changeLines({ style }: Session, changes: readonly ObjectChange[]): string[] {
  return changes.map(({ kind, name, action }) => {
    const line = `${signs[action]} ${kind} ${name}`;
    return style.colours ? paint(line, colours[action]) : line;
  });
}

function applyLines(session: Session, changed: Changed, { dryRun, wait }: WriteOptions): readonly string[] {
  if (dryRun) return diffLines(session, changed);
  const { changes, revision } = changed;
  if (changes.length === 0) return [`nothing to change: the store is at revision ${revision}`];
  const count = changes.length === 1 ? '1 object' : `${changes.length} objects`;
  return [...changeLines(session, changes), `${count} changed at revision ${revision}${wait ? ', in the kernel' : ''}`];
}

/** The changes, then how many rows and live flows would move: in all, and by pool where any would. */
export function diffLines(session: Session, { changes, effect }: Changed): readonly string[] {
  if (changes.length === 0) return ['no difference'];
  const share = (moved: number, total: number): string => (total === 0 ? '' : ` (${formatShare(moved / total)})`);
  const moves = ({ rows, flows }: Pick<Effect, 'rows' | 'flows'>): string =>
    [
      `${rows.moved} of ${rows.total} rows${share(rows.moved, rows.total)}`,
      `${flows.moved} of ${flows.live} live flows${share(flows.moved, flows.live)}`,
      ...(flows.onMovedRows > 0 ? [`about ${flows.onMovedRows} more would stay while their records are kept`] : []),
    ].join(', ');
  const pools = (effect?.pools ?? []).filter(({ rows, flows }) => rows.moved > 0 || flows.moved > 0);
  return [
    ...changeLines(session, changes),
    ...(effect === undefined ? [] : ['', `would move  ${moves(effect)}`]),
    ...pools.map((pool) => `  pool ${pool.name}: ${moves(pool)}`),
  ];
}
