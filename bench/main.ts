// SPDX-License-Identifier: Apache-2.0
import { readFileSync, writeFileSync } from 'node:fs';
import { cpus, release } from 'node:os';
import { parseArgs } from 'node:util';
import { microBench } from './micro.js';

const USAGE = `usage: npm run bench -- micro [--room FLOWS] [--rounds N] [--json FILE]

  micro   ns per packet of xdp_lb beside the floors (bench/bpf/floors.c)
          --room   flows per CPU of xdp_lb, a power of two (default 131072)
          --rounds interleaved rounds, at least 7 (default 21)`;

const machine = (): string => {
  const model = cpus()[0]?.model ?? 'unknown';
  return `${cpus().length} x ${model}`;
};

async function micro(room: number, rounds: number, json: string | undefined): Promise<void> {
  const cases = await microBench(rounds, room, (line) => process.stderr.write(`${line}\n`));
  const floorOf = (name: string, flows: number): number =>
    cases.find((c) => c.case === name && c.flows === flows && c.program === 'min_lb_ct')?.aboveFloorNs ?? Number.NaN;
  process.stdout.write(`room for ${room} flows per CPU; ns per packet above min_tx, ratio to min_lb_ct\n`);
  for (const row of cases) {
    const ratio = row.program === 'xdp_lb' ? (row.aboveFloorNs / floorOf(row.case, row.flows)).toFixed(2) : '';
    const columns = [row.case.padEnd(10), String(row.flows).padStart(8), row.program.padEnd(10)];
    const figures = [row.nsMedian, row.nsMin, row.nsMax, row.aboveFloorNs].map((ns) => ns.toFixed(0).padStart(6));
    process.stdout.write(`${[...columns, ...figures].join(' ')} ${ratio === 'NaN' ? '' : ratio}\n`);
  }
  if (json === undefined) return;
  const kernel = `${release()} ${readFileSync('/proc/sys/kernel/ostype', 'utf8').trim()}`;
  const report = { machine: machine(), kernel, date: new Date().toISOString(), room, rounds, cases };
  writeFileSync(json, `${JSON.stringify(report, null, 2)}\n`);
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    room: { type: 'string' },
    rounds: { type: 'string' },
    json: { type: 'string' },
    help: { type: 'boolean' },
  },
});
const room = Number(values.room ?? 131072);
const rounds = Number(values.rounds ?? 21);
const powerOfTwo = Number.isInteger(room) && room >= 1024 && (room & (room - 1)) === 0;
if (positionals[0] !== 'micro' || values.help || !powerOfTwo || !(rounds >= 7)) {
  process.stderr.write(`${USAGE}\n`);
  process.exitCode = values.help ? 0 : 2;
} else {
  await micro(room, rounds, values.json);
}
