// SPDX-License-Identifier: Apache-2.0
// NAT on Debian's 6.1, which has no tcx: a balancer in qemu, attached by clsact, with TCP connections through it.
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { bootGuest, MISSING } from './machine.js';

let lines: ReadonlyMap<string, string> = new Map();

before(async () => {
  if (MISSING) return;
  const said = (await bootGuest('nat-guest')).filter((line) => line.startsWith('guest '));
  lines = new Map(said.map((line) => [line.split(' ')[1] ?? '', line.split(' ').slice(2).join(' ')]));
});

const says = (wanted: Readonly<Record<string, string>>): void => {
  const got = Object.fromEntries(Object.keys(wanted).map((key) => [key, lines.get(key)]));
  assert.deepEqual(got, wanted, [...lines].map((line) => line.join(' ')).join('\n'));
};
const WHOLE = (who: string): string => `${who} ${`${who} `.length + 100_000}`;

test('clsact: chosen where there is no tcx, and carries TCP by service and by egress', { skip: MISSING }, () => {
  says({
    modes: 'cl/tc_nat/clsact be/tc_nat/clsact be/tc_nat_out/clsact',
    filters: 'tc_nat tc_nat tc_nat_out',
    service: WHOLE('10.9.0.1'),
    egress: WHOLE('10.9.0.50'),
  });
});

test('clsact: stays without a daemon, is adopted by the next, and replaced by another program', {
  skip: MISSING,
}, () => {
  says({
    without: WHOLE('10.9.0.1'),
    adopted: 'true',
    replaced: 'true',
    after: WHOLE('10.9.0.1'),
  });
});

test("clsact: detach takes ours off, leaves another's filter, and the qdisc that has it", { skip: MISSING }, () => {
  says({
    detached: ['be', 'be', 'cl', 'cl'].map((name) => `program taken off: ${name}`).join(', '),
    left: '- - - tc_nat_out',
    empty: 'false false',
  });
});
