// SPDX-License-Identifier: Apache-2.0
// The command line against the real daemon: what it prints at 80 columns, as data, and how it ends.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { run } from '../../src/lab/netns.js';
import { readServices } from '../../src/lab/objects.js';
import { cli, type Ended } from '../support/cli.js';
import { tracesOf, until } from '../support/lab.js';
import { openSender, openServedLab, type ServedLab } from '../support/served-lab.js';

const name = 'ftecli';
let lab: ServedLab;

before(async () => {
  lab = await openServedLab(name, 3);
  const send = await openSender(lab);
  const flow = { fromPort: 20_000, size: 100, count: 4 };
  await send([
    { ...flow, from: '10.1.0.2', to: lab.topology.vip4 },
    { ...flow, from: 'fd00:1::2', to: lab.topology.vip6 },
  ]);
  // Flows are counted twice a second at most.
  await until(
    'the flows are counted',
    async () =>
      Object.values(await readServices(lab.api, lab.topology)).reduce((sum, { flows }) => sum + flows, 0) === 2,
  );
});
after(async () => {
  await lab.close();
  assert.deepEqual(tracesOf(name), []);
});

/** Runs a command line at an 80-column terminal without colours. */
const fairlead = (...args: readonly string[]): Promise<Ended> =>
  cli(['--socket', lab.socket, ...args], { columns: 80, env: { NO_COLOR: '1' } });

/** The table of a command that must succeed: rows of cells below the titles. Fails when it is wider than 80 columns. */
async function table(...args: readonly string[]): Promise<readonly string[][]> {
  const { code, out, err } = await fairlead(...args);
  assert.deepEqual([code, err], [0, '']);
  const lines = out.trimEnd().split('\n');
  for (const line of lines) assert.ok(line.length <= 80, line);
  return lines.map((line) => line.split(/ {2,}/));
}

async function data(...args: readonly string[]): Promise<unknown> {
  const { code, out } = await fairlead(...args, '-o', 'json');
  assert.equal(code, 0);
  return JSON.parse(out);
}

test('cli: services, pools and backends are listed with what the kernel counted', async () => {
  assert.deepEqual(await table('services', 'ls'), [
    ['NAME', 'ADDRESS', 'PROTOCOL', 'POOL', 'FLOWS', 'CONNECTIONS', 'PACKETS', 'BYTES'],
    ['echo4', '192.0.2.10:5300', 'udp', 'web4', '1', '1', '4', '512 B'],
    ['echo6', '[2001:db8::10]:5300', 'udp', 'web6', '1', '1', '4', '592 B'],
    ['http4', '192.0.2.10:80', 'tcp', 'web4', '0', '0', '0', '0 B'],
    ['http6', '[2001:db8::10]:80', 'tcp', 'web6', '0', '0', '0', '0 B'],
  ]);
  const [, pool, , titles, ...members] = await table('pools', 'get', 'web6');
  assert.deepEqual(pool, ['web6', '3', '3', '307']);
  assert.deepEqual(titles?.slice(0, 6), ['POOL', 'NAME', 'ADDRESS', 'WEIGHT', 'STATE', 'WANTED']);
  assert.deepEqual(
    members.map((cells) => cells.slice(0, 6)),
    ['21', '22', '23'].map((end, index) => ['web6', `be${index + 1}`, `fd00:9::${end}`, '100', 'active', '33.3%']),
  );
});

test('cli: drain, undrain and weight say what was done, and do it', async () => {
  const stored = async (backend: string) => {
    const { state, weight } = (await data('backends', 'get', 'web4', backend)) as { state: string; weight: number };
    return { state, weight };
  };
  for (const [args, said, state] of [
    [
      ['drain', 'web4', 'be1'],
      /^backend "be1" of pool "web4" set to drain at revision \d+; flows left: [01]\n$/,
      'drain',
    ],
    [['undrain', 'web4', 'be1'], /^backend "be1" of pool "web4" set to active at revision \d+\n$/, 'active'],
    [['weight', 'web4', 'be1', '7'], /^backend "be1" of pool "web4" weighted 7 at revision \d+\n$/, 'active'],
  ] as const) {
    const { code, out } = await fairlead('backends', ...args);
    assert.equal(code, 0);
    assert.match(out, said);
    assert.equal((await stored('be1')).state, state);
  }
  assert.deepEqual(await stored('be1'), { state: 'active', weight: 7 });
});

test('cli: flows, status and drops show the packets that passed and those that did not', async () => {
  const flows = await table('flows');
  assert.deepEqual(flows[0], ['CLIENT', 'SERVICE', 'BACKEND', 'STATE', 'PACKETS', 'BYTES', 'AGE', 'IDLE']);
  assert.deepEqual(
    flows.slice(1).map(([client, service, , state, packets, bytes]) => [client, service, state, packets, bytes]),
    [
      ['[fd00:1::2]:20000', 'echo6', 'established', '4', '592 B'],
      ['10.1.0.2:20000', 'echo4', 'established', '4', '512 B'],
    ],
  );
  assert.equal(((await data('flows', '--service', 'echo6')) as { items: unknown[] }).items.length, 1);
  const status = (await table('status')).map((cells) => cells.join(' ').trim());
  assert.ok(
    status.includes('Ready yes') && status.includes(`Node ${lab.topology.balancers[0].namespace}`),
    status.join('\n'),
  );
  assert.ok(
    status.some((line) => /^eth0 native xdp_lb [0-9a-f]{16} 8 0 \d+ 0 0$/.test(line)),
    status.join('\n'),
  );

  assert.deepEqual(await fairlead('drops'), { code: 0, out: '', err: 'no drops\n' });
  await lab.api('PUT', '/api/v1/pools/none?wait=applied', { backends: [] });
  await lab.api('PUT', '/api/v1/services/lost?wait=applied', {
    ...{ address: lab.topology.vip4, port: 9, protocol: 'tcp', pool: 'none' },
  });
  await lab.inClient('sh', '-c', `curl -s --max-time 0.5 http://${lab.topology.vip4}:9/ || true`);
  await until('the drop is counted', async () => (await fairlead('drops')).out !== '');
  const [, drop] = await table('drops');
  assert.deepEqual(drop?.slice(0, 2), ['lost', 'no_backend']);
});

test('cli: refusals, mistakes and a missing daemon have their exit codes and one sentence', async () => {
  for (const [args, code, said] of [
    [['services', 'get', 'nope'], 4, 'fairlead: service "nope" does not exist\n'],
    [['backends', 'drain', 'web4', 'nope'], 4, 'fairlead: backend "nope" is not in pool "web4"\n'],
    [['pools', 'rm', 'web4'], 4, 'fairlead: delete pool "web4": services "echo4", "http4" use it\n'],
    [['pools', 'rm', 'none'], 4, 'fairlead: delete pool "none": service "lost" uses it\n'],
  ] as const)
    assert.deepEqual(await fairlead(...args), { code, out: '', err: said });
  assert.equal((await fairlead('backends', 'weight', 'web4', 'be1', '257')).code, 2);
  const away = await cli(['--socket', `${lab.directory}/no.sock`, 'status']);
  assert.equal(away.code, 3);
  assert.match(away.err, /^fairlead: reach the daemon at .*no\.sock: .*\n$/);
});

test('cli: bin/fairlead is the same program', async () => {
  const bin = fileURLToPath(new URL('../../../bin/fairlead', import.meta.url));
  const out = await run(bin, ['--socket', lab.socket, 'pools', 'ls', '-o', 'json']);
  assert.deepEqual(
    (JSON.parse(out) as { items: { name: string }[] }).items.map((pool) => pool.name),
    ['none', 'web4', 'web6'],
  );
});
