// SPDX-License-Identifier: Apache-2.0
// Changes under load: no request may fail.
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import type { NodeStatus } from '../../src/model/node-view.js';
import { tracesOf } from '../support/lab.js';
import { openServedLab, openStream, type ServedLab, type Stream } from '../support/served-lab.js';

const name = 'ftechange';
let lab: ServedLab;
let stream: Stream;

before(async () => {
  lab = await openServedLab(name, 3);
  stream = await openStream(lab);
});
after(async () => {
  await lab.close();
  assert.deepEqual(tracesOf(name), []);
});

test('change: drain, undrain and weights under load fail no request', async () => {
  stream.begin('changing', 300);
  await stream.more(50);
  for (const [method, path, body] of [
    ['POST', 'backends/be1/drain'],
    ['PATCH', 'backends/be2', { weight: 10 }],
    ['POST', 'backends/be1/undrain'],
    ['PATCH', 'backends/be3', { weight: 0 }],
    ['PATCH', 'backends/be3', { weight: 256 }],
    ['PATCH', 'backends/be2', { weight: 100 }],
    ['PATCH', 'backends/be3', { weight: 100 }],
  ] as const) {
    for (const pool of ['web4', 'web6']) await lab.api(method, `/api/v1/pools/${pool}/${path}?wait=applied`, body);
    await stream.more(60);
  }
  await stream.noneFailed();
});

test('change: 50 weight changes within 10 s under load fail no request, and the last one holds', async () => {
  stream.begin('weights', 300);
  const weights = Array.from({ length: 50 }, (_, index) => (index % 5 === 4 ? 0 : 1 + ((index * 37) % 256)));
  const started = Date.now();
  for (const [index, weight] of weights.entries()) {
    const change = { weight: index === 49 ? 200 : weight };
    await lab.api('PATCH', `/api/v1/pools/web4/backends/be${1 + (index % 3)}`, change);
    await pause(150); // the pace of the changes, not a wait for something
  }
  console.log(`# 50 changes in ${Date.now() - started} ms`);
  await stream.more(20);
  await stream.noneFailed();
  const last = (member: number) => (member === 2 ? 200 : weights.findLast((_, index) => index % 3 === member - 1));
  const answer = await lab.api('PATCH', '/api/v1/pools/web4/backends/be2?wait=applied', { weight: 200 });
  assert.equal((answer as { weight: number }).weight, 200);
  const pool = (await lab.api('GET', '/api/v1/pools/web4')) as {
    backends: { name: string; weight: number }[];
    status: { backends: Record<string, { shareWanted: number; shareReal: number }> };
  };
  const wanted = [1, 2, 3].map((member) => last(member) ?? 0);
  assert.deepEqual(
    pool.backends.map(({ weight }) => weight),
    wanted,
  );
  const total = wanted.reduce((sum, weight) => sum + weight, 0);
  for (const [index, weight] of wanted.entries()) {
    const status = pool.status.backends[`be${index + 1}`];
    assert.ok(Math.abs((status?.shareWanted ?? -1) - weight / total) < 1e-9);
    assert.ok(Math.abs((status?.shareReal ?? -1) - weight / total) < 0.01, `be${index + 1}: ${status?.shareReal}`);
  }
  const stored = JSON.parse(readFileSync(`${lab.directory}/state.json`, 'utf8'));
  assert.deepEqual(
    stored.pools
      .find((each: { name: string }) => each.name === 'web4')
      .backends.map((each: { weight: number }) => each.weight),
    wanted,
  );
});

test('change: the next daemon changes to generic XDP and back, and forwards right in both', async () => {
  const native = readFileSync(lab.config, 'utf8');
  for (const mode of ['generic', 'native']) {
    await lab.serve().kill('SIGTERM');
    writeFileSync(lab.config, native.replace('xdp: native', `xdp: ${mode}`));
    await lab.start();
    const { interfaces } = (await lab.api('GET', '/api/v1/status')) as NodeStatus;
    assert.deepEqual(
      interfaces.map((each) => each.mode),
      [mode],
    );
    stream.begin(mode, 300);
    await stream.more(200);
    await stream.noneFailed();
    const url = `http://${lab.topology.vip4}/bytes/3000000`;
    assert.equal(await lab.inClient('curl', '-sSf', '-o', '/dev/null', '-w', '%{size_download}', url), '3000000');
  }
});
