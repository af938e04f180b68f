// SPDX-License-Identifier: Apache-2.0
import { CommanderError } from 'commander';
import { type ErrorCode, FairleadError, messageOf } from '../model/errors.js';
import { type Io, processIo } from './io.js';
import type { LocalParts } from './local-commands.js';
import { buildProgram } from './program.js';

/** The exit codes of every command. */
export const exitCodes = { done: 0, failed: 1, usage: 2, notReachable: 3, refused: 4 } as const;

/**
 * Runs one command line, `args` without the interpreter and the script, and answers its exit code. Never throws: an error is
 * one sentence on stderr. Set `process.exitCode` to the answer; `process.exit` would cut output that is still on its way.
 */
export async function runCli(args: readonly string[], parts: LocalParts, io: Io = processIo()): Promise<number> {
  let code: number = exitCodes.done;
  const program = buildProgram(io, parts, (own) => {
    code = own;
  });
  try {
    await program.parseAsync(args, { from: 'user' });
    return code;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? exitCodes.done : exitCodes.usage; // said already
    io.err(errorText(error));
    return error instanceof FairleadError ? exitCodeOf(error.code) : exitCodes.failed;
  }
}

function exitCodeOf(code: ErrorCode): number {
  switch (code) {
    case 'invalid':
    case 'not-found':
    case 'conflict':
    case 'precondition':
    case 'full':
    case 'permission':
    case 'unauthenticated':
      return exitCodes.refused;
    case 'unavailable':
      return exitCodes.notReachable;
    default:
      return exitCodes.failed;
  }
}

// The API repeats the first of its fields in the sentence; here they follow it, one a line.
function errorText(error: unknown): string {
  const message = messageOf(error);
  const fields = error instanceof FairleadError ? error.fields : [];
  const lines = fields.map(({ pointer, detail }) => `${pointer === '' ? '' : `${pointer}: `}${detail}`);
  const repeated = lines[0] === undefined ? -1 : message.indexOf(lines[0]);
  if (repeated >= 0 && lines.length === 1) return `fairlead: ${message}\n`;
  const sentence = repeated > 0 ? message.slice(0, repeated).trimEnd() : message;
  return [`fairlead: ${sentence}`, ...lines.map((line) => `  ${line}`), ''].join('\n');
}
