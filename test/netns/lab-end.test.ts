// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { openBase } from '../../src/lab/base.js';
import { existingNamespaces, processesIn, run } from '../../src/lab/netns.js';
import { labDown, labStatus } from '../../src/lab/teardown.js';
import { holderCommand, lives, startHolder, tracesOf, until } from '../support/lab.js';

const signal = new AbortController().signal;

test('lab: up and down leave no namespace, process, mount or file', async () => {
  const name = 'flwdown';
  const lab = await openBase({ name, backends: 3 }, signal);
  const namespaces = existingNamespaces(name);
  const processes = processesIn(namespaces);
  await lab.close();
  assert.equal(namespaces.length, 6);
  assert.equal(processes.length, 3);
  assert.deepEqual(processes.filter(lives), []);
  assert.deepEqual(tracesOf(name), []);
});

test('lab: a second start is refused in one sentence and leaves the first as it is', async () => {
  const name = 'flwsecond';
  const { child, output } = startHolder(name, 1);
  try {
    await until('holder up', () => output().includes('up\n'));
    const before = tracesOf(name);
    await assert.rejects(openBase({ name, backends: 2 }, signal), (error: Error & { code?: string }) => {
      assert.equal(error.code, 'busy');
      assert.match(error.message, new RegExp(`process ${child.pid};.*fairlead lab down --name ${name}$`));
      return true;
    });
    assert.deepEqual(tracesOf(name), before);
    assert.equal(labStatus(name).pid, child.pid);
  } finally {
    child.kill('SIGTERM');
    await once(child, 'exit');
  }
  assert.deepEqual(tracesOf(name), []);
});

for (const kill of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
  test(`lab: ${kill} takes everything down before the process ends`, async () => {
    const name = `flw${kill.toLowerCase()}`;
    const { child, output } = startHolder(name, 1);
    await until('holder up', () => output().includes('up\n'));
    child.kill(kill);
    const [code] = await once(child, 'exit');
    assert.equal(code, 0, output());
    assert.deepEqual(tracesOf(name), []);
  });

test('lab: a closed output takes everything down', async () => {
  const name = 'flwpipe';
  const { child, output } = startHolder(name, 1);
  await until('holder up', () => output().includes('up\n'));
  child.stdout?.destroy();
  const [code] = await once(child, 'exit');
  assert.equal(code, 0, output());
  assert.deepEqual(tracesOf(name), []);
});

test('lab: kill -9 of its process leaves nothing', async () => {
  const name = 'flwkilled';
  const { child, output } = startHolder(name, 2);
  await until('holder up', () => output().includes('up\n'));
  const processes = processesIn(existingNamespaces(name));
  child.kill('SIGKILL');
  await until('nothing left', () => tracesOf(name).length === 0);
  assert.deepEqual(processes.filter(lives), []);
});

test('lab: kill -9 at any moment of the start leaves nothing', async () => {
  for (let round = 0; round < 8; round++) {
    const name = 'flwearly';
    const delayMs = randomInt(0, 700);
    console.log(`# killed ${delayMs} ms after the start`);
    const { child, output } = startHolder(name, 3);
    await until('holder starts', () => output().includes('starting\n'));
    await pause(delayMs); // the random input of this test, not a wait for something
    child.kill('SIGKILL');
    await once(child, 'exit');
    await until('nothing left', () => tracesOf(name).length === 0);
  }
});

test('lab: the death of the parent takes everything down', async () => {
  const name = 'flwparent';
  const command = holderCommand(name, 1).map((word) => `'${word}'`);
  const shell = spawn('sh', ['-c', `${command.join(' ')} & wait`], { stdio: ['ignore', 'pipe', 'inherit'] });
  let text = '';
  shell.stdout.setEncoding('utf8').on('data', (chunk: string) => {
    text += chunk;
  });
  await until('holder up', () => text.includes('up\n'));
  shell.kill('SIGKILL');
  await until('nothing left', () => tracesOf(name).length === 0);
});

test('lab down: stops a running lab, and says when there is none', async () => {
  const name = 'flwlabdown';
  const { child, output } = startHolder(name, 1);
  await until('holder up', () => output().includes('up\n'));
  const exited = once(child, 'exit');
  assert.equal(await labDown(name), true);
  assert.deepEqual(tracesOf(name), []);
  await exited;
  assert.equal(await labDown(name), false);
});

test('lab: namespaces of somebody else are neither used nor removed', async () => {
  const name = 'flwforeign';
  await run('ip', ['netns', 'add', `${name}-client`]);
  try {
    await assert.rejects(openBase({ name, backends: 1 }, signal), { code: 'conflict' });
    assert.equal(await labDown(name), false);
    assert.deepEqual(existingNamespaces(name), [`${name}-client`]);
  } finally {
    await run('ip', ['netns', 'delete', `${name}-client`]);
  }
  assert.deepEqual(tracesOf(name), []);
});
