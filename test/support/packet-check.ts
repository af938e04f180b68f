// SPDX-License-Identifier: Apache-2.0
// Runs one case of the packet tables and compares everything it leaves behind.
import assert from 'node:assert/strict';
import { Counters, Reason, Tally } from '../../src/dataplane/abi.gen.js';
import type { NativeMap } from '../../src/dataplane/native.js';
import { actionOf, REASON_NAMES } from '../../src/dataplane/reasons.js';
import { countersOf, type PacketCase, SLOTS, u32 } from './cases/table.js';
import type { PacketPath } from './packet-path.js';
import { packetOf, sender, sentTo } from './packet-run.js';
import { ipSizeOf } from './packets.js';

/** Services from here on have counters of their own; those of the others are below COUNTERS. */
const FIRST_DECLARED = 30;
const COUNTERS = 64;
/** A tally and a reason may have one name. */
const TALLY_NAMES = Object.keys(Tally).map((name) => `tally ${name.toLowerCase()}`);
const WORDS = Counters.size / 8;
const TRAFFIC = ['packets', 'bytes', 'connections', 'pad'];

/** Sums over the CPUs of `count` entries of a per-CPU array, `words` u64 each. */
function sums(map: NativeMap, first: number, count: number, words: number): number[] {
  return Array.from({ length: count }, (_, entry) => {
    const value = map.get(u32(first + entry)) ?? new Uint8Array();
    const all = new BigUint64Array(value.slice().buffer);
    return Array.from({ length: words }, (_, word) =>
      Number(all.reduce((sum, each, at) => (at % words === word ? sum + each : sum), 0n)),
    );
  }).flat();
}

/** All counts of a service, and of the service that is not known; by name. */
function read({ maps: { handle } }: PacketPath, service: number): Map<string, number> {
  const counts = new Map<string, number>();
  for (const number of new Set([0, service])) {
    const told = sums(handle.service_outcomes, number, 1, Reason.COUNT);
    for (const [reason, count] of told.entries()) counts.set(`${number}/${REASON_NAMES[reason]}`, count);
    const tallies = sums(handle.tallies, number, 1, Tally.COUNT);
    for (const [tally, count] of tallies.entries()) counts.set(`${number}/${TALLY_NAMES[tally]}`, count);
  }
  const [first, entries] = service < FIRST_DECLARED ? [0, COUNTERS] : [countersOf(service), SLOTS];
  const traffic = sums(handle.counters, first, entries, WORDS);
  for (const [at, count] of traffic.entries())
    counts.set(`${TRAFFIC[at % WORDS]} ${first + Math.floor(at / WORDS)}`, count);
  return counts;
}

/** A function that runs a case on the path. */
export function checker(path: PacketPath): (one: PacketCase) => void {
  return (one) => {
    one.state?.(path);
    const service = one.service ?? 0;
    const before = read(path, service);
    const { action, reason, out } = sender(path)(one.packet, one.context);
    assert.equal(REASON_NAMES[reason], REASON_NAMES[one.reason]);
    assert.equal(action, one.action);
    assert.equal(action, actionOf(reason), 'actionOf agrees with finish()');
    const whole = one.out ?? one.packet;
    const expected = one.to === undefined ? whole : sentTo(whole, { ...one, to: one.to }, out);
    assert.equal(out.toString('hex'), expected.toString('hex'));
    const sent = reason === Reason.FORWARDED || reason === Reason.REDIRECTED;
    const names = [...(one.tallies ?? [])].map((tally) => TALLY_NAMES[tally]);
    if (action !== 'pass' && !sent) names.unshift(REASON_NAMES[reason]);
    const found = [...read(path, service)].flatMap(([name, count]) => {
      const by = count - (before.get(name) ?? 0);
      return by === 0 ? [] : [`${name} x ${by}`];
    });
    const isTraffic = (line: string): boolean => !line.includes('/');
    assert.deepEqual(
      found.filter((line) => !isTraffic(line)),
      names.map((name) => `${service}/${name} x 1`),
    );
    const traffic = found.filter(isTraffic);
    if (!sent) return assert.deepEqual(traffic, [], 'nothing counted as traffic');
    const index = traffic[0]?.split(' ')[1];
    const begins = one.begins ?? traffic.length > 2;
    assert.deepEqual(traffic, [
      `packets ${index} x 1`,
      `bytes ${index} x ${ipSizeOf(packetOf(one.packet))}`,
      ...(begins ? [`connections ${index} x 1`] : []),
    ]);
  };
}
