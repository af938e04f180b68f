// SPDX-License-Identifier: Apache-2.0
import { type Command, InvalidArgumentError, Option } from 'commander';
import { type Scope, scopes } from '../model/scope.js';
import { withExamples } from './help.js';
import type { Io } from './io.js';
import { openSession } from './session.js';
import type { Column } from './table.js';

/** A token without what makes it one. */
export interface ShownToken {
  readonly name: string;
  readonly scope: Scope;
  readonly created: string;
  readonly expires: string | null;
}

/** Where the tokens are: a file, or what `api.tokens` of a configuration names (both null: of the default one). */
export interface TokenPlace {
  readonly file: string | null;
  readonly config: string | null;
}

/** The part that has the file of tokens; see src/api/access/token-file.ts. */
export interface TokenPart {
  list(place: TokenPlace): Promise<readonly ShownToken[]>;
  create(place: TokenPlace, token: { name: string; scope: Scope; expires: Date | null }): Promise<string>;
  remove(place: TokenPlace, name: string): Promise<void>;
}

type Options = { readonly file?: string; readonly config?: string };

const columns: readonly Column<ShownToken>[] = [
  { title: 'NAME', text: ({ name }) => name },
  { title: 'SCOPE', text: ({ scope }) => scope },
  { title: 'CREATED', text: ({ created }) => created },
  { title: 'EXPIRES', text: ({ expires }) => expires ?? 'never' },
];

/** `fairlead token`: for root on the node, without the daemon, which takes the change by itself. */
export function tokenCommands(program: Command, io: Io, tokens: TokenPart): void {
  const group = withExamples(
    program
      .command('token')
      .description('make and take away tokens for the API over TCP, in the file that api.tokens names'),
    'token ls',
  );
  const below = (name: string, description: string): Command =>
    group
      .command(name)
      .description(description)
      .option('--config <file>', 'the configuration (default: /etc/fairlead/fairlead.yaml)')
      .option('--file <file>', 'the file of tokens itself');
  const place = ({ file, config }: Options): TokenPlace => ({ file: file ?? null, config: config ?? null });

  withExamples(
    below('create', 'make a token and print it; it cannot be shown again')
      .requiredOption('--name <name>', 'what it is called in the audit log: a-z, 0-9 and . _ -')
      .addOption(
        new Option('--scope <scope>', 'what it may: look; drain and weigh backends; everything')
          .choices([...scopes])
          .makeOptionMandatory(),
      )
      .option('--expires <time>', 'when it ends, as 90d, 12h or 2027-01-31T00:00:00Z (default: never)', readExpires),
    'token create --name ci --scope operate --expires 90d > ci.token',
  ).action(async (options: Options & { name: string; scope: Scope; expires?: Date }, command: Command) => {
    const { name, scope, expires = null } = options;
    const token = await tokens.create(place(options), { name, scope, expires });
    const session = await openSession(io, command);
    session.show({ name, scope, expires: expires?.toISOString() ?? null, token }, () => [token]);
  });

  withExamples(below('ls', 'list the tokens by name'), 'token ls').action(
    async (options: Options, command: Command) => {
      const found = (await tokens.list(place(options))).map(({ name, scope, created, expires }) => {
        return { name, scope, created, expires }; // nothing that a token is known by
      });
      (await openSession(io, command)).table(found, columns, found, 'tokens');
    },
  );

  withExamples(
    below('rm', 'take a token away; within seconds it opens nothing any more').argument('<name>', 'its name'),
    'token rm ci',
  ).action((name: string, options: Options) => tokens.remove(place(options), name));
}

const hours: Readonly<Record<string, number>> = { h: 1, d: 24 };

function readExpires(text: string): Date {
  const [, count, unit = ''] = /^(\d{1,5})([hd])$/.exec(text) ?? [];
  const isTime = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}/.test(text);
  const date = new Date(
    count === undefined ? (isTime ? text : Number.NaN) : Date.now() + Number(count) * (hours[unit] ?? 0) * 3_600_000,
  );
  if (!(date.getTime() > Date.now()))
    throw new InvalidArgumentError('Wanted a time to come, as 90d, 12h or 2027-01-31T00:00:00Z.');
  return date;
}
