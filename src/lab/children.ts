// SPDX-License-Identifier: Apache-2.0
import { type ChildProcess, type StdioOptions, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { FairleadError } from '../model/errors.js';
import { namespacePath, tied } from './netns.js';

/**
 * Starts a command in a namespace. It enters the network namespace only, so paths under /run mean the same there. Its
 * own session: a Ctrl-C reaches the lab alone, which stops everything in order. It dies with this process.
 */
export function spawnInside(namespace: string, command: readonly string[], stdio: StdioOptions): ChildProcess {
  return spawn('setpriv', [...tied, 'nsenter', `--net=${namespacePath(namespace)}`, ...command], {
    stdio,
    detached: true,
    cwd: '/',
  });
}

/**
 * Starts dist/src/lab/SCRIPT inside a namespace with an IPC channel, and resolves at its first message. Throws 'unavailable' when the script ends before it is ready, with what it said.
 */
export async function startInside(namespace: string, script: string, args: readonly string[]): Promise<ChildProcess> {
  const file = fileURLToPath(new URL(script, import.meta.url));
  const child = spawnInside(namespace, [process.execPath, file, ...args], ['ignore', 'ignore', 'pipe', 'ipc']);
  let stderr = '';
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    stderr = (stderr + text).slice(-2_000);
  });
  const ended = once(child, 'close').then(([code, signal]) => {
    const text = stderr.trim() || 'no message';
    throw new FairleadError('unavailable', `start ${script} in "${namespace}": ${signal ?? `exit ${code}`}: ${text}`);
  });
  ended.catch(() => {}); // matters until the first message only
  await Promise.race([once(child, 'message'), ended]);
  return child;
}

/** Ends a child and waits for it: closes its channel if it has one, else SIGTERM; SIGKILL after `graceMs`. */
export async function stopChild(child: ChildProcess, graceMs: number): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, 'exit');
  if (child.connected) child.disconnect();
  else child.kill('SIGTERM');
  const timer = setTimeout(() => child.kill('SIGKILL'), graceMs);
  await exited;
  clearTimeout(timer);
}
