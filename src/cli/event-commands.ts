// SPDX-License-Identifier: Apache-2.0
import { setTimeout as pause } from 'node:timers/promises';
import { type Command, InvalidArgumentError, Option } from 'commander';
import type { FairleadEvent } from '../model/events.js';
import { integerOption, withExamples } from './help.js';
import type { Io } from './io.js';
import { openSession, type Session } from './session.js';
import { type Column, formatTable } from './table.js';

const POLL_MS = 1000;

interface EventPage {
  readonly items: readonly FairleadEvent[]; // newest first
  readonly lost: number | null;
}

interface EventOptions {
  readonly watch?: true;
  readonly since?: string;
  readonly type?: string;
  readonly object?: string;
  readonly severity?: string;
  readonly limit: number;
}

const columns: readonly Column<FairleadEvent>[] = [
  { title: 'TIME', text: ({ at }) => at.replace(/\.\d+Z$/, 'Z') },
  {
    title: 'SEVERITY',
    text: ({ severity }) => severity,
    colour: ({ severity }) => (severity === 'error' ? 'red' : severity === 'warning' ? 'yellow' : null),
  },
  { title: 'TYPE', text: ({ type }) => type },
  { title: 'MESSAGE', text: ({ message }) => message },
];

/** The command `events`. */
export function eventCommands(program: Command, io: Io): void {
  const command = program
    .command('events')
    .description('what happened to the node and what it serves, oldest first')
    .option('-w, --watch', 'go on with new ones until Ctrl-C')
    .option('--since <when>', 'not before: a span back, as 10m or 2h30m, or a time, as 2026-11-29T08:00:00Z', timeOf)
    .option('--type <name>', 'only of this type, or of all types of a noun: backend.drained, backend')
    .option('--object <path>', 'only of this object and what is in it, as /pools/web')
    .addOption(new Option('--severity <least>', 'this one and worse').choices(['info', 'warning', 'error']))
    .addOption(integerOption('--limit <n>', 'how many, the newest: 1 to 1000', 1, 1000).default(100));
  withExamples(command, 'events --since 1h --severity warning', 'events --watch').action(
    async (options: EventOptions, self: Command) => {
      const session = await openSession(io, self);
      const page = await ask(session, options, undefined);
      if (!options.watch) {
        const items = [...page.items].reverse();
        session.table({ items }, columns, items, 'events');
        return;
      }
      await follow(io, session, options, page);
    },
  );
}

async function ask(session: Session, options: EventOptions, after: number | undefined): Promise<EventPage> {
  const { since, type, object, severity, limit } = options;
  const query = {
    since,
    type,
    object,
    severity,
    limit: `${after === undefined ? limit : 1000}`,
    after: after?.toString(),
  };
  return (await session.call('GET', '/events', { query })).body as EventPage;
}

async function follow(io: Io, session: Session, options: EventOptions, first: EventPage): Promise<void> {
  const signal = io.stopSignal();
  let last = first.items[0]?.id;
  let page = first;
  for (;;) {
    const items = [...page.items].reverse();
    last = items.at(-1)?.id ?? last;
    if (page.lost !== 0) io.err(`${page.lost ?? 'an unknown number of'} events are lost\n`);
    show(io, session, items);
    await pause(POLL_MS, undefined, { signal }).catch(() => {}); // the signal ends the loop
    if (signal.aborted) return;
    page = await ask(session, options, last ?? 0);
  }
}

/** One event a line, as data too: the whole is never there. */
function show(io: Io, session: Session, items: readonly FairleadEvent[]): void {
  if (session.output === 'json') for (const event of items) io.out(`${JSON.stringify(event)}\n`);
  else if (session.output !== 'table') for (const event of items) session.show([event], () => []);
  else if (items.length > 0)
    io.out(
      formatTable(columns, items, { ...session.style, headers: false })
        .map((line) => `${line}\n`)
        .join(''),
    );
}

/** RFC 3339 of a time, or of a span before now. */
function timeOf(text: string): string {
  const [, days, hours, minutes, seconds] =
    /^(?:(\d{1,5})d)?(?:(\d{1,6})h)?(?:(\d{1,8})m)?(?:(\d{1,9})s)?$/.exec(text) ?? [];
  const parts = [days, hours, minutes, seconds];
  if (text !== '' && parts.some((part) => part !== undefined)) {
    const [d, h, m, s] = parts.map((part) => Number(part ?? 0)) as [number, number, number, number];
    return new Date(Date.now() - (((d * 24 + h) * 60 + m) * 60 + s) * 1000).toISOString();
  }
  const time = /^\d{4}-\d\d-\d\d/.test(text) ? Date.parse(text) : Number.NaN;
  if (Number.isNaN(time))
    throw new InvalidArgumentError('Wanted a span such as 10m, or a time such as 2026-11-29T08:00:00Z.');
  return new Date(time).toISOString();
}
