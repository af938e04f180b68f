// SPDX-License-Identifier: Apache-2.0
import { writeFileSync } from 'node:fs';
import { cpus, release, type } from 'node:os';
import { parseArgs } from 'node:util';
import { agentBench } from './agent.js';
import { flowsBench } from './flows.js';
import { historyBench } from './history.js';
import { type CaseResult, microBench } from './micro.js';
import { natBench } from './nat.js';
import { ringBench } from './ring.js';
import { syncBench } from './sync.js';
import { vethBench } from './veth.js';

const USAGE = `usage: npm run bench -- <what> [--json FILE]

  micro   ns per packet of xdp_lb beside the floors (bench/bpf/floors.c)
          --room FLOWS  flows per CPU of xdp_lb, a power of two (default 131072)
          --rounds N    interleaved rounds, at least 7 (default 21)
  veth    Mpps from end to end over veth, on one CPU; options as of micro
  agent   what a backend pays for a tunnel packet: the agent beside decapsulation alone
  nat     services in NAT mode beside nftables, over veth; and tc_nat by the packet
  sync    from a write in etcd to the packet that follows it; a large cluster's start, and its rest
  flows   a million flow records into a sorted top 100
  ring    building rings, and what a change of members moves
  history flows broken when a node is lost while its pools change (simulated)`;

interface Options {
  readonly room: number;
  readonly rounds: number;
}

const say = (line: string): void => void process.stdout.write(`${line}\n`);

function tellMicro(cases: readonly CaseResult[], room: number): void {
  const rival = (name: string, flows: number): number =>
    cases.find((c) => c.case === name && c.flows === flows && c.program === 'min_lb_ct')?.aboveFloorNs ?? Number.NaN;
  say(`room for ${room} flows per CPU; ns per packet`);
  say('case               flows program    median    min    max  above floor  of min_lb_ct');
  for (const row of cases) {
    const ratio = row.program === 'xdp_lb' ? row.aboveFloorNs / rival(row.case, row.flows) : Number.NaN;
    const figures = [row.nsMedian, row.nsMin, row.nsMax].map((ns) => ns.toFixed(0).padStart(6)).join(' ');
    const head = `${row.case.padEnd(15)} ${String(row.flows).padStart(8)} ${row.program.padEnd(10)}`;
    say(
      `${head} ${figures} ${row.aboveFloorNs.toFixed(0).padStart(12)}  ${Number.isNaN(ratio) ? '' : ratio.toFixed(2)}`,
    );
  }
}

const BENCHES: Readonly<Record<string, (options: Options) => Promise<object>>> = {
  async micro({ room, rounds }) {
    const cases = await microBench(rounds, room, (line) => process.stderr.write(`${line}\n`));
    tellMicro(cases, room);
    return { room, rounds, cases };
  },
  async veth({ room, rounds }) {
    const cases = vethBench(rounds, room);
    for (const { case: name, flows, program, mppsMedian, mppsMin, mppsMax } of cases) {
      const figures = [mppsMedian, mppsMin, mppsMax].map((mpps) => mpps.toFixed(2).padStart(6)).join(' ');
      say(`${name.padEnd(10)} ${String(flows).padStart(8)} ${program.padEnd(10)} ${figures} Mpps: median, min, max`);
    }
    return { room, rounds, cases };
  },
  async agent({ rounds }) {
    const cases = await agentBench(rounds);
    console.table(cases);
    return { rounds, cases };
  },
  async nat({ rounds }) {
    const result = await natBench(rounds, (line) => process.stderr.write(`${line}\n`));
    console.table(
      result.cases.map(({ case: name, ours, nftables, unit, ratio, wanted }) => ({
        case: name,
        ours: Number(ours.toPrecision(4)),
        nftables: nftables === null ? '' : Number(nftables.toPrecision(4)),
        unit,
        ratio: ratio === null ? '' : ratio.toFixed(2),
        wanted: wanted ?? '',
      })),
    );
    say(`tables for a million connections: ${(result.memoryBytesPerMillion / 1e6).toFixed(0)} MB`);
    return { rounds, ...result };
  },
  async sync() {
    const result = syncBench();
    console.table(result.follow);
    console.table([result.quiet]);
    console.table(result.sizes);
    return result;
  },
  async flows({ rounds }) {
    const cases = await flowsBench(rounds);
    console.table(cases);
    return { rounds, cases };
  },
  async history() {
    const seed = 20261129;
    const cases = await historyBench(seed, (line) => process.stderr.write(`${line}\n`));
    const percent = ({ mean, max }: { mean: number; max: number }): string => `${mean.toFixed(2)} (${max.toFixed(2)})`;
    say('percent of the flows alive that break when their node is lost: mean over moments (worst)');
    console.table(
      cases.map(({ ownerOnly, ipip, ipipYounger, secondChance, deferredMaxPercent, maxOverAverage, ...row }) => ({
        ...row,
        'owner only': percent(ownerOnly),
        'with history': percent(ipip),
        'of these, younger': percent(ipipYounger),
        'second chance': percent(secondChance),
        'rows deferred %': deferredMaxPercent.toFixed(2),
        'max/avg': maxOverAverage.toFixed(3),
      })),
    );
    return { seed, cases };
  },
  async ring() {
    const result = await ringBench();
    for (const [title, rows] of Object.entries(result)) {
      say(`\n${title}`);
      console.table(rows);
    }
    return result;
  },
};

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
const bench = BENCHES[positionals[0] ?? ''];
const powerOfTwo = Number.isInteger(room) && room >= 1024 && (room & (room - 1)) === 0;
if (!bench || values.help || !powerOfTwo || !Number.isInteger(rounds) || rounds < 7) {
  process.stderr.write(`${USAGE}\n`);
  process.exitCode = values.help ? 0 : 2;
} else {
  const result = await bench({ room, rounds });
  const machine = `${cpus().length} x ${cpus()[0]?.model ?? 'unknown'}`;
  const report = { machine, kernel: `${type()} ${release()}`, date: new Date().toISOString(), ...result };
  if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(report, null, 2)}\n`);
}
