// SPDX-License-Identifier: Apache-2.0
import { type Command, InvalidArgumentError, Option } from 'commander';
import { pathOf } from './client.js';
import { backendColumns, drainText } from './columns.js';
import { healthLines } from './health-flags.js';
import { integerOf, integerOption, misused, withExamples } from './help.js';
import type { Io } from './io.js';
import { listAll } from './object-commands.js';
import { openSession } from './session.js';
import { backendsOf, type ShownBackend, type ShownPool } from './shapes.js';
import { formatTable } from './table.js';
import { watchable, watchOr } from './watch.js';
import { documentsIn, outcome, putAll, send, type WriteOptions, writing } from './write.js';

/** The command `backends`. */
export function backendCommands(program: Command, io: Io): void {
  const group = program.command('backends').description('list, show, store, remove, drain and weight backends');
  withExamples(group.helpCommand(false).usage('<command>'), 'backends ls web');
  const verb = (name: string, description: string) =>
    group
      .command(name)
      .description(description)
      .argument('<pool>', 'name of the pool')
      .argument('<name>', 'name of the backend');

  const list = group.command('ls').description('list the backends of all pools, or of one');
  const show = async (target: Io, pool: string | undefined, command: Command) => {
    const session = await openSession(target, command);
    const pools =
      pool === undefined
        ? await listAll<ShownPool>(session, '/pools')
        : [(await session.call('GET', pathOf('pools', pool))).body as ShownPool];
    const items = pools.flatMap(backendsOf);
    session.table({ items }, backendColumns(items), items, 'backends');
  };
  withExamples(watchable(list.argument('[pool]', 'name of the pool')), 'backends ls web --watch').action(
    (pool: string | undefined, { watch = false }: { watch?: boolean }, command: Command) =>
      watchOr(io, watch, (target) => show(target, pool, command)),
  );

  withExamples(verb('get', 'show one backend'), 'backends get web b1 -o json').action(
    async (pool: string, name: string, _options: object, command: Command) => {
      const session = await openSession(io, command);
      const { body } = await session.call('GET', backendPath(pool, name));
      const backend = { ...(body as ShownBackend), pool };
      session.show(body, () => [
        ...formatTable(backendColumns([backend]), [backend], session.style),
        ...healthLines(backend),
      ]);
    },
  );

  const put = group
    .command('put')
    .description('create or replace a backend; fields not given get their defaults')
    .argument('<pool>', 'name of the pool')
    .argument('[name]', 'name of the backend; needed unless the file says it')
    .option('-f, --file <path>', 'YAML or JSON of one backend or several, - for standard input')
    .option('--address <ip>', 'its address')
    .addOption(
      integerOption(
        '--port <n>',
        "with forwarding nat: where it listens; the service's port when not given",
        1,
        65_535,
      ),
    )
    .addOption(weightOption())
    .addOption(new Option('--state <name>', 'whether it takes flows').choices(['active', 'drain', 'disabled']))
    .addOption(
      new Option('--server-id <config:hex>', 'a QUIC-LB server ID; once for each config').argParser(
        (text: string, before: readonly object[] | undefined) => {
          const [, config, id] = /^([0-6]):((?:[0-9a-f]{2}){1,15})$/i.exec(text) ?? [];
          if (id === undefined)
            throw new InvalidArgumentError('Wanted CONFIG:HEX, as 0:c0ffee: config 0 to 6, 1 to 15 bytes.');
          return [...(before ?? []), { config: Number(config), id: id.toLowerCase() }];
        },
      ),
    );
  withExamples(writing(put), 'backends put web b3 --address 10.0.0.3 --weight 50').action(
    async (
      pool: string,
      name: string | undefined,
      options: WriteOptions & {
        file?: string;
        address?: string;
        port?: number;
        weight?: number;
        state?: string;
        serverId?: object[];
      },
      command: Command,
    ) => {
      const { file, address, port, weight, state, serverId: serverIds } = options;
      const fields = { address, port, weight, state, serverIds };
      const isFlagged = Object.values(fields).some((field) => field !== undefined);
      if ((file !== undefined) === isFlagged)
        misused(command, 'say what to store: either --file or --address, --port, --weight, --state, --server-id');
      if (file === undefined && name === undefined) misused(command, 'missing the name of the backend');
      const session = await openSession(io, command);
      const documents =
        file === undefined ? [{ name: name ?? '', body: fields }] : await documentsIn(io, file, name, ['pool']);
      await putAll(session, documents, options, {
        path: (each) => backendPath(pool, each),
        title: (each) => titleOf(pool, each),
      });
    },
  );

  withExamples(writing(verb('rm', 'take a backend out of its pool')), 'backends rm web b3').action(
    async (pool: string, name: string, options: WriteOptions, command: Command) => {
      const session = await openSession(io, command);
      const answer = await send(session, 'DELETE', backendPath(pool, name), options);
      if (session.output === 'table') io.out(`${outcome(titleOf(pool, name), answer, options, 'removed')}\n`);
    },
  );

  const drain = verb('drain', 'give a backend no new flows, let it finish those it has').addOption(
    integerOption('--deadline <seconds>', 'cut off what is left after so long', 1, 604_800),
  );
  withExamples(writing(drain), 'backends drain web b1 --deadline 600').action(
    async (pool: string, backend: string, options: WriteOptions & { deadline?: number }, command: Command) => {
      const session = await openSession(io, command);
      const { deadline } = options;
      const answer = await send(
        session,
        'POST',
        `${backendPath(pool, backend)}/drain`,
        options,
        deadline && { deadlineSeconds: deadline },
      );
      const shown = answer.body as ShownBackend;
      const left = shown.status !== null && !options.dryRun ? `; ${drainText(shown, Date.now())}` : '';
      session.show(answer.body, () => [outcome(titleOf(pool, backend), answer, options, 'set to drain') + left]);
    },
  );
  withExamples(writing(verb('undrain', 'give a backend new flows again')), 'backends undrain web b1').action(
    async (pool: string, backend: string, options: WriteOptions, command: Command) => {
      const session = await openSession(io, command);
      const answer = await send(session, 'POST', `${backendPath(pool, backend)}/undrain`, options);
      session.show(answer.body, () => [outcome(titleOf(pool, backend), answer, options, 'set to active')]);
    },
  );

  const weigh = verb('weight', "change a backend's share of new flows").argument(
    '<weight>',
    '0 to 256; 0 takes no new flow',
    (text: string) => integerOf(text, 0, 256),
  );
  withExamples(writing(weigh), 'backends weight web b1 50').action(
    async (pool: string, name: string, weight: number, options: WriteOptions, command: Command) => {
      const session = await openSession(io, command);
      const answer = await send(session, 'PATCH', backendPath(pool, name), options, { weight });
      session.show(answer.body, () => [outcome(titleOf(pool, name), answer, options, `weighted ${weight}`)]);
    },
  );
}

function weightOption(): Option {
  return integerOption('--weight <n>', 'its share of new flows against the others, 0 to 256', 0, 256);
}

function backendPath(pool: string, name: string): string {
  return pathOf('pools', pool, 'backends', name);
}

function titleOf(pool: string, name: string): string {
  return `backend "${name}" of pool "${pool}"`;
}
