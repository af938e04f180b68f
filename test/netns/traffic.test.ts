// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { after, before, test } from 'node:test';
import { startDriver } from '../../src/lab/drive.js';
import { labPools, labServices } from '../../src/lab/objects.js';
import { answersOf, sum } from '../../src/lab/table.js';
import type { DriverReport } from '../../src/lab/traffic.js';
import { tracesOf } from '../support/lab.js';
import { never, openSender, openServedLab, type SendDatagrams, type ServedLab } from '../support/served-lab.js';

const name = 'ftetraffic';
let lab: ServedLab;
let send: SendDatagrams;

before(async () => {
  lab = await openServedLab(name, 4);
  send = await openSender(lab);
});
after(async () => {
  await lab.close();
  assert.deepEqual(tracesOf(name), []);
});

/** Sends `count` requests in turn to the services of this protocol, or to all. */
async function drive(count: number, protocol?: 'http' | 'udp'): Promise<DriverReport> {
  const services = labServices(lab.topology).filter((one) => protocol === undefined || one.protocol === protocol);
  const driver = await startDriver(lab.topology, services);
  try {
    driver.command({ kind: 'run', phase: 'only', rate: 400, count });
    return await driver.until(({ idle }) => idle, 40_000, never);
  } finally {
    await driver.stop();
  }
}

// First: a flow of an earlier connection on the same ports may stay where it was, whatever the weights are now.
test('traffic: connections spread by unequal weights within 3 standard deviations; weight 0 gets none', async () => {
  const weights: Readonly<Record<string, number>> = { be1: 100, be2: 50, be3: 200, be4: 0 };
  for (const pool of labPools)
    for (const [backend, weight] of Object.entries(weights))
      await lab.api('PATCH', `/api/v1/pools/${pool}/backends/${backend}?wait=applied`, { weight });
  const { phases, errors } = await drive(3_200); // 1,600 connections of each pool, each from a port of its own
  assert.deepEqual(errors, []);
  for (const pool of labPools) {
    const answers = answersOf(phases.only, labServices(lab.topology), pool);
    const total = sum([...answers.values()]);
    assert.equal(total, 1_600);
    for (const [backend, weight] of Object.entries(weights)) {
      const share = weight / 350;
      const got = answers.get(backend) ?? 0;
      const deviations = Math.abs(got - total * share) / Math.sqrt(total * share * (1 - share) || 1);
      assert.ok(
        deviations <= (weight === 0 ? 0 : 3),
        `${pool} ${backend}: ${got} of ${total}, wanted ${share * total}`,
      );
    }
  }
});

test('traffic: 1,000 HTTP requests, half of them IPv6, are all answered right', async () => {
  const { phases, errors } = await drive(1_000, 'http');
  assert.deepEqual(errors, []);
  assert.equal(phases.only?.requests, 1_000);
  const answered = (service: string) => sum(Object.values(phases.only?.backends[service] ?? {}));
  assert.deepEqual([answered('http4'), answered('http6')], [500, 500]);
});

test('traffic: 100 MB through the VIP come byte for byte, 5 MB go up, in both families', async () => {
  const size = 100_000_000;
  const pattern = Buffer.from(Array.from({ length: 251 * 256 }, (_, index) => index % 251));
  const hash = createHash('sha256');
  for (let left = size; left > 0; left -= pattern.length) hash.update(pattern.subarray(0, left));
  const wanted = hash.digest('hex');
  for (const host of [lab.topology.vip4, `[${lab.topology.vip6}]`]) {
    const fetch = `curl -sSf --max-time 60 http://${host}/bytes/${size} | sha256sum`;
    assert.equal((await lab.inClient('sh', '-c', fetch)).slice(0, 64), wanted, host);
    const send = `head -c 5000000 /dev/zero | curl -sSf --max-time 60 --data-binary @- http://${host}/`;
    assert.equal(JSON.parse(await lab.inClient('sh', '-c', send)).receivedBytes, 5_000_000, host);
  }
});

test('traffic: UDP is echoed by one backend per flow, up to the largest datagram of the path', async () => {
  const { vip4, vip6 } = lab.topology;
  const flows = Array.from({ length: 20 }, (_, index) => [
    { from: '10.1.0.2', fromPort: 7_000 + index, to: vip4, size: index === 0 ? 1_472 : 1 + index, count: 5 },
    { from: 'fd00:1::2', fromPort: 7_000 + index, to: vip6, size: index === 0 ? 1_452 : 1 + index, count: 5 },
  ]).flat();
  const answers = await send(flows);
  assert.equal(answers.length, 40);
  for (const backends of answers) assert.equal(backends.length, 1);
  assert.ok(new Set(answers.flat()).size > 1, 'all flows went to one backend');
});
