// SPDX-License-Identifier: Apache-2.0
// VIPs announced by real BIRDs: a router, two balancers on one etcd, and connections on which every byte counts.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Lab } from '../../src/lab/daemon.js';
import { run } from '../../src/lab/netns.js';
import { labPools } from '../../src/lab/objects.js';
import type { NodeInfo } from '../../src/model/node-view.js';
import { limitMs, runBalancers } from '../chaos/balancers.js';
import { POOLS } from '../chaos/checker.js';
import { tracesOf, until } from '../support/lab.js';

const name = 'no-bgp';
const never = new AbortController().signal;

const tableOf = (lab: Lab, at: number): Promise<string> =>
  run('ip', ['-n', lab.topology.balancers[at]?.namespace ?? '', 'route', 'show', 'table', '200']);

/** Every backend of the pools behind both VIPs. */
async function setAll({ daemon }: Lab, state: 'active' | 'disabled' | 'drain'): Promise<void> {
  for (const pool of [...labPools, ...POOLS]) {
    const { backends } = (await daemon.api('GET', `/api/v1/pools/${pool}`)) as { backends: { name: string }[] };
    for (const backend of backends)
      await daemon.api('PATCH', `/api/v1/pools/${pool}/backends/${backend.name}`, { state });
  }
}

test('announce: no fault of a balancer breaks a connection, and a VIP without a backend is withdrawn', {
  timeout: 170_000,
}, async (t) => {
  const faults = ['daemon killed', 'detach', 'cable pulled'];
  const result = await runBalancers(
    name,
    faults,
    { long: 40, short: 6 },
    (line) => t.diagnostic(line),
    async (lab) => {
      const nodes = async () => ((await lab.daemon.api('GET', '/api/v1/nodes')) as { items: NodeInfo[] }).items;
      // The document of a daemon that was killed is there until its lease ends.
      const wanted = ['no-bgp-lb1 ok true 2', 'no-bgp-lb2 ok true 2'].join();
      await until('both nodes say that they announce', async () => {
        const said = (await nodes()).map((each) => [each.name, each.state, each.ready, each.announcing].join(' '));
        return said.join() === wanted;
      });
      const items = await nodes();
      const [first, second] = items.map(({ rings }) =>
        Object.entries(rings).map(([pool, { digest }]) => [pool, digest]),
      );
      assert.deepEqual(first, second);
      assert.equal(first?.length, 4);

      // Somebody else's route in the table is nobody's business.
      await run('ip', [
        '-n',
        lab.topology.balancers[0].namespace,
        'route',
        'add',
        'blackhole',
        '192.0.2.99',
        'table',
        '200',
      ]);
      await setAll(lab, 'drain'); // their connections go on
      await lab.bird?.until(2, 1_000, never);
      await setAll(lab, 'disabled');
      await lab.bird?.until(0, 15_000, never);
      assert.equal((await tableOf(lab, 0)).trim(), 'blackhole 192.0.2.99');
      await setAll(lab, 'active');
      await lab.bird?.until(2, 15_000, never);
      assert.match(await tableOf(lab, 0), /^blackhole 192\.0\.2\.10 proto 76 metric 1024 *$/m);
    },
  );
  const { connections, records, violations, stalled, outMs } = result;
  t.diagnostic(
    `${connections} connections, ${records} records, ${stalled} stalled, out after ${outMs.map(Math.round)} ms`,
  );
  assert.deepEqual(violations, []);
  assert.ok(connections > 46 && records > 1000);
  for (const each of outMs) assert.ok(each < limitMs, `out after ${each} ms, wanted less than ${limitMs}`);
  assert.deepEqual(tracesOf(name), []);
});
