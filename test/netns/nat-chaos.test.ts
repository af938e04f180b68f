// SPDX-License-Identifier: Apache-2.0
// The short form of `npm run chaos -- --forwarding nat`.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { NAT_SCENARIOS } from '../chaos/nat-scenarios.js';
import { runScenario } from '../chaos/run.js';
import { SCENARIOS } from '../chaos/scenarios.js';
import { chosenSeed } from '../unit/random.js';

const OPTIONS = { lab: 'nc-chaos', backends: 6, long: 60, short: 6, scale: 0.05, forwarding: 'nat' } as const;

for (const name of ['ring-changes', 'nat-swaps', 'nat-flood', 'nat-backend'])
  test(`nat: chaos: ${name}: no connection breaks`, async (t) => {
    const scenario = [...SCENARIOS, ...NAT_SCENARIOS].find((each) => each.name === name) ?? assert.fail();
    const seed = chosenSeed();
    t.diagnostic(`seed ${seed}`);
    const result = await runScenario(scenario, false, { ...OPTIONS, seed, say: (line) => t.diagnostic(line) });
    const { connections, records, violations } = result;
    t.diagnostic(`${connections} connections, ${records} records`);
    assert.ok(connections > OPTIONS.long && records > 1000);
    assert.deepEqual(violations, []);
  });
