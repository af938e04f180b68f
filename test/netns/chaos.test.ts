// SPDX-License-Identifier: Apache-2.0
// The short form of `npm run chaos`.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { runScenario } from '../chaos/run.js';
import { SCENARIOS } from '../chaos/scenarios.js';
import { chosenSeed } from '../unit/random.js';

const OPTIONS = { lab: 'chaos-t', backends: 10, long: 60, short: 6, scale: 0.05 } as const;

for (const [name, killed, forwarding] of [
  ['kills', false, 'ipip'],
  ['ring-changes', false, 'ipip'],
  ['restart-10', false, 'ipip'],
  ['grow', true, 'ipip'],
  ['shrink', true, 'ipip'],
  ['grow', true, 'gue'],
  ['restart-10', true, 'gue'],
] as const) {
  test(`chaos: ${name}, ${forwarding}${killed ? ', and a balancer is lost' : ''}: no connection breaks`, async (t) => {
    const scenario = SCENARIOS.find((each) => each.name === name) ?? assert.fail();
    const seed = chosenSeed();
    t.diagnostic(`seed ${seed}`);
    const result = await runScenario(scenario, killed, {
      ...OPTIONS,
      forwarding,
      seed,
      say: (line) => t.diagnostic(line),
    });
    const { agents, connections, records, younger, violations } = result;
    t.diagnostic(`${connections} connections, ${records} records, ${younger.length} younger than the change broke`);
    assert.ok(connections > OPTIONS.long && records > 1000);
    assert.deepEqual(violations, []);
    if (forwarding === 'gue') assert.ok((agents.get('socket') ?? 0) > 0, 'lists of owners were sent');
  });
}
