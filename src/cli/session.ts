// SPDX-License-Identifier: Apache-2.0
import type { Command } from 'commander';
import { writeYaml } from '../model/yaml.js';
import { accessOf, type Place } from './access.js';
import { type Call, clientAt } from './client.js';
import type { Io } from './io.js';
import { type Column, formatTable, type TableStyle } from './table.js';

/** The options every command has. */
export interface Globals extends Place {
  readonly output: 'table' | 'wide' | 'name' | 'json' | 'yaml';
  readonly headers: boolean;
}

/** One run of a command: the daemon it talks to and how it shows what it has got. */
export interface Session {
  readonly io: Io;
  readonly output: Exclude<Globals['output'], 'wide'>; // a wide table is one of any width
  readonly call: Call;
  readonly style: TableStyle;
  /** Prints the data as JSON or YAML, its names, or these lines for people. */
  show(data: unknown, lines: () => readonly string[]): void;
  /** Prints the data as JSON or YAML, its names, or a table of it; an empty table is a remark on stderr. */
  table<T>(data: unknown, columns: readonly Column<T>[], rows: readonly T[], what: string): void;
}

/** The session that the options of this command and the environment ask for. Reads their files; throws 'invalid' when it cannot. */
export async function openSession(io: Io, command: Command): Promise<Session> {
  const { output: asked, headers, ...globals } = command.optsWithGlobals<Globals>();
  const { endpoint, token } = await accessOf(io, globals);
  const output = asked === 'wide' ? 'table' : asked;
  const show: Session['show'] = (data, lines) => {
    if (output === 'name') for (const name of namesIn(data)) io.out(`${name}\n`);
    else if (output === 'json') io.out(`${JSON.stringify(data, null, 2)}\n`);
    else if (output === 'yaml') io.out(writeYaml(data));
    else
      io.out(
        lines()
          .map((line) => `${line}\n`)
          .join(''),
      );
  };
  const style = { ...styleOf(io, headers), ...(asked === 'wide' && { width: null }) };
  return {
    io,
    output,
    call: clientAt(endpoint, token),
    style,
    show,
    table(data, columns, rows, what) {
      if (output === 'table' && rows.length === 0) io.err(`no ${what}\n`);
      else show(data, () => formatTable(columns, rows, style));
    },
  };
}

/** The names of what is shown, a backend's with its pool where that is known; none of what has no name. */
function namesIn(data: unknown): string[] {
  const { items = [data] }: { items?: unknown } = Object(data);
  return (Array.isArray(items) ? items : []).flatMap((item: unknown) => {
    const { name, pool, address }: { name?: unknown; pool?: unknown; address?: unknown } = Object(item);
    if (typeof name !== 'string') return [];
    const isBackend = typeof pool === 'string' && address !== undefined && !('protocol' in Object(item));
    return [isBackend ? `${pool}/${name}` : name];
  });
}

/** How tables look on this terminal. NO_COLOR: https://no-color.org */
export function styleOf(io: Io, headers: boolean): TableStyle {
  const screen = io.screen();
  const colours = screen !== null && (io.env.NO_COLOR ?? '') === '' && io.env.TERM !== 'dumb';
  return { width: screen?.columns ?? null, headers, colours };
}
