// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { type LabBase, openBase } from '../../src/lab/base.js';
import { startDriver } from '../../src/lab/drive.js';
import { namespacePath, run } from '../../src/lab/netns.js';
import { labServices } from '../../src/lab/objects.js';
import { tracesOf } from '../support/lab.js';

const name = 'flwtraffic';
const signal = new AbortController().signal;
let lab: LabBase;

/** Runs curl in the client's namespace. */
const curl = (...args: string[]) =>
  run('nsenter', [`--net=${namespacePath(lab.topology.client)}`, 'curl', '-sS', '--max-time', '10', ...args]);

/** Sends the VIPs straight to one backend: plain routing in place of the balancer. */
async function routeTo(index: number): Promise<void> {
  const { router, vip4, vip6, backends } = lab.topology;
  const backend = backends[index];
  assert.ok(backend);
  await run('ip', ['-n', router, 'route', 'replace', `${vip4}/32`, 'via', backend.address4]);
  await run('ip', ['-n', router, 'route', 'replace', `${vip6}/128`, 'via', backend.address6]);
}

before(async () => {
  lab = await openBase({ name, backends: 2 }, signal);
});
after(async () => {
  await lab.close();
  assert.deepEqual(tracesOf(name), []);
});

test('echo server: names the backend, and sees the client address unchanged', async () => {
  for (const [index, backend] of ['be1', 'be2'].entries()) {
    await routeTo(index);
    for (const [host, client] of [
      [lab.topology.vip4, '10.1.0.2'],
      [`[${lab.topology.vip6}]`, 'fd00:1::2'],
    ] as const) {
      const answer = JSON.parse(await curl(`http://${host}/x`));
      assert.equal(answer.backend, backend);
      assert.equal(answer.client.address, client);
      assert.match(await curl('-D-', '-o/dev/null', `http://${host}/x`), new RegExp(`^x-backend: ${backend}\r$`, 'm'));
    }
  }
});

test('echo server: /bytes/N streams exactly N bytes of the pattern; a POST is counted', async () => {
  await routeTo(0);
  const url = `http://${lab.topology.vip4}`;
  for (const size of [0, 1, 64_256, 64_257, 3_000_000])
    assert.equal(await curl('-o/dev/null', '-w%{http_code} %{size_download}', `${url}/bytes/${size}`), `200 ${size}`);
  const expected = Buffer.from(Array.from({ length: 70_000 }, (_, index) => index % 251));
  const hex = await run('nsenter', [
    `--net=${namespacePath(lab.topology.client)}`,
    ...['sh', '-c', `curl -sS ${url}/bytes/70000 | od -An -v -tx1 | tr -d ' \\n'`],
  ]);
  assert.ok(hex === expected.toString('hex'), 'the body is not the pattern');
  const post = await run(
    'nsenter',
    [`--net=${namespacePath(lab.topology.client)}`, 'curl', '-sS', '--data-binary', '@-', url],
    'x'.repeat(123_456),
  );
  assert.equal(JSON.parse(post).receivedBytes, 123_456);
});

test('driver: spreads over the services, counts every answer under its backend and phase', async () => {
  await routeTo(0);
  const driver = await startDriver(lab.topology, labServices(lab.topology));
  try {
    driver.command({ kind: 'run', phase: 'first', rate: 400, count: 200 });
    await driver.until(({ idle, phases }) => idle && phases.first?.requests === 200, 15_000, signal);
    await routeTo(1);
    driver.command({ kind: 'run', phase: 'second', rate: 400, count: 100 });
    const report = await driver.until(({ idle, phases }) => idle && phases.second?.requests === 100, 15_000, signal);
    assert.deepEqual(report.errors, []);
    const each = (backend: string, count: number) =>
      Object.fromEntries(['http4', 'http6', 'echo4', 'echo6'].map((service) => [service, { [backend]: count }]));
    assert.deepEqual(
      { ...report.phases },
      {
        first: { requests: 200, failed: 0, backends: each('be1', 50) },
        second: { requests: 100, failed: 0, backends: each('be2', 25) },
      },
    );
  } finally {
    await driver.stop();
  }
});

test('driver: a request nobody answers is a failure with its service and reason', async () => {
  const nowhere = { service: 'closed', protocol: 'http', address: '10.1.0.1', port: 81 } as const;
  const driver = await startDriver(lab.topology, [nowhere]);
  try {
    driver.command({ kind: 'run', phase: 'only', rate: 100, count: 3 });
    const report = await driver.until(({ idle, phases }) => idle && phases.only?.requests === 3, 15_000, signal);
    assert.equal(report.phases.only?.failed, 3);
    assert.match(report.errors[0] ?? '', /^closed from port \d+: .*ECONNREFUSED/);
  } finally {
    await driver.stop();
  }
});

test('underlay: MTU 1500 everywhere, and the router hands over whole checksums', async () => {
  const { router, backends } = lab.topology;
  const lbPort = lab.topology.balancers[0].name;
  for (const port of [lbPort, 'client', 'br0', ...backends.map(({ name }) => name)])
    assert.match(await run('ip', ['-n', router, 'link', 'show', port]), / mtu 1500 /);
  assert.match(
    await run('nsenter', [`--net=${namespacePath(router)}`, 'ethtool', '-k', lbPort]),
    /^tx-checksumming: off$/m,
  );
});
