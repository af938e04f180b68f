// SPDX-License-Identifier: Apache-2.0
import { type Command, Option } from 'commander';
import { dropColumns, flowColumns, nodeColumns } from './columns.js';
import { integerOption, withExamples } from './help.js';
import type { Io } from './io.js';
import { openSession, type Session } from './session.js';
import type { ShownDrop, ShownFlow, ShownNode, ShownStatus } from './shapes.js';
import { nodeLines, statusLines } from './status-view.js';
import { watchable, watchOr } from './watch.js';

/** The commands that look at the running node: `status`, `nodes`, `flows`, `drops`. */
export function lookCommands(program: Command, io: Io): void {
  const status = program.command('status').description('show how the node is doing: store, interfaces, flow table');
  look(io, status, ['status --watch'], async (session) => {
    const body = (await session.call('GET', '/status')).body as ShownStatus;
    session.show(body, () => statusLines(body, session.style, Date.now()));
  });

  const nodes = program.command('nodes').alias('node').description('the nodes of the cluster, as this one sees them');
  withExamples(nodes.helpCommand(false).usage('<command>'), 'nodes ls', 'nodes get edge-1');
  look(
    io,
    nodes.command('ls').description('list them; * is the one that answers'),
    ['nodes ls --watch'],
    async (session) => {
      const { body } = await session.call('GET', '/nodes', { query: { limit: '1000' } });
      session.table(body, nodeColumns, (body as { items: readonly ShownNode[] }).items, 'nodes');
    },
  );
  const get = nodes.command('get').description('show one, with the digests of its rings').argument('<name>');
  withExamples(get, 'nodes get edge-1').action(async (name: string, _options: object, command: Command) => {
    const session = await openSession(io, command);
    const node = (await session.call('GET', `/nodes/${encodeURIComponent(name)}`)).body as ShownNode;
    session.show(node, () => nodeLines(node, session.style));
  });

  const flows = program
    .command('flows')
    .description('list the flows the node knows')
    .option('--service <name>', 'only of this service')
    .option('--backend <name>', 'only of this backend')
    .option('--client <ip>', 'only of this client')
    .addOption(new Option('--sort <by>', 'what comes first').choices(['bytes', 'packets', 'age']).default('bytes'))
    .addOption(integerOption('--limit <n>', 'how many, 1 to 1000', 1, 1000).default(50));
  look(io, flows, ['flows --service web --sort packets --limit 10'], async (session, command) => {
    const { service, backend, client, sort, limit } = command.opts<Record<string, string | number>>();
    const query = { service, backend, client, sort, limit };
    const texts = Object.entries(query).map(([name, value]) => [name, value === undefined ? undefined : `${value}`]);
    const { body } = await session.call('GET', '/flows', { query: Object.fromEntries(texts) });
    const { items } = body as { items: readonly ShownFlow[] };
    session.table(body, flowColumns(Date.now(), items), items, 'flows');
  });

  const drops = program.command('drops').description('count the dropped packets by service and reason');
  look(io, drops, ['drops --watch'], async (session) => {
    const { body } = await session.call('GET', '/drops');
    session.table(body, dropColumns, (body as { items: readonly ShownDrop[] }).items, 'drops');
  });
}

function look(
  io: Io,
  command: Command,
  examples: readonly string[],
  show: (session: Session, command: Command) => Promise<void>,
): void {
  withExamples(watchable(command), ...examples).action(({ watch = false }: { watch?: boolean }, self: Command) =>
    watchOr(io, watch, async (target) => show(await openSession(target, self), self)),
  );
}
