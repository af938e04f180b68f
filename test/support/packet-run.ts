// SPDX-License-Identifier: Apache-2.0
// Runs single packets through a packet path and says what became of them.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readOutcomes } from '../../src/dataplane/counters.js';
import type { NativeRun } from '../../src/dataplane/native.js';
import { type Action, REASON_NAMES } from '../../src/dataplane/reasons.js';
import { NEXT_HOP_MAC, type PacketPath, SOURCE_MAC } from './packet-path.js';
import { ipv4Header, ipv6Header } from './packets.js';

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

/** Bytes of the IP packet in a frame, from its own header. */
export const ipSize = (frame: Buffer): number =>
  frame.readUInt16BE(12) === 0x86dd ? 40 + frame.readUInt16BE(18) : frame.readUInt16BE(16);

/** The frame as it has to leave for the backend at `to`. The flow label of IPv6 is taken from `out`: the node's own. */
export function encapsulated(frame: Buffer, to: string, out: Buffer): Buffer {
  const size = ipSize(frame);
  const outer = to.includes(':')
    ? ipv6Header('fd00:9::10', to, 41, size, {
        trafficClass: (frame.readUInt16BE(14) >> 4) & 0xff,
        flowLabel: out.readUInt32BE(14) & 0xfffff,
      })
    : ipv4Header('10.9.0.10', to, 4, size, { tos: frame.readUInt8(15) });
  return Buffer.concat([NEXT_HOP_MAC, SOURCE_MAC, frame.subarray(12, 14), outer, frame.subarray(14)]);
}

/** Keeps this thread on one CPU: the flow table is per CPU. */
export function pinTo(cpu: number): void {
  execFileSync('taskset', ['-cp', String(cpu), String(process.pid)]);
}
