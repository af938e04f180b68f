// SPDX-License-Identifier: Apache-2.0
// npm run chaos
import { parseArgs } from 'node:util';
import { chosenSeed, randomFrom } from '../unit/random.js';
import { FAULTS, runBalancers } from './balancers.js';
import { runEtcd } from './etcd.js';
import { ETCD_FAULTS } from './etcd-faults.js';
import { NAT_SCENARIOS } from './nat-scenarios.js';
import { type ChaosResult, runScenario } from './run.js';
import { SCENARIOS } from './scenarios.js';
import { runSwaps } from './swaps.js';

const { values } = parseArgs({
  options: {
    scenario: { type: 'string' },
    seed: { type: 'string', default: `${chosenSeed()}` },
    scale: { type: 'string', default: '1' },
    backends: { type: 'string', default: '20' },
    long: { type: 'string', default: '200' },
    short: { type: 'string', default: '20' },
    kill: { type: 'boolean' },
    forwarding: { type: 'string', default: 'ipip' },
    help: { type: 'boolean' },
  },
});
const SWAPS = 'swaps';
const BALANCERS = 'balancers';
const ETCD = 'etcd';
const ALL = [...SCENARIOS, ...NAT_SCENARIOS];
const names = [
  ...ALL,
  { name: SWAPS, what: '120 swaps of the program under 12 million live frames' },
  { name: BALANCERS, what: 'a router with BIRD, two balancers on an etcd: 20 faults of one of them' },
  { name: ETCD, what: 'the same while etcd fails: all faults of it twice, and a model that all must be equal to' },
]
  .map(({ name, what }) => `  ${name.padEnd(14)} ${what}`)
  .join('\n');
const usage = `usage: npm run chaos -- [--scenario NAME[,NAME]] [--kill] [--seed N] [--scale 0..1] [--backends N] [--long N] [--short N] [--forwarding ipip|gue|nat]

Connections on which every byte is accounted for, while a cluster changes. Scenarios:
${names}
--kill: with two balancers behind ECMP, of which one is killed in the middle. Connections of NAT are one balancer's own: not with them.`;
const isChosen = (name: string): boolean => values.scenario?.split(',').includes(name) ?? true;
const isNat = values.forwarding === 'nat';
// A flood at the generator's maximum leaves no room for what drains and begins anew: nat-flood has its place.
const chosen = ALL.filter(
  ({ name, forwarding }) =>
    isChosen(name) && !(values.kill && (isNat || forwarding === 'nat')) && !(isNat && name === 'flood'),
);
const say = (line: string): void => void process.stdout.write(`${line}\n`);

if (values.help || (chosen.length === 0 && ![SWAPS, BALANCERS, ETCD].some(isChosen))) {
  say(usage);
  process.exitCode = values.help ? 0 : 2;
} else {
  const seed = Number(values.seed);
  say(`seed ${seed}`);
  const results: Pick<ChaosResult, 'scenario' | 'violations'>[] = [];
  if (isChosen(SWAPS) && !values.kill) {
    const { frames, lost, wrong, swaps, seconds } = runSwaps(
      12_000_000 * Number(values.scale),
      120 * Number(values.scale),
    );
    say(`swaps: ${swaps} swaps, ${frames} frames, ${lost} lost, ${wrong} wrong: ${seconds.toFixed(1)} s`);
    if (lost + wrong > 0) process.exitCode = 1;
  }
  if (isChosen(BALANCERS) && !values.kill) {
    const random = randomFrom(seed);
    const kinds = Object.keys(FAULTS);
    const count = Math.max(1, Math.round(20 * Number(values.scale)));
    const faults = Array.from({ length: count }, () => kinds[Math.floor(random() * kinds.length)] ?? '');
    const load = { long: Number(values.long), short: Number(values.short) };
    const { connections, records, violations, stalled, outMs } = await runBalancers('chaos', faults, load, (line) =>
      say(`  ${line}`),
    );
    results.push({ scenario: BALANCERS, violations });
    const worst = Math.max(0, ...outMs).toFixed(0);
    say(
      `  ${violations.length} violations, ${stalled} waited for BFD (out after ${worst} ms at most): ${connections} connections, ${records} records`,
    );
  }
  if (isChosen(ETCD) && !values.kill) {
    const kinds = Object.keys(ETCD_FAULTS);
    const random = randomFrom(seed);
    const faults = Array.from({ length: Math.ceil(2 * Number(values.scale)) }, () => kinds)
      .flatMap((each) => each.map((fault) => ({ fault, place: random() })))
      .sort((a, b) => a.place - b.place)
      .map(({ fault }) => fault);
    const { violations, ...figures } = await runEtcd(faults, {
      ...{ name: 'chaos', backends: Number(values.backends), long: Number(values.long), short: Number(values.short) },
      ...{ seed, writes: 10, say: (line) => say(`  ${line}`) },
    });
    results.push({ scenario: ETCD, violations });
    say(`  ${violations.length} violations; ${JSON.stringify(figures)}`);
    for (const each of violations.slice(0, 10)) say(`  ${JSON.stringify(each)}`);
  }
  for (const scenario of chosen) {
    for (const killed of values.kill ? [true] : [false]) {
      say(`${scenario.name}: ${scenario.what}${killed ? '; a balancer is killed in the middle' : ''}`);
      const result = await runScenario(scenario, killed, {
        lab: 'chaos',
        backends: Number(values.backends),
        long: Number(values.long),
        short: Number(values.short),
        forwarding: scenario.forwarding ?? (isNat ? 'nat' : values.forwarding === 'gue' ? 'gue' : 'ipip'),
        seed,
        scale: Number(values.scale),
        say: (line) => say(`  ${line}`),
      });
      results.push(result);
      const { connections, records, violations, younger, seconds } = result;
      const beside = killed ? `, ${younger.length} connections younger than the change broke` : '';
      say(
        `  ${violations.length} violations${beside}: ${connections} connections, ${records} records, ${seconds.toFixed(0)} s`,
      );
      for (const each of violations.slice(0, 10)) say(`  ${JSON.stringify(each)}`);
    }
  }
  const failed = results.filter(({ violations }) => violations.length > 0);
  if (failed.length > 0) say(`FAILED: ${failed.map(({ scenario }) => scenario).join(', ')}; again with --seed ${seed}`);
  if (failed.length > 0) process.exitCode = 1;
}
