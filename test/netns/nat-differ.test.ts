// SPDX-License-Identifier: Apache-2.0
// The short form of `npm run differ`.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DELIBERATE, differ } from '../differ/differ.js';
import { chosenSeed } from '../unit/random.js';

for (const gro of [true, false])
  test(`nat: random traffic is what nftables makes of it, ${gro ? 'with' : 'without'} GRO`, async (t) => {
    const seed = chosenSeed();
    t.diagnostic(`seed ${seed}`);
    const options = { seed, packets: 10_000, prefix: `nc-${gro ? 'g' : 's'}`, gro };
    const { packets, compared, deliberate, differences } = await differ(options);
    t.diagnostic(`${packets} packets of ${compared.size} kinds; ${JSON.stringify([...deliberate])}`);
    assert.deepEqual(differences, []);
    assert.ok(compared.size > 220, `${compared.size} kinds of packets`);
    assert.deepEqual([...deliberate.keys()].sort(), Object.keys(DELIBERATE).sort(), 'all that is let through is there');
  });
