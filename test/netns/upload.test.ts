// SPDX-License-Identifier: Apache-2.0
// Large uploads where the tunnel eats into the MTU: every link has 1500, and nothing tells the client but the balancer.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { tracesOf } from '../support/lab.js';
import { openServedLab, type ServedLab } from '../support/served-lab.js';

const name = 'fteupload';
const SIZE = 100_000_000;
let lab: ServedLab;

before(async () => {
  lab = await openServedLab(name, 2);
});
after(async () => {
  await lab.close();
  assert.deepEqual(tracesOf(name), []);
});

/** Packets that were answered with what fits, so far. */
async function answered(): Promise<number> {
  const text = String((await lab.ask('GET', '/metrics')).body);
  return Number(/^fairlead_icmp_total\{kind="too_big_answered"\} (\d+)/m.exec(text)?.[1]);
}

for (const forwarding of ['ipip', 'gue'] as const)
  test(`upload: 100 MB through ${forwarding}, in both families`, async () => {
    const { vip4, vip6 } = lab.topology;
    for (const service of ['http4', 'http6'])
      await lab.api('PATCH', `/api/v1/services/${service}?wait=applied`, { forwarding });
    for (const [host, flush] of [
      [vip4, ['ip', 'route', 'flush', 'cache']],
      [`[${vip6}]`, ['ip', '-6', 'route', 'flush', 'cache']],
    ] as const) {
      // What an earlier upload taught the client is forgotten.
      await lab.inClient(...flush);
      const before = await answered();
      const send = `head -c ${SIZE} /dev/zero | curl -sSf --max-time 60 --data-binary @- http://${host}/`;
      const started = performance.now();
      assert.equal(JSON.parse(await lab.inClient('sh', '-c', send)).receivedBytes, SIZE);
      const seconds = (performance.now() - started) / 1000;
      const told = (await answered()) - before;
      console.log(
        `# ${forwarding} ${host}: ${((SIZE * 8) / seconds / 1e9).toFixed(2)} Gbit/s, ${told} packets answered`,
      );
      assert.ok(told > 0, 'the client was told what fits');
    }
  });
