// SPDX-License-Identifier: Apache-2.0
// Whether the packet path did what the model says: per packet its action, reason and bytes; per window the counters.
import { Reason, Tally } from '../../src/dataplane/abi.gen.js';
import type { Maps } from '../../src/dataplane/maps.js';
import type { NativeMap, NativeRun } from '../../src/dataplane/native.js';
import { type Action, actionOf, REASON_NAMES } from '../../src/dataplane/reasons.js';
import { pseudoSum, sum } from '../model/outer.js';
import type { Verdict, World } from '../model/world.js';

/** By the number the kernel uses: XDP_ABORTED is 0. */
const ACTIONS: readonly Action[] = ['aborted', 'drop', 'pass', 'tx', 'redirect'];

/** What the node's own hash made of a flow so far. */
export type Entropy = Map<string, number>;

const key = new Uint32Array(1);
const keyBytes = new Uint8Array(key.buffer);

function perCpu(map: NativeMap, index: number, words: number): number[] {
  key[0] = index;
  const value = map.get(keyBytes);
  const sums = Array<number>(words).fill(0);
  if (!value) return sums;
  const view = new DataView(value.buffer, value.byteOffset, value.byteLength);
  for (let at = 0; at < value.byteLength; at += 8) {
    const word = (at >> 3) % words;
    sums[word] = (sums[word] ?? 0) + Number(view.getBigUint64(at, true));
  }
  return sums;
}

export const outcome = (maps: Maps, reason: number): number => perCpu(maps.handle.outcomes, reason, 1)[0] ?? 0;

/** What differs in action and bytes; null: nothing. */
export function differs(verdict: Verdict, run: NativeRun, entropy: Entropy): string | null {
  const action = ACTIONS[run.retval];
  if (action !== actionOf(verdict.reason)) return `action ${action}, wanted ${actionOf(verdict.reason)}`;
  if (verdict.out === null) return null;
  const got = Buffer.from(run.data.buffer, run.data.byteOffset, run.data.byteLength);
  const wanted = verdict.out;
  if (got.length === wanted.length) {
    for (const { at, shift, mask, flow, least } of verdict.open) {
      const value = (got.readUInt32BE(at) >>> shift) & mask;
      if (value < least) return `${flow ?? 'entropy'}: ${value}, wanted ${least} or more`;
      if (flow !== null && (entropy.get(flow) ?? value) !== value) {
        return `entropy ${value}, and ${entropy.get(flow)} in another packet of the flow`;
      }
      if (flow !== null) entropy.set(flow, value);
      const rest = wanted.readUInt32BE(at) & ~(mask << shift);
      wanted.writeUInt32BE((rest | (value << shift)) >>> 0, at);
    }
    if (verdict.tunnelChecksum) fillChecksum(wanted, got, verdict.tunnelChecksum);
  }
  return wanted.equals(got) ? null : `out\n    got    ${got.toString('hex')}\n    wanted ${wanted.toString('hex')}`;
}

/** The checksum of UDP over IPv6 in a tunnel, over all it covers, whatever way the packet path took to it. */
function fillChecksum(wanted: Buffer, got: Buffer, { at, holds }: Verdict['tunnelChecksum'] & object): void {
  const udp = at - 6;
  const size = wanted.readUInt16BE(udp + 4);
  wanted.writeUInt16BE(0, at);
  const pseudo = pseudoSum(wanted.subarray(udp - 32, udp - 16), wanted.subarray(udp - 16, udp), 17, size);
  const value = ~sum(wanted.subarray(udp, udp + size), pseudo) & 0xffff || 0xffff;
  wanted.writeUInt16BE(holds ? value : got.readUInt16BE(at), at);
}

/** Counts by name, such as `service 3: drops denied`. */
export type Counts = Map<string, number>;

export function count(counts: Counts, name: string, by = 1): void {
  counts.set(name, (counts.get(name) ?? 0) + by);
}

const TALLY_NAMES = Object.keys(Tally).slice(0, Tally.COUNT);
const DROPPED = (reason: number): boolean => {
  const action = actionOf(reason);
  const answered: readonly number[] = [Reason.ECHO_ANSWERED, Reason.TOO_BIG_ANSWERED];
  return action === 'drop' || action === 'aborted' || answered.includes(reason);
};

/** Adds what a verdict says is counted. */
export function expect(counts: Counts, verdict: Verdict): void {
  const { reason, service, tallies, counted, connection } = verdict;
  if (DROPPED(reason)) count(counts, `service ${service}: ${REASON_NAMES[reason]}`);
  for (const tally of tallies) count(counts, `service ${verdict.of ?? service}: ${TALLY_NAMES[tally]}`);
  if (counted) {
    count(counts, `counters ${counted.index}: packets`);
    count(counts, `counters ${counted.index}: bytes`, counted.bytes);
  }
  if (connection !== undefined) count(counts, `counters ${connection}: connections`);
}

/** All the kernel counted, by the same names; zeros left out. */
export function readCounts(maps: Maps, world: World): Counts {
  const counts: Counts = new Map();
  const note = (name: string, value: number): void => void (value !== 0 && counts.set(name, value));
  const numbers = [0, ...[...world.services.values()].map(({ number }) => number)];
  for (const number of numbers) {
    const ends = perCpu(maps.handle.service_outcomes, number, Reason.COUNT);
    for (const [reason, name] of REASON_NAMES.entries()) note(`service ${number}: ${name}`, ends[reason] ?? 0);
    const tallies = perCpu(maps.handle.tallies, number, Tally.COUNT);
    for (const [tally, name] of TALLY_NAMES.entries()) note(`service ${number}: ${name}`, tallies[tally] ?? 0);
  }
  for (const { countersStart } of world.services.values()) {
    for (let slot = 0; slot < 8; slot++) {
      const [packets = 0, bytes = 0, connections = 0] = perCpu(maps.handle.counters, countersStart + slot, 4);
      note(`counters ${countersStart + slot}: packets`, packets);
      note(`counters ${countersStart + slot}: bytes`, bytes);
      note(`counters ${countersStart + slot}: connections`, connections);
    }
  }
  return counts;
}

/** One line for each count that grew by another number than expected. */
export function countsDiffer(before: Counts, after: Counts, expected: Counts): string[] {
  const names = new Set([...before.keys(), ...after.keys(), ...expected.keys()]);
  return [...names].flatMap((name) => {
    const grown = (after.get(name) ?? 0) - (before.get(name) ?? 0);
    const wanted = expected.get(name) ?? 0;
    return grown === wanted ? [] : [`${name}: ${grown} more, wanted ${wanted}`];
  });
}
