// SPDX-License-Identifier: Apache-2.0
// Runs single packets through a packet path and says what became of them.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readOutcomes } from '../../src/dataplane/counters.js';
import type { NativeRun } from '../../src/dataplane/native.js';
import { type Action, REASON_NAMES } from '../../src/dataplane/reasons.js';
import { NEXT_HOP_MAC, type PacketPath, SOURCE_MAC } from './packet-path.js';
import { tunnelled, type Way } from './packets.js';

/** By the number the kernel uses: XDP_ABORTED is 0. */
const ACTIONS: readonly Action[] = ['aborted', 'drop', 'pass', 'tx', 'redirect'];

export interface Verdict {
  readonly action: Action;
  readonly reason: number;
  readonly out: Buffer; // the frame as it left
}

export type Send = (frame: Uint8Array, context?: Uint8Array) => Verdict;

const actionNamed = (run: NativeRun): Action => ACTIONS[run.retval] ?? assert.fail(`action ${run.retval}`);

/** A function that sends one frame and fails unless exactly one outcome was counted for it. */
export function sender(path: PacketPath): Send {
  let before = readOutcomes(path.maps, 0);
  return (frame, context) => {
    const run = path.program.run(frame, context ?? null);
    const after = readOutcomes(path.maps, 0);
    const grown = after.flatMap((count, reason) => Array<number>(count - (before[reason] ?? 0)).fill(reason));
    before = after;
    const [reason = -1] = grown;
    assert.equal(grown.length, 1, `counted as [${grown.map((at) => REASON_NAMES[at])}], wanted one reason`);
    return { action: actionNamed(run), reason, out: Buffer.from(run.data) };
  };
}

/** The frame's IP packet and what is behind it, without Ethernet header and VLAN tags. */
export function packetOf(frame: Buffer): Buffer {
  let at = 12;
  while ([0x8100, 0x88a8].includes(frame.readUInt16BE(at))) at += 4;
  return frame.subarray(at + 2);
}

/** The frame as it has to leave. Flow label and GUE's source port are the node's own, and taken from `out`. */
export function sentTo(frame: Buffer, way: Pick<Way, 'to' | 'form'> & { tags?: Buffer }, out: Buffer): Buffer {
  const l3 = 14 + (way.tags?.length ?? 0);
  const v6 = way.to.includes(':');
  const outer = tunnelled(packetOf(frame), {
    ...way,
    from4: '10.9.0.10',
    from6: 'fd00:9::10',
    flowLabel: v6 && way.form !== 'l2' ? out.readUInt32BE(l3) & 0xfffff : 0,
    sourcePort: way.form === 'gue' ? out.readUInt16BE(l3 + (v6 ? 40 : 20)) | 0xc000 : 0,
  });
  const type = Buffer.from(outer.readUInt8(0) >> 4 === 6 ? '86dd' : '0800', 'hex');
  return Buffer.concat([NEXT_HOP_MAC, SOURCE_MAC, way.tags ?? Buffer.alloc(0), type, outer]);
}

/** Keeps this thread on one CPU: the flow table is per CPU. */
export function pinTo(cpu: number | string): void {
  execFileSync('taskset', ['-cp', String(cpu), String(process.pid)]);
}
