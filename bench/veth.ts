// SPDX-License-Identifier: Apache-2.0
// End to end over veth, in a network namespace and on a CPU of its own: a generator of live frames, the balancer, a sink.
// The loop is closed: one CPU does all three in turn, so nobody overruns anybody, and what the sink counts is checked.
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { type NativeProgram, native } from '../src/dataplane/native.js';
import {
  benchObject,
  CASES,
  type Case,
  FRAME_SIZE,
  frameOf,
  median,
  openBalancer,
  openFloors,
  type ProgramName,
} from './micro.js';
import { BenchState } from './wrapper.gen.js';

export interface VethResult {
  readonly case: string;
  readonly flows: number;
  readonly program: ProgramName;
  readonly mppsMedian: number;
  readonly mppsMin: number;
  readonly mppsMax: number;
}

const PACKETS = 1 << 20;
const OUTER = 20;
const PROGRAMS = ['min_tx', 'min_lb_ct', 'xdp_lb'] as const;
const DROP = 1;
const chosen = ({ name, flows }: Case): boolean => name === 'syn_flood' || (name === 'tcp4' && flows <= 65536);
const KEY = new Uint8Array(4);

/** struct xdp_md of a frame that comes in by the interface. */
const comesInBy = (index: number): Uint8Array => new Uint8Array(Uint32Array.of(0, FRAME_SIZE, 0, index, 0, 0).buffer);

async function inside(rounds: number, room: number): Promise<VethResult[]> {
  for (const line of [
    'link add gen type veth peer name lb',
    'link set gen addrgenmode none up',
    'link set lb addrgenmode none up',
  ])
    execFileSync('ip', line.split(' '));
  const object = native.openObject(benchObject('wrapper'));
  await object.load();
  const [generate, sink, state] = [object.program('generate'), object.program('sink'), object.map('bench')];
  const floors = await openFloors();
  const end = await native.attachXdp(sink, 'gen', null, 'native');
  const balancer = await native.attachXdp(floors.program('min_tx'), 'lb', null, 'native');
  const context = comesInBy(native.interfaceIndex('gen'));

  /** Mpps. */
  async function run(test: Case, name: ProgramName, packets: number): Promise<number> {
    const frame = frameOf(test, name);
    const zero = { counter: 0n, actions: new Uint8Array(64), sizeSum: 0n, restoreFailures: 0n, ipv6: 0 };
    state.set(KEY, BenchState.encode({ ...zero, template: frame, frameSize: FRAME_SIZE, flowMask: test.flows - 1 }), 0);
    const { durationNs } = await generate.runMany(frame, context, packets, true);
    await sleep(20); // the last frames may still be on their way
    const after = BenchState.decode(state.get(KEY) ?? assert.fail());
    const where = `${test.name} with ${test.flows} flows, ${name}`;
    const size = BigInt(FRAME_SIZE + (name === 'min_tx' ? 0 : OUTER));
    assert.equal(new BigUint64Array(after.actions.buffer)[DROP], BigInt(packets), `${where}: all arrive`);
    assert.equal(after.sizeSum, BigInt(packets) * size, `${where}: sizes`);
    return 1000 / durationNs;
  }

  const tests = CASES.filter(chosen);
  const paths = await Promise.all(tests.map((test) => openBalancer(test, room, 'lb')));
  const minimal = new Map<ProgramName, NativeProgram>(PROGRAMS.slice(0, 2).map((name) => [name, floors.program(name)]));
  const taken = new Map<string, number[]>();
  const key = (test: Case, name: ProgramName): string => `${test.name}/${test.flows}/${name}`;
  for (let round = 0; round < rounds; round++) {
    for (const [at, test] of tests.entries()) {
      for (const name of PROGRAMS) {
        await balancer.update(minimal.get(name) ?? paths[at]?.program ?? assert.fail(), null);
        await run(test, name, Math.max(2 * test.flows, 1 << 16));
        taken.set(key(test, name), [...(taken.get(key(test, name)) ?? []), await run(test, name, PACKETS)]);
      }
    }
  }
  for (const link of [end, balancer]) link.close();
  return tests.flatMap((test) =>
    PROGRAMS.map((program) => {
      const mpps = taken.get(key(test, program)) ?? [];
      const ends = { mppsMedian: median(mpps), mppsMin: Math.min(...mpps), mppsMax: Math.max(...mpps) };
      return { case: test.name, flows: test.flows, program, ...ends };
    }),
  );
}

/** `rounds` and `room` as of microBench. Throws when a frame is lost or not encapsulated. */
export function vethBench(rounds: number, room: number): VethResult[] {
  // The last CPU: the first one has most of the interrupts.
  const cpu = String(native.possibleCpus() - 1);
  const self = [process.execPath, '--enable-source-maps', fileURLToPath(import.meta.url), String(rounds), String(room)];
  const child = spawnSync('unshare', ['-n', 'taskset', '-c', cpu, ...self], { stdio: ['ignore', 'pipe', 'inherit'] });
  if (child.status !== 0) throw new Error('the bench over veth failed');
  return JSON.parse(child.stdout.toString());
}

const [, file, rounds, room] = process.argv;
if (file?.endsWith('veth.js')) process.stdout.write(JSON.stringify(await inside(Number(rounds), Number(room))));
