// SPDX-License-Identifier: Apache-2.0
// Nanoseconds per packet of tc_nat above a program that only redirects, by the method of bench/bpf/wrapper.c at TC.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { type NativeProgram, native } from '../src/dataplane/native.js';
import { type NatPath, TC } from '../test/support/nat-path.js';
import type { PacketSpec } from '../test/support/packets.js';
import { median } from './micro.js';
import { ACK, DEFAULT_ROOM, openNatNode, openNatTools, SYN, UDP } from './nat-path.js';

export interface MicroCase {
  readonly case: string;
  readonly ours: number; // ns above the floor
  readonly nftables: null;
  readonly unit: 'ns';
  readonly ratio: null;
  readonly floor: number; // ns
  readonly min: number; // above the median floor, as `max`
  readonly max: number;
  readonly wanted: number | null; // at most
}

const REPEAT = 1 << 18;
const MILLION = 1 << 20;

interface Test {
  readonly name: string;
  readonly flows: number;
  readonly room: number;
  readonly spec: PacketSpec;
  readonly wanted: number | null;
  /** Every packet begins a connection. */
  readonly flood?: boolean;
  /** Flood only: new connections per second let in. All when left out. */
  readonly budget?: number;
}

const TESTS: readonly Test[] = [
  { name: 'micro_1', flows: 1, room: DEFAULT_ROOM, spec: ACK, wanted: 90 },
  { name: 'micro_64k', flows: 65536, room: DEFAULT_ROOM, spec: ACK, wanted: 250 },
  { name: 'micro_64k_room_1m', flows: 65536, room: MILLION, spec: ACK, wanted: null },
  { name: 'micro_udp_1', flows: 1, room: DEFAULT_ROOM, spec: UDP, wanted: null },
  { name: 'micro_syn', flows: MILLION, room: MILLION, spec: SYN, wanted: 1500, flood: true },
  { name: 'micro_syn_budget', flows: MILLION, room: DEFAULT_ROOM, spec: SYN, wanted: null, flood: true, budget: 65536 },
];

/** Medians over interleaved rounds. Throws when a packet is not translated. */
export async function natMicro(rounds: number, log: (line: string) => void): Promise<MicroCase[]> {
  const tools = await openNatTools();
  const [wrapper, floor] = [tools.object.program('nat_wrapper'), tools.object.program('nat_floor')];
  const slot = tools.object.map('nat_under_test');
  const lo = native.interfaceIndex('lo');
  const warm = new Map<Test, NatPath>();

  /** Nanoseconds per packet; all of them must be redirected, but for a flood's that the budget stops. */
  async function run(program: NativeProgram, { name, budget }: Test, input: Buffer, repeat: number): Promise<number> {
    slot.set(new Uint8Array(4), new Uint8Array(Uint32Array.of(program.fd).buffer), 0);
    const { durationNs } = await wrapper.runMany(input, null, repeat, false);
    const { actions } = tools.end();
    const [redirected = 0, dropped = 0] = [actions[TC.REDIRECT], actions[TC.SHOT]];
    assert.equal(redirected + dropped, repeat, `${name}: packets are redirected or dropped, got ${actions}`);
    assert.ok(budget !== undefined || dropped === 0, `${name}: ${dropped} packets dropped`);
    return durationNs;
  }

  async function established(test: Test): Promise<NatPath> {
    const path = await openNatNode(test.room, lo);
    const { translator } = path;
    if (test.spec.protocol === 'tcp')
      await run(translator, test, tools.begin(SYN, test.flows, 'as they begin'), test.flows);
    await run(translator, test, tools.begin(test.spec, test.flows, 'as they begin'), test.flows);
    assert.equal(path.connections().length, test.flows, `${test.name}: connections`);
    return path;
  }

  const taken = new Map<Test, { floor: number[]; ours: number[] }>(
    TESTS.map((test) => [test, { floor: [], ours: [] }]),
  );
  for (let round = 0; round < rounds; round++) {
    for (const test of TESTS) {
      const { flows, spec, flood } = test;
      const figures = taken.get(test) ?? assert.fail();
      figures.floor.push(await run(floor, test, tools.begin(spec, flows, 'scattered'), REPEAT));
      if (flood) {
        const path = await openNatNode(test.room, lo, test.budget);
        figures.ours.push(await run(path.translator, test, tools.begin(spec, flows, 'scattered'), REPEAT));
        path.close();
        continue;
      }
      const path = warm.get(test) ?? (await established(test));
      warm.set(test, path);
      await run(path.translator, test, tools.begin(spec, flows, 'scattered'), Math.max(flows, 1 << 16));
      figures.ours.push(await run(path.translator, test, tools.begin(spec, flows, 'scattered'), REPEAT));
    }
    log(`micro: round ${round + 1} of ${rounds}`);
  }
  for (const path of warm.values()) path.close();
  tools.object.close();
  return TESTS.map((test) => {
    const figures = taken.get(test) ?? assert.fail();
    const base = median(figures.floor);
    const above = figures.ours.map((ns) => ns - base);
    return {
      case: test.name,
      ours: median(above),
      nftables: null,
      unit: 'ns',
      ratio: null,
      floor: base,
      min: Math.min(...above),
      max: Math.max(...above),
      wanted: test.wanted,
    };
  });
}

/** Bytes of kernel memory that the tables for a million connections take. */
export async function memoryPerMillion(): Promise<number> {
  const path = await openNatNode(MILLION, native.interfaceIndex('lo'));
  const maps = Object.values(path.tables.handle).map(({ info }) => info.id);
  const known = JSON.parse(
    execFileSync('bpftool', ['-j', 'map', 'show'], { encoding: 'utf8', maxBuffer: 1 << 26 }),
  ) as {
    id: number;
    bytes_memlock?: number;
  }[];
  const bytes = known.filter(({ id }) => maps.includes(id)).reduce((sum, { bytes_memlock: size = 0 }) => sum + size, 0);
  path.close();
  return Math.round((bytes * 1e6) / MILLION);
}
