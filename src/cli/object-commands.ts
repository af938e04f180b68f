// SPDX-License-Identifier: Apache-2.0
import { type Command, Option } from 'commander';
import { readBackendFlag } from './backend-flag.js';
import { pathOf } from './client.js';
import { backendColumns, poolColumns, serviceColumns } from './columns.js';
import { healthBody, healthOptions, poolLines } from './health-flags.js';
import { integerOption, misused, withExamples } from './help.js';
import type { Io } from './io.js';
import { serviceBody, serviceLines, serviceOptions } from './service-flags.js';
import { openSession, type Session } from './session.js';
import { backendsOf, type ShownPool, type ShownService } from './shapes.js';
import { type Column, formatTable } from './table.js';
import { watchable, watchOr } from './watch.js';
import { documentsIn, outcome, putAll, send, type WriteOptions, writing } from './write.js';

/** What the verbs need to know of a kind of object. */
interface Kind<T> {
  readonly noun: 'service' | 'pool';
  readonly columns: readonly Column<T>[];
  /** The lines of one object beside its row. */
  details(object: T, session: Session): readonly string[];
  readonly flags: readonly Option[];
  /** The fields that these options set. */
  body(options: Record<string, unknown>, io: Io): Promise<Record<string, unknown>>;
  readonly examples: { readonly put: readonly string[]; readonly name: string };
}

/** The commands `services` and `pools`. */
export function objectCommands(program: Command, io: Io): void {
  addKind(program, io, serviceKind);
  addKind(program, io, poolKind);
}

const serviceKind: Kind<ShownService> = {
  noun: 'service',
  columns: serviceColumns,
  details: serviceLines,
  flags: [
    new Option('--address <ip>', 'the address clients connect to'),
    integerOption('--port <n>', 'the port clients connect to; 0: every port without a service of its own', 0, 65_535),
    new Option('--protocol <name>', 'the protocol').choices(['tcp', 'udp']),
    new Option('--pool <name>', 'the pool that takes the flows'),
    ...serviceOptions,
  ],
  body: serviceBody,
  examples: {
    put: [
      'services put web --address 192.0.2.10 --port 80 --protocol tcp --pool web',
      'services put dns --address 192.0.2.10 --port 53 --protocol udp --pool dns --forwarding gue --rate-limit 200:400',
      'services put app --address 192.0.2.10 --port 443 --protocol tcp --pool app --forwarding nat --snat auto',
      'services put -f web.yaml',
    ],
    name: 'web',
  },
};

const poolKind: Kind<ShownPool> = {
  noun: 'pool',
  columns: poolColumns,
  details: (pool, { style }) => {
    const backends = backendsOf(pool);
    const table = backends.length === 0 ? [] : ['', ...formatTable(backendColumns(backends), backends, style)];
    return [...poolLines(pool), ...table];
  },
  flags: [
    new Option('--backend <name=ip[:port][@weight]>', 'a backend of the pool; once for each').argParser(
      (text: string, before: readonly object[] | undefined) => [...(before ?? []), readBackendFlag(text)],
    ),
    ...healthOptions,
  ],
  body: async ({ backend, ...options }) => ({ backends: backend, ...healthBody(options) }),
  examples: {
    put: [
      'pools put web --backend b1=10.0.0.1 --backend b2=10.0.0.2@50',
      'pools put app --backend b1=10.0.0.1:8080 --backend b2=[fd00::2]:8080@50',
      'pools put api --backend b1=10.0.0.1 --backend b2=10.0.0.2 --health-check http:8080/healthz --health-interval 1',
      'pools put -f web.yaml',
    ],
    name: 'web',
  },
};

function addKind<T>(program: Command, io: Io, kind: Kind<T>): void {
  const { noun, columns, flags, examples } = kind;
  const plural = `${noun}s`;
  const group = program.command(plural).description(`list, show, store and remove ${plural}`);
  withExamples(group.helpCommand(false).usage('<command>'), `${plural} ls`);

  withExamples(watchable(group.command('ls').description(`list the ${plural}`)), `${plural} ls`).action(
    ({ watch = false }: { watch?: boolean }, command: Command) =>
      watchOr(io, watch, async (target) => {
        const session = await openSession(target, command);
        const items = await listAll<T>(session, `/${plural}`);
        session.table({ items }, columns, items, plural);
      }),
  );

  withExamples(
    group.command('get').description(`show one ${noun}`).argument('<name>', `name of the ${noun}`),
    `${plural} get ${examples.name} -o yaml`,
  ).action(async (name: string, _options: object, command: Command) => {
    const session = await openSession(io, command);
    const { body } = await session.call('GET', pathOf(plural, name));
    const object = body as T;
    session.show(object, () => [...formatTable(columns, [object], session.style), ...kind.details(object, session)]);
  });

  const put = group
    .command('put')
    .description(`create or replace a ${noun}; fields not given get their defaults`)
    .argument('[name]', `name of the ${noun}; needed unless the file says it`)
    .option('-f, --file <path>', `YAML or JSON of one ${noun} or several, - for standard input`);
  for (const flag of flags) put.addOption(flag);
  withExamples(writing(put), ...examples.put).action(
    async (name: string | undefined, options: WriteOptions & { file?: string }, command: Command) => {
      const names = flags.map((flag) => flag.long ?? '');
      const isFlagged = flags.some((flag) => command.getOptionValueSource(flag.attributeName()) === 'cli');
      if ((options.file !== undefined) === isFlagged) {
        misused(command, `say what to store: either --file or ${names.join(', ')}`);
      }
      if (options.file === undefined && name === undefined) misused(command, `missing the name of the ${noun}`);
      const session = await openSession(io, command);
      const documents =
        options.file === undefined
          ? [{ name: name ?? '', body: await kind.body({ ...options }, io) }]
          : await documentsIn(io, options.file, name);
      await putAll(session, documents, options, {
        path: (each) => pathOf(plural, each),
        title: (each) => `${noun} "${each}"`,
      });
    },
  );

  const rm = group.command('rm').description(`remove a ${noun}`).argument('<name>', `name of the ${noun}`);
  withExamples(writing(rm), `${plural} rm ${examples.name}`).action(
    async (name: string, options: WriteOptions, command: Command) => {
      const session = await openSession(io, command);
      const answer = await send(session, 'DELETE', pathOf(plural, name), options);
      if (session.output === 'table') io.out(`${outcome(`${noun} "${name}"`, answer, options, 'removed')}\n`);
    },
  );
}

/** Every item of a list, however many pages it has. */
export async function listAll<T>({ call }: Session, path: string): Promise<readonly T[]> {
  const items: T[] = [];
  let cursor: string | null | undefined;
  do {
    const { body } = await call('GET', path, { query: { limit: '1000', cursor: cursor ?? undefined } });
    const page = body as { readonly items: readonly T[]; readonly nextCursor: string | null };
    items.push(...page.items);
    cursor = page.nextCursor;
  } while (cursor !== null);
  return items;
}
