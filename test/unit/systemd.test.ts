// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { managerOf } from '../../src/controlplane/systemd.js';
import { temporary } from '../support/access.js';
import { until } from '../support/lab.js';

for (const kind of ['path', 'abstract'] as const)
  test(`systemd: ready, the watchdog and the end are told, by a socket with ${kind} name`, async (t) => {
    const path = join(temporary(t), 'notify');
    const listen = kind === 'path' ? `UNIX-RECV:${path}` : `ABSTRACT-RECV:${path}`;
    const socat = spawn('socat', ['-u', listen, '-'], { stdio: ['ignore', 'pipe', 'inherit'] });
    t.after(() => socat.kill());
    let told = '';
    socat.stdout.setEncoding('utf8').on('data', (text: string) => {
      told += `${text} `;
    });
    const warnings: string[] = [];
    const env = {
      NOTIFY_SOCKET: kind === 'path' ? path : `@${path}`,
      WATCHDOG_USEC: '20000',
      WATCHDOG_PID: `${process.pid}`,
    };
    if (kind === 'path') await until('socat listens', () => existsSync(path));
    let manager = managerOf(env, (line) => warnings.push(line));
    await until('it is told', () => {
      if (!told.includes('READY=1')) {
        manager.stopping();
        manager = managerOf(env, (line) => warnings.push(line)); // until socat listens
        manager.ready();
      }
      return /READY=1 *(WATCHDOG=1 *){3}/.test(told);
    });
    manager.stopping();
    await until('the end is told', () => told.includes('WATCHDOG=1 STOPPING=1') || told.trim().endsWith('STOPPING=1'));
    if (kind === 'path') assert.deepEqual(warnings, []);
  });

test('systemd: nothing is told without it, and what cannot be told is said once', () => {
  const warnings: string[] = [];
  const warn = (line: string): void => void warnings.push(line);
  managerOf({}, warn).ready();
  const manager = managerOf({ NOTIFY_SOCKET: '/nowhere/notify' }, warn);
  manager.ready();
  manager.stopping();
  assert.equal(warnings.length, 1);
  assert.match(warnings[0] ?? '', /^tell systemd READY=1: .*ENOENT/);
});
