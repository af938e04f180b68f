// SPDX-License-Identifier: Apache-2.0
// Nanoseconds per packet of xdp_lb and of the floors, by the method described in bench/bpf/wrapper.c.
import assert from 'node:assert/strict';
import { fileURLToPath } from 'node:url';
import { type NativeMap, type NativeObject, type NativeProgram, native } from '../src/dataplane/native.js';
import { ROW_WORDS, stableRows } from '../src/dataplane/tables.js';
import { openPacketPath, type PacketPath } from '../test/support/packet-path.js';
import { type PacketSpec, packet, TCP } from '../test/support/packets.js';
import { FEATURES, type Feature } from './feature-cases.js';
import { BenchState } from './wrapper.gen.js';

const FLOORS = ['min_tx', 'min_encap', 'min_lb_ct'] as const;
const PROGRAMS = [...FLOORS, 'xdp_lb'] as const;
export type ProgramName = (typeof PROGRAMS)[number];

export interface Case {
  readonly name: string;
  readonly flows: number;
  readonly spec: PacketSpec;
  /** Instead of what `spec` says, with what it needs. */
  readonly feature?: Feature;
  readonly programs: readonly ProgramName[];
  readonly action: 'tx' | 'pass';
  /** ServiceFlag bits the program is loaded with; 0 when left out, as the daemon does for such services. */
  readonly features?: number;
  /** So many flows are remembered; all when left out. */
  readonly newFlowsPerSecond?: number;
  /** Every row has had another owner. */
  readonly inTransition?: boolean;
}

export interface CaseResult {
  readonly case: string;
  readonly flows: number;
  readonly program: ProgramName;
  readonly nsMedian: number;
  readonly nsMin: number;
  readonly nsMax: number;
  readonly aboveFloorNs: number;
}

const VIP4 = '192.0.2.10';
const VIP6 = '2001:db8::10';
export const FRAME_SIZE = 80;
const XDP = { pass: 2, tx: 3 } as const;
/** Short runs, so that a slow moment of the machine meets all programs of a case. */
const REPEAT = 1 << 18;
const WARM_MIN = 1 << 16;
const DEFAULT_BUDGET = 65536;
const IPV4_TCP: PacketSpec = { from: '10.1.0.2', to: VIP4, fromPort: 40000, toPort: 80, protocol: 'tcp', payload: 26 };
const IPV6_TCP: PacketSpec = { from: 'fd00:1::2', to: VIP6, fromPort: 40000, toPort: 80, protocol: 'tcp', payload: 6 };

export const CASES: readonly Case[] = [
  { name: 'tcp4', flows: 1, spec: IPV4_TCP, programs: PROGRAMS, action: 'tx' },
  { name: 'tcp4', flows: 65536, spec: IPV4_TCP, programs: PROGRAMS, action: 'tx' },
  { name: 'tcp4', flows: 524288, spec: IPV4_TCP, programs: PROGRAMS, action: 'tx' },
  // Hardly one is remembered, so each packet goes by its row; then by a row with an owner before.
  { name: 'tcp4_row', flows: 4096, spec: IPV4_TCP, programs: PROGRAMS, action: 'tx', newFlowsPerSecond: 0 },
  {
    name: 'tcp4_transition',
    flows: 4096,
    spec: IPV4_TCP,
    programs: PROGRAMS,
    action: 'tx',
    newFlowsPerSecond: 0,
    inTransition: true,
  },
  { name: 'udp4', flows: 1, spec: { ...IPV4_TCP, protocol: 'udp', payload: 38 }, programs: PROGRAMS, action: 'tx' },
  { name: 'tcp6', flows: 1, spec: IPV6_TCP, programs: ['min_tx', 'xdp_lb'], action: 'tx' },
  { name: 'syn_flood', flows: 1048576, spec: { ...IPV4_TCP, flags: TCP.SYN }, programs: PROGRAMS, action: 'tx' },
  {
    name: 'not_ours',
    flows: 1,
    spec: { ...IPV4_TCP, to: '198.51.100.1' },
    programs: ['min_tx', 'min_lb_ct', 'xdp_lb'],
    action: 'pass',
  },
];

const FEATURE_CASES = FEATURES.map(
  (feature): Case => ({
    name: feature.name,
    flows: 1,
    spec: IPV4_TCP,
    feature,
    features: feature.flags,
    programs: PROGRAMS,
    action: 'tx',
  }),
);
const ALL_FEATURES: Case = {
  name: 'tcp4_all_on',
  flows: 1,
  spec: IPV4_TCP,
  programs: PROGRAMS,
  action: 'tx',
  features: 0xffff,
};
const ALL_CASES: readonly Case[] = [...CASES, ALL_FEATURES, ...FEATURE_CASES];
/** The floors know no features: they get the plain packet. */
export const frameOf = ({ feature, spec }: Case, program: ProgramName): Buffer =>
  (program === 'xdp_lb' && feature?.frame) || packet(spec);

const bytesOf = (value: number): Uint8Array => new Uint8Array(Uint32Array.of(value).buffer);
export const benchObject = (name: string): string =>
  fileURLToPath(new URL(`../../build/bench/${name}.bpf.o`, import.meta.url));

/** A packet path with a flow table of its own, so that no case meets another's flows. */
export async function openBalancer(test: Case, room: number, device = 'lo'): Promise<PacketPath> {
  // Half a million flows would take eight seconds to begin within the default budget: only the flood runs with it.
  const newFlowsPerSecond = test.newFlowsPerSecond ?? (test.name === 'syn_flood' ? DEFAULT_BUDGET : 1e9);
  const path = await openPacketPath({
    flowsPerCpu: room,
    newFlowsPerSecond,
    features: test.features ?? 0,
    icmpPerSecond: 1e9,
  });
  const owners = Uint16Array.from({ length: 65537 }, (_, row) => 1 + (row % 8));
  const way = { interface: native.interfaceIndex(device), onLink: true };
  for (let number = 1; number <= 8; number++) {
    path.backend(number, `10.9.0.${20 + number}`, 1, number, way);
    path.backend(8 + number, `fd00:9::${20 + number}`, 2, number, way);
  }
  const rows = stableRows(owners);
  if (test.inTransition) for (const [row, owner] of owners.entries()) rows[row * ROW_WORDS + 1] = 1 + (owner % 8);
  path.rows(1, 0, rows);
  path.ring(
    2,
    65537,
    owners.map((number) => 8 + number),
  );
  const flags = test.feature?.flags ?? 0;
  path.service(1, VIP4, 80, 'tcp', 1, 0, flags);
  path.service(2, VIP4, 80, 'udp', 1, 16, flags);
  path.service(3, VIP6, 80, 'tcp', 2, 32);
  await test.feature?.prepare?.(path);
  return path;
}

/** The floors, min_lb_ct with the same VIP, ring size and number of backends. */
export async function openFloors(): Promise<NativeObject> {
  const floors = native.openObject(benchObject('floors'));
  await floors.load();
  const [vips, ring, reals] = ['min_vips', 'min_ring', 'min_reals'].map((name) => floors.map(name)) as NativeMap[];
  for (const protocol of [6, 17]) {
    const key = Buffer.alloc(8);
    key.set([192, 0, 2, 10]);
    key.writeUInt16BE(80, 4);
    key.writeUInt16LE(protocol, 6);
    vips?.set(key, bytesOf(1), 0);
  }
  for (let row = 0; row < 65537; row++) ring?.set(bytesOf(row), bytesOf(row % 8), 0);
  for (let real = 0; real < 8; real++) reals?.set(bytesOf(real), Uint8Array.of(10, 9, 0, 21 + real), 0);
  return floors;
}

/** Runs one packet of the case through the program and looks at what came out. */
function checkOne(test: Case, program: NativeProgram, programName: ProgramName): void {
  const { name, spec, action, feature } = test;
  const input = frameOf(test, programName);
  assert.equal(input.length, FRAME_SIZE, `${name}: frame size`);
  const out = program.run(input, null);
  assert.equal(out.retval, programName === 'min_tx' ? XDP.tx : XDP[action], `${name}: action of ${programName}`);
  if (feature && programName === 'xdp_lb') return; // the packet tables look at what it becomes
  if (programName === 'min_tx' || action === 'pass') {
    assert.deepEqual(Buffer.from(out.data), input, `${name}: ${programName} leaves the frame as it was`);
    return;
  }
  const outer = spec.to.includes(':') ? 40 : 20;
  assert.equal(out.data.length, FRAME_SIZE + outer, `${name}: ${programName} encapsulates`);
  assert.deepEqual(
    Buffer.from(out.data.subarray(14 + outer)),
    input.subarray(14),
    `${name}: ${programName} keeps the inner packet`,
  );
}

const grownBy = ({ spec, action, feature }: Case, program: ProgramName): number =>
  feature && program === 'xdp_lb'
    ? feature.grown
    : action === 'pass' || program === 'min_tx'
      ? 0
      : spec.to.includes(':')
        ? 40
        : 20;

export const median = (values: readonly number[]): number => [...values].sort((a, b) => a - b)[values.length >> 1] ?? 0;

/** Ascending progress lines go to `log`. `room` is flows per CPU of xdp_lb; min_lb_ct always has a million. */
export async function microBench(rounds: number, room: number, log: (line: string) => void): Promise<CaseResult[]> {
  const floors = await openFloors();
  const balancers = new Map<Case, PacketPath>();
  for (const test of ALL_CASES) balancers.set(test, await openBalancer(test, room));
  const wrapperObject = native.openObject(benchObject('wrapper'));
  await wrapperObject.load();
  const wrapper = wrapperObject.program('wrapper');
  const slot = wrapperObject.map('under_test');
  const stateMap = wrapperObject.map('bench');
  const minimal = new Map<ProgramName, NativeProgram>(FLOORS.map((name) => [name, floors.program(name)] as const));

  async function run(test: Case, program: ProgramName, repeat: number): Promise<number> {
    const state = {
      template: frameOf(test, program),
      counter: 0n,
      actions: new Uint8Array(64),
      sizeSum: 0n,
      restoreFailures: 0n,
    };
    const shape = { frameSize: FRAME_SIZE, flowMask: test.flows - 1, ipv6: test.spec.to.includes(':') ? 1 : 0 };
    stateMap.set(bytesOf(0), BenchState.encode({ ...state, ...shape }), 0);
    const { durationNs } = await wrapper.runMany(frameOf(test, program), null, repeat, false);
    const after = BenchState.decode(stateMap.get(bytesOf(0)) ?? new Uint8Array(BenchState.size));
    const actions = new BigUint64Array(after.actions.buffer);
    const action = program === 'min_tx' ? XDP.tx : XDP[test.action];
    const where = `${test.name} with ${test.flows} flows, ${program}`;
    assert.equal(actions[action], BigInt(repeat), `${where}: every packet ends in action ${action}, got ${actions}`);
    assert.equal(after.sizeSum, BigInt(repeat * (FRAME_SIZE + grownBy(test, program))), `${where}: sizes`);
    assert.equal(after.restoreFailures, 0n, `${where}: the frame could be restored`);
    return durationNs;
  }

  const taken = new Map<string, number[]>();
  for (let round = 0; round < rounds; round++) {
    for (const test of ALL_CASES) {
      // Two packets of each flow and it is established; afterwards a pass brings the tables back into the caches.
      const warm = test.name === 'syn_flood' ? REPEAT : Math.max((round === 0 ? 2 : 1) * test.flows, WARM_MIN);
      for (const name of test.programs) {
        const program = minimal.get(name) ?? balancers.get(test)?.program;
        if (!program) continue;
        if (round === 0) checkOne(test, program, name);
        slot.set(bytesOf(0), bytesOf(program.fd), 0);
        if (name !== 'min_tx') await run(test, name, warm);
        const key = `${test.name}/${test.flows}/${name}`;
        taken.set(key, [...(taken.get(key) ?? []), await run(test, name, Math.max(test.flows, REPEAT))]);
      }
    }
    log(`round ${round + 1} of ${rounds}`);
  }
  const results = ALL_CASES.flatMap((test) => {
    const floor = median(taken.get(`${test.name}/${test.flows}/min_tx`) ?? []);
    return test.programs.map((program) => {
      const values = taken.get(`${test.name}/${test.flows}/${program}`) ?? [];
      const nsMedian = median(values);
      return {
        case: test.name,
        flows: test.flows,
        program,
        nsMedian,
        nsMin: Math.min(...values),
        nsMax: Math.max(...values),
        aboveFloorNs: nsMedian - floor,
      };
    });
  });
  wrapperObject.close();
  floors.close();
  for (const path of balancers.values()) path.close();
  return results;
}
