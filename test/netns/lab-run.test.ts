// SPDX-License-Identifier: Apache-2.0
// `fairlead lab run` as a process of its own: what it says, how it ends, what it leaves.
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { existingNamespaces, kill, processesIn } from '../../src/lab/netns.js';
import { lives, tracesOf, until } from '../support/lab.js';
import { mainFile } from '../support/serve.js';

function start(command: readonly string[]): { child: ChildProcess; output: () => string } {
  const [file = '', ...args] = command;
  const child = spawn(file, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let text = '';
  for (const stream of [child.stdout, child.stderr])
    stream?.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk;
    });
  return { child, output: () => text };
}

const labRun = (name: string, ...more: readonly string[]) => [
  ...[process.execPath, mainFile, 'lab', 'run', '--name', name, '--backends', '2'],
  ...more,
];

/** Mounts of this machine, and what is in /run; other labs of the tests aside. */
function machine(): readonly string[] {
  const mounts = readFileSync('/proc/self/mounts', 'utf8').split('\n');
  const run = readdirSync('/run').map((entry) => `/run/${entry}`);
  const netns = readdirSync('/run/netns').map((entry) => `/run/netns/${entry}`);
  return [...mounts, ...run, ...netns].filter((each) => each.includes('fterun')).sort();
}

test('lab run --once: every check passes, exit code 0, and nothing is left behind', async () => {
  const name = 'fterunonce';
  const before = machine();
  const { child, output } = start(labRun(name, '--once'));
  const [code] = await once(child, 'close');
  assert.equal(code, 0, output());
  assert.doesNotMatch(output(), /FAIL/);
  assert.ok(
    output()
      .split('\n')
      .filter((line) => line.startsWith('PASS  ')).length >= 14,
    output(),
  );
  assert.match(output(), /^BACKEND +REQUESTS +PACKETS +BYTES/m);
  assert.match(output(), /^be2 +\d+ +\d+ +\d+ /m);
  for (const line of output().split('\n')) assert.ok(line.length <= 100, line);
  assert.deepEqual(tracesOf(name), []);
  assert.deepEqual(machine(), before);
});

test('lab run: starts its daemon again when that is killed; Ctrl-C takes everything down', async () => {
  const name = 'fterunint';
  const { child, output } = start(labRun(name));
  await until('traffic runs', () => /\n\d{2,} requests, 0 failed\n/.test(output()), 30_000);
  const [daemon = 0] = processesIn([`${name}-lb1`]);
  kill(daemon, 'SIGKILL');
  await until('it says so', () => output().includes('the daemon ended (SIGKILL); the kernel forwards on without it'));
  await until('there is a new one', () => processesIn([`${name}-lb1`]).some((pid) => pid !== daemon));
  const processes = processesIn(existingNamespaces(name));
  child.kill('SIGINT');
  const [code] = await once(child, 'close');
  assert.equal(code, 0, output());
  assert.doesNotMatch(output(), / [1-9]\d* failed/);
  assert.deepEqual(tracesOf(name), []);
  assert.deepEqual(processes.filter(lives), []);
});

test('lab run: the death of its parent takes everything down', async () => {
  const name = 'fterunpar';
  const command = labRun(name).map((word) => `'${word}'`);
  const { child, output } = start(['sh', '-c', `${command.join(' ')} & wait`]);
  await until('it is up', () => output().includes('Ctrl-C'), 30_000);
  const processes = processesIn(existingNamespaces(name));
  assert.equal(processes.length, 4); // daemon, driver, two servers
  child.kill('SIGKILL');
  await until('nothing is left', () => tracesOf(name).length === 0);
  assert.deepEqual(processes.filter(lives), []);
});

test('lab run --store etcd --bgp: two balancers, the scenario passes, nothing is left behind', async () => {
  const name = 'no-lab-once';
  const { child, output } = start(labRun(name, '--store', 'etcd', '--bgp', '--once'));
  const [code] = await once(child, 'close');
  assert.equal(code, 0, output());
  assert.match(output(), /^lab "no-lab-once": client, router, 2 balancers, 2 backends;/);
  assert.match(output(), /^PASS {2}0 of \d+ requests failed$/m);
  for (const line of output().split('\n')) assert.ok(line.length <= 100, line);
  assert.deepEqual(tracesOf(name), []);
});

test('lab run --store etcd --bgp: kill -9 of its process leaves no etcd and no BIRD', async () => {
  const name = 'no-lab-kill';
  const { child, output } = start(labRun(name, '--store', 'etcd', '--bgp'));
  await until('it is up', () => output().includes('Ctrl-C'), 60_000);
  const processes = processesIn(existingNamespaces(name));
  assert.equal(processes.length, 9); // two daemons, etcd, three BIRDs, driver, two servers
  child.kill('SIGKILL');
  await until('nothing is left', () => tracesOf(name).length === 0);
  assert.deepEqual(processes.filter(lives), []);
});
