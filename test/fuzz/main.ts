// SPDX-License-Identifier: Apache-2.0
// `npm run fuzz -- [--packets N] [--seed S] [--kinds whole,fragments,...] [--flags MASK]`
import { parseArgs } from 'node:util';
import { REASON_NAMES } from '../../src/dataplane/reasons.js';
import { pinTo } from '../support/packet-run.js';
import { chosenSeed } from '../unit/random.js';
import { fuzz } from './fuzz.js';
import type { Tried } from './run.js';

const { values } = parseArgs({
  options: {
    packets: { type: 'string', default: process.env.FUZZ_PACKETS ?? '10000000' },
    seed: { type: 'string', default: process.env.FUZZ_SEED ?? String(chosenSeed()) },
    kinds: { type: 'string', default: '' },
    flags: { type: 'string', default: '0xffff' },
  },
});

pinTo(0);
const tried: Tried = { frames: 0, stalls: 0, reasons: [] };
const seed = Number(values.seed);
process.stdout.write(`seed ${seed}\n`);
const started = performance.now();
let shown = started;
const found = await fuzz(
  {
    seed,
    packets: Number(values.packets),
    kinds: values.kinds.split(',').filter(Boolean),
    flags: Number(values.flags),
    progress: ({ frames }) => {
      if (performance.now() - shown < 10_000) return;
      shown = performance.now();
      process.stdout.write(`${frames} packets\n`);
    },
  },
  tried,
);
const seconds = (performance.now() - started) / 1000;
const reached = REASON_NAMES.flatMap((name, reason) => {
  const times = tried.reasons[reason];
  return times === undefined ? [] : [`${name} ${times}`];
});
process.stdout.write(`${tried.frames} packets in ${seconds.toFixed(0)} s: ${reached.join(', ')}\n`);
if (found === null)
  process.stdout.write(
    `0 differences${tried.stalls > 0 ? `; ${tried.stalls} nodes not judged to their end: the machine stood still` : ''}\n`,
  );
else {
  process.stdout.write(`DIFFERENCE with seed ${seed}, ${found}\n`);
  process.exitCode = 1;
}
