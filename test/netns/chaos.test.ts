// SPDX-License-Identifier: Apache-2.0
// The short form of `npm run chaos`.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { runScenario } from '../chaos/run.js';
import { SCENARIOS } from '../chaos/scenarios.js';
import { chosenSeed } from '../unit/random.js';

const OPTIONS = { lab: 'chaos-t', backends: 10, long: 60, short: 6, forwarding: 'ipip', scale: 0.05 } as const;

for (const [name, killed] of [
  ['kills', false],
  ['ring-changes', false],
  ['restart-10', false],
  ['grow', true],
  ['shrink', true],
] as const) {
  test(`chaos: ${name}${killed ? ', and a balancer is lost' : ''}: no connection breaks`, async (t) => {
    const scenario = SCENARIOS.find((each) => each.name === name) ?? assert.fail();
    const seed = chosenSeed();
    t.diagnostic(`seed ${seed}`);
    const result = await runScenario(scenario, killed, { ...OPTIONS, seed, say: (line) => t.diagnostic(line) });
    const { connections, records, younger, violations } = result;
    t.diagnostic(`${connections} connections, ${records} records, ${younger.length} younger than the change broke`);
    assert.ok(connections > OPTIONS.long && records > 1000);
    assert.deepEqual(violations, []);
  });
}
