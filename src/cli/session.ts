// SPDX-License-Identifier: Apache-2.0
import type { Command } from 'commander';
import { FairleadError } from '../model/errors.js';
import { writeYaml } from '../model/yaml.js';
import { type Call, clientAt, type Endpoint } from './client.js';
import type { Io } from './io.js';
import { type Column, formatTable, type TableStyle } from './table.js';

/** The options every command has. */
export interface Globals {
  readonly output: 'table' | 'json' | 'yaml';
  readonly socket?: string;
  readonly url?: URL;
  readonly tokenFile?: string;
  readonly ca?: string;
  readonly cert?: string;
  readonly key?: string;
  readonly headers: boolean;
}

export const defaultSocket = '/run/fairlead/api.sock';

/** One run of a command: the daemon it talks to and how it shows what it has got. */
export interface Session {
  readonly io: Io;
  readonly output: Globals['output'];
  readonly call: Call;
  readonly style: TableStyle;
  /** Prints the data as JSON or YAML, or these lines for people. */
  show(data: unknown, lines: () => readonly string[]): void;
  /** Prints the data as JSON or YAML, or a table of it; an empty table is a remark on stderr. */
  table<T>(data: unknown, columns: readonly Column<T>[], rows: readonly T[], what: string): void;
}

/** The session that the options of this command and the environment ask for. Reads their files; throws 'invalid' when it cannot. */
export async function openSession(io: Io, command: Command): Promise<Session> {
  const { output, headers, ...globals } = command.optsWithGlobals<Globals>();
  const { endpoint, token } = await access(io, globals);
  const show: Session['show'] = (data, lines) => {
    if (output === 'json') io.out(`${JSON.stringify(data, null, 2)}\n`);
    else if (output === 'yaml') io.out(writeYaml(data));
    else
      io.out(
        lines()
          .map((line) => `${line}\n`)
          .join(''),
      );
  };
  const style = styleOf(io, headers);
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

/** An HTTP or HTTPS URL; null for any other text. */
export function urlOf(text: string): URL | null {
  const url = URL.canParse(text) ? new URL(text) : null;
  return url !== null && ['http:', 'https:'].includes(url.protocol) ? url : null;
}

type Place = Pick<Globals, 'socket' | 'url' | 'tokenFile' | 'ca' | 'cert' | 'key'>;

// An empty variable is none.
async function access(io: Io, given: Place): Promise<{ endpoint: Endpoint; token: string | null }> {
  const fallback = given.socket === undefined ? io.env.FAIRLEAD_URL || undefined : undefined;
  const url = given.url ?? (fallback === undefined ? undefined : urlOf(fallback));
  if (url === null)
    throw new FairleadError(
      'invalid',
      `FAIRLEAD_URL: got "${fallback}", wanted a URL such as https://lb1.example:7443`,
    );
  if (url === undefined)
    return {
      endpoint: { socket: given.socket ?? (io.env.FAIRLEAD_SOCKET || defaultSocket) },
      token: await tokenIn(io, given.tokenFile),
    };
  const token = await tokenIn(io, given.tokenFile ?? (io.env.FAIRLEAD_TOKEN_FILE || undefined));
  if (token !== null && url.protocol === 'http:' && !/^(localhost|127\.[\d.]+|\[::1\])$/.test(url.hostname))
    throw new FairleadError('invalid', `${url.origin}: a token is not sent to another machine without TLS; use https:`);
  const file = async (name: 'ca' | 'cert' | 'key') => {
    const path = given[name] ?? (io.env[`FAIRLEAD_${name.toUpperCase()}`] || undefined);
    return path === undefined ? {} : { [name]: await io.read(path) };
  };
  const tls = { ...(await file('ca')), ...(await file('cert')), ...(await file('key')) };
  return { endpoint: { url, tls }, token };
}

async function tokenIn(io: Io, path: string | undefined): Promise<string | null> {
  if (path === undefined) return null;
  const token = (await io.read(path)).trim();
  if (/^[\x21-\x7e]+$/.test(token)) return token;
  throw new FairleadError('invalid', `read "${path}": wanted one token, and nothing else`);
}

/** How tables look on this terminal. NO_COLOR: https://no-color.org */
export function styleOf(io: Io, headers: boolean): TableStyle {
  const screen = io.screen();
  const colours = screen !== null && (io.env.NO_COLOR ?? '') === '' && io.env.TERM !== 'dumb';
  return { width: screen?.columns ?? null, headers, colours };
}
