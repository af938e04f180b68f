// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { runtimeDirectory } from '../../src/lab/lock.js';
import { existingNamespaces, processesIn } from '../../src/lab/netns.js';

/** Waits until `condition` holds; fails with `what` at the deadline. */
export async function until(
  what: string,
  condition: () => boolean | Promise<boolean>,
  deadlineMs = 15_000,
): Promise<void> {
  for (const end = Date.now() + deadlineMs; !(await condition()); await pause(20))
    if (Date.now() > end) assert.fail(`not within ${deadlineMs} ms: ${what}`);
}

/** Everything there is of a lab on this machine, one line each; empty when nothing is left of it. */
export function tracesOf(name: string): readonly string[] {
  const namespaces = existingNamespaces(name);
  const directory = runtimeDirectory(name);
  const mounts = readFileSync('/proc/self/mounts', 'utf8').split('\n');
  const commands = readdirSync('/proc').map(commandOf);
  return [
    ...namespaces,
    ...processesIn(namespaces).map((pid) => `process ${pid}`),
    ...commands.filter((words) => words[1]?.includes('/lab') && words.includes(name)).map((words) => words.join(' ')),
    ...mounts.filter((line) => line.includes(directory)),
    ...(existsSync(directory) ? [directory] : []),
  ];
}

/** Whether the process exists and is no zombie. */
export function lives(pid: number): boolean {
  try {
    return !/^State:\tZ/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}

/** The command line of a holder. */
export function holderCommand(name: string, backends: number): readonly string[] {
  return [process.execPath, fileURLToPath(new URL('lab-holder.js', import.meta.url)), name, `${backends}`];
}

/** Starts a holder (see lab-holder.ts); `output` collects stdout and stderr. */
export function startHolder(name: string, backends: number): { child: ChildProcess; output: () => string } {
  const [node = '', ...args] = holderCommand(name, backends);
  const child = spawn(node, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let text = '';
  for (const stream of [child.stdout, child.stderr])
    stream?.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk;
    });
  return { child, output: () => text };
}

function commandOf(pid: string): readonly string[] {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
  } catch {
    return [];
  }
}
