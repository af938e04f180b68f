// SPDX-License-Identifier: Apache-2.0
// `npm run differ -- [--packets N] [--seed S] [--gro on|off]`
import { parseArgs } from 'node:util';
import { chosenSeed } from '../unit/random.js';
import { DELIBERATE, differ } from './differ.js';

const { values } = parseArgs({
  options: {
    packets: { type: 'string', default: '1000000' },
    seed: { type: 'string', default: String(chosenSeed()) },
    gro: { type: 'string', default: 'on' },
  },
});
const seed = Number(values.seed);
const say = (line: string): void => void process.stdout.write(`${line}\n`);
say(`seed ${seed}`);
let shown = performance.now();
const started = shown;
const { packets, compared, deliberate, differences } = await differ({
  ...{ seed, packets: Number(values.packets), prefix: `nc-${process.pid}`, gro: values.gro !== 'off' },
  progress(count) {
    if (performance.now() - shown < 10_000) return;
    shown = performance.now();
    say(`${count} packets`);
  },
});
say(`  ${compared.size} kinds of packets, of the rarest ${Math.min(...compared.values())}`);
for (const [name, count] of deliberate) say(`  ${count} x ${name}: ${DELIBERATE[name as keyof typeof DELIBERATE]}`);
for (const difference of differences) say(`DIFFERENCE ${difference}`);
say(`${packets} packets, ${differences.length} differences, ${((performance.now() - started) / 1000).toFixed(0)} s`);
if (differences.length > 0) process.exitCode = 1;
