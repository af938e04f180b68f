// SPDX-License-Identifier: Apache-2.0
// What becomes of the routes when the daemon ends, and when it starts again.
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { run } from '../../src/lab/netns.js';
import type { NodeStatus } from '../../src/model/node-view.js';
import { tracesOf, until } from '../support/lab.js';
import { openServedLab, type ServedLab } from '../support/served-lab.js';

const name = 'no-stop';
let lab: ServedLab;

before(async () => {
  lab = await openServedLab(name, 1, 'announce: { table: 200 }\n');
});
after(async () => {
  await lab.close();
  assert.deepEqual(tracesOf(name), []);
});

async function routes(table = 200): Promise<readonly string[]> {
  const { namespace } = lab.topology.balancers[0];
  const texts = await Promise.all(
    ['-4', '-6'].map((family) => run('ip', [family, '-n', namespace, 'route', 'show', 'table', 'all'])),
  );
  const lines = texts.flatMap((text) => text.split('\n')).filter((line) => line.includes(` table ${table} proto 76 `));
  return lines.map((line) => line.split(' ')[1] ?? '').sort();
}

/** Starts the daemon with another line for `announce`; null: without. */
async function startWith(announce: string | null): Promise<void> {
  const lines = readFileSync(lab.config, 'utf8').split('\n');
  const rest = lines.filter((line) => !line.startsWith('announce:'));
  writeFileSync(lab.config, [...rest, ...(announce === null ? [] : [`announce: ${announce}`]), ''].join('\n'));
  await lab.start();
}

const vips = ['192.0.2.10', '2001:db8::10'];
const untilRoutes = (wanted: readonly string[], table = 200): Promise<void> =>
  until(
    `table ${table} has ${wanted.join(' and ') || 'nothing'}`,
    async () => (await routes(table)).join() === wanted.join(),
  );

test('announce: routes stay when the daemon is killed or stopped; what is not true any more goes at the start', async () => {
  await untilRoutes(vips);
  const { announce } = (await lab.api('GET', '/api/v1/status')) as NodeStatus;
  assert.deepEqual(announce, { table: 200, vips: vips.map((address) => ({ address, announced: true, detail: null })) });
  await lab.serve().kill('SIGKILL');
  assert.deepEqual(await routes(), vips);
  await startWith('{ table: 200 }');
  assert.deepEqual((await lab.serve().kill('SIGTERM')).code, 0);
  assert.deepEqual(await routes(), vips);

  // A run before announced what no service has.
  const [{ namespace }] = lab.topology.balancers;
  await run('ip', [
    '-n',
    namespace,
    'route',
    'add',
    'blackhole',
    '192.0.2.77',
    'table',
    '200',
    'proto',
    '76',
    'metric',
    '1024',
  ]);
  await startWith('{ table: 200 }');
  await untilRoutes(vips);
});

test('announce: another table, a stop that withdraws, and none', async () => {
  await lab.serve().kill('SIGTERM');
  await startWith('{ table: 300, onStop: withdraw, drainSeconds: 1 }');
  await untilRoutes(vips, 300);
  await untilRoutes([]);
  const ended = lab.serve().kill('SIGTERM');
  await untilRoutes([], 300);
  const state = await Promise.race([
    ended.then(() => 'ended'),
    new Promise((resolve) => setTimeout(resolve, 300, 'drains')),
  ]);
  assert.equal(state, 'drains');
  assert.equal((await ended).code, 0);

  await startWith('{ table: 200 }');
  await untilRoutes(vips);
  await lab.serve().kill('SIGKILL');
  await startWith(null);
  assert.deepEqual(await routes(), []);
  const { announce } = (await lab.api('GET', '/api/v1/status')) as NodeStatus;
  assert.equal(announce, undefined);
});
