// SPDX-License-Identifier: Apache-2.0
// Routes of ours beside those of others, in a kernel.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { namespacePath, run } from '../../src/lab/netns.js';

const namespace = 'no-routes';

test('routes: ours are added, found and taken away; those of others are left, in every table', async (t) => {
  const removed = () => run('sh', ['-c', `ip netns del ${namespace} 2>/dev/null; true`]);
  await removed();
  t.after(removed);
  await run('ip', ['netns', 'add', namespace]);
  const ip = (...args: readonly string[]): Promise<string> => run('ip', ['-n', namespace, ...args]);
  const inside = async (script: string): Promise<unknown> => {
    const url = (file: string): string => new URL(`../../src/controlplane/${file}`, import.meta.url).href;
    const code = `import * as r from '${url('routes.js')}'; import { removeElsewhere } from '${url('announce.js')}';
      const out = await (async () => { ${script} })(); process.stdout.write(JSON.stringify(out ?? null));`;
    const text = await run('nsenter', [
      ...[`--net=${namespacePath(namespace)}`, process.execPath, '--input-type=module', '-e', code],
    ]);
    return JSON.parse(text);
  };
  const tables = async () =>
    (await Promise.all(['-4', '-6'].map((family) => ip(family, 'route', 'show', 'table', 'all'))))
      .flatMap((text) => text.split('\n'))
      .filter((line) => line.startsWith('blackhole'))
      .map((line) => line.replace(/ (dev lo|metric \d+|pref medium)/g, '').trim())
      .sort();
  // Of others: the same addresses and metric in another table, others in the same, a network of our protocol number.
  await ip('-4', 'route', 'add', 'blackhole', '192.0.2.10', 'table', '201', 'metric', '1024');
  await ip('-4', 'route', 'add', 'blackhole', '192.0.2.11', 'table', '200', 'metric', '1024', 'proto', 'static');
  await ip('-6', 'route', 'add', 'blackhole', '2001:db8::11', 'table', '200', 'proto', 'static');
  await ip('-4', 'route', 'add', 'blackhole', '192.0.2.0/24', 'table', '200', 'proto', '76');
  const foreign = await tables();
  assert.equal(foreign.length, 4);

  assert.deepEqual(await inside('return [await r.readRoutes(200), await r.readRoutes(null)]'), [[], []]);
  const two = (table: number) => [
    { table, address: '192.0.2.10' },
    { table, address: '2001:db8::10' },
  ];
  const all = [...two(200), ...two(70000)];
  const twice = `const out = []; for (const each of ${JSON.stringify([...all, ...all])}) out.push(await r.addRoute(each)); return out;`;
  assert.deepEqual(await inside(twice), Array(8).fill(true));
  assert.deepEqual(
    await tables(),
    [
      ...foreign,
      ...['192.0.2.10 table 200', '192.0.2.10 table 70000', '2001:db8::10 table 200', '2001:db8::10 table 70000'].map(
        (each) => `blackhole ${each} proto 76`,
      ),
    ].sort(),
  );
  const taken =
    "return [await r.addRoute({ table: 200, address: '192.0.2.11' }), await r.addRoute({ table: 200, address: '2001:db8::11' })]";
  assert.deepEqual(await inside(taken), [false, false], "another's route is there");
  assert.deepEqual(await inside('return r.readRoutes(200)'), two(200));

  await inside(
    "await r.deleteRoute({ table: 200, address: '192.0.2.11' }); await r.deleteRoute({ table: 200, address: '2001:db8::11' })",
  );
  await inside('await removeElsewhere(200)'); // what a run before left
  assert.deepEqual(await inside('return r.readRoutes(null)'), two(200));
  await inside('await removeElsewhere(null)');
  await inside("await r.deleteRoute({ table: 200, address: '192.0.2.10' })"); // once more
  assert.deepEqual(await tables(), foreign);
});
