// SPDX-License-Identifier: Apache-2.0
import type { Command } from 'commander';
import { FairleadError } from '../model/errors.js';
import { readYaml } from '../model/yaml.js';
import type { Answer, CallOptions } from './client.js';
import { integerOption } from './help.js';
import type { Io } from './io.js';
import type { Session } from './session.js';

/** The options of every verb that writes. */
export interface WriteOptions {
  readonly dryRun?: true;
  readonly wait?: true;
  readonly ifRevision?: number;
}

/** Adds the options of a verb that writes. */
export function writing(command: Command): Command {
  return command
    .option('--dry-run', 'check it and show the effect, but store nothing')
    .option('--wait', 'return only when the kernel has it')
    .addOption(integerOption('--if-revision <n>', 'only if it is still at this revision', 0, Number.MAX_SAFE_INTEGER));
}

/** Sends one write with the options it was given. */
export function send(
  session: Session,
  method: string,
  path: string,
  { dryRun, wait, ifRevision }: WriteOptions,
  body?: unknown,
  query: CallOptions['query'] = {},
): Promise<Answer> {
  const options: CallOptions = {
    query: { ...query, dryRun: dryRun && 'true', wait: wait && 'applied' },
    headers: ifRevision === undefined ? {} : { 'if-match': `"${ifRevision}"` },
    body,
  };
  return session.call(method, path, options);
}

/** What was done, as a sentence: `service "web" stored at revision 7, in the kernel`. */
export function outcome(what: string, { status, body }: Answer, { dryRun, wait }: WriteOptions, verb: string): string {
  if (dryRun) return `${what}: good; a dry run, nothing is stored`;
  const { revision }: { revision?: unknown } = Object(body);
  const at = typeof revision === 'number' ? ` at revision ${revision}` : '';
  return `${what} ${status === 201 ? 'created' : verb}${at}${wait ? ', in the kernel' : ''}`;
}

/** Stores these documents one after the other and shows each, or all at the end as data. The first that is refused ends it. */
export async function putAll(
  session: Session,
  documents: readonly NamedDocument[],
  options: WriteOptions,
  { path, title }: { path(name: string): string; title(name: string): string },
): Promise<void> {
  const stored: unknown[] = [];
  for (const { name, body } of documents) {
    const answer = await send(session, 'PUT', path(name), options, body);
    stored.push(answer.body);
    if (session.output === 'table') session.io.out(`${outcome(title(name), answer, options, 'stored')}\n`);
  }
  if (session.output !== 'table') session.show(stored.length === 1 ? stored[0] : { items: stored }, () => []);
}

/** A document of a file with the name it is to have. */
export interface NamedDocument {
  readonly name: string;
  readonly body: Record<string, unknown>;
}

/**
 * The documents of a YAML or JSON file: one, a list, or the `items` that `ls` prints. What the API adds when it shows an
 * object (`revision`, `status`) and the fields in `added` are left out. `name` is for one document, which may then be without.
 * Throws 'invalid' with the line of what cannot be read.
 */
export async function documentsIn(
  io: Io,
  file: string,
  name: string | undefined,
  added: readonly string[] = [],
): Promise<NamedDocument[]> {
  const { value, problems, position } = readYaml(await io.read(file));
  const where = file === '-' ? 'standard input' : file;
  const [problem] = problems;
  if (problem) throw new FairleadError('invalid', `${where}:${problem.line}:${problem.column}: ${problem.detail}`);
  const items = isRecord(value) && Array.isArray(value.items) ? value.items : value;
  const prefix = items === value ? [] : ['items'];
  const list: readonly unknown[] = Array.isArray(items) ? items : [items];
  if (name !== undefined && list.length !== 1) {
    throw new FairleadError('invalid', `${where}: got ${list.length} documents for the name "${name}", wanted one`);
  }
  return list.map((each, i) => {
    const { line, column } = position(Array.isArray(items) ? [...prefix, i] : prefix, 'value');
    const refuse = (detail: string) => new FairleadError('invalid', `${where}:${line}:${column}: ${detail}`);
    if (!isRecord(each)) throw refuse('wanted the fields of an object');
    const own = name ?? each.name;
    if (typeof own !== 'string') throw refuse('wanted a "name", here or on the command line');
    return { name: own, body: withoutShown(each, added) };
  });
}

function withoutShown(shown: Record<string, unknown>, added: readonly string[]): Record<string, unknown> {
  const own = Object.entries(shown).filter(([field]) => !['revision', 'status', ...added].includes(field));
  const body = Object.fromEntries(own);
  if (!Array.isArray(body.backends)) return body;
  return { ...body, backends: body.backends.map((each) => (isRecord(each) ? withoutShown(each, []) : each)) };
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
