// SPDX-License-Identifier: Apache-2.0
// Runs steps through the packet path and the model, side by side.
import { type Action, actionOf, REASON_NAMES } from '../../src/dataplane/reasons.js';
import { model } from '../model/model.js';
import type { ModelBackend, ModelPool, World } from '../model/world.js';
import type { PacketPath } from '../support/packet-path.js';
import { type Counts, countsDiffer, differs, type Entropy, expect, outcome, readCounts } from './compare.js';
import { ONE_BUFFER, type Step } from './steps.js';
import { forgetFragments, putBackend, putRing, putWorld } from './tables.js';

export interface Difference {
  readonly step: number;
  /** At a 'forget' it is the counters that differ: it may have been any packet since the last one. */
  readonly text: string;
}

/** How a path has been used: by how often each reason was reached, and frames sent. */
export interface Tried {
  frames: number;
  /** Runs given up because the machine stood still for as long as fragments are remembered. */
  stalls: number;
  readonly reasons: number[];
}

const SENT: readonly Action[] = ['tx', 'redirect'];

/** Fragments are remembered for two seconds; what took longer than this since the last 'forget' proves nothing. */
const STALLED_MS = 1500;

/** The struct xdp_md of a frame whose first buffer has `linear` of its bytes; null where that is so by itself. */
export function firstBuffer(linear: number, size: number): Uint8Array | null {
  if (linear === Math.min(size, ONE_BUFFER)) return null;
  return new Uint8Array(Uint32Array.of(0, linear, 0, 1, 0, 0).buffer);
}

/** Runs all steps on a world as it was made; the first difference, or null. */
export async function runSteps(
  path: PacketPath,
  world: World,
  steps: readonly Step[],
  tried: Tried,
): Promise<Difference | null> {
  const { maps } = path;
  await putWorld(maps, world);
  const entropy: Entropy = new Map();
  const counted = REASON_NAMES.map((_, reason) => outcome(maps, reason));
  let before = readCounts(maps, world);
  let expected: Counts = new Map();
  const check = (): string | null => {
    const after = readCounts(maps, world);
    const lines = countsDiffer(before, after, expected);
    for (const [reason, total] of counted.entries()) {
      if (outcome(maps, reason) !== total)
        lines.push(`${REASON_NAMES[reason]}: ${outcome(maps, reason)}, wanted ${total}`);
    }
    before = after;
    expected = new Map();
    return lines.length > 0 ? lines.join('\n    ') : null;
  };
  let remembered = performance.now();
  for (const [at, step] of steps.entries()) {
    const found = (text: string): Difference | null => {
      if (performance.now() - remembered < STALLED_MS) return { step: at, text };
      tried.stalls++;
      return null;
    };
    if (step === 'forget') {
      const text = check();
      if (text !== null) return found(text);
      await forgetFragments(maps, world);
      remembered = performance.now();
    } else if ('frame' in step) {
      const verdict = model(world, step.frame, step.linear);
      expect(expected, verdict);
      const run = path.program.run(step.frame, firstBuffer(step.linear, step.frame.length));
      const text = differs(verdict, run, entropy);
      tried.frames++;
      tried.reasons[verdict.reason] = (tried.reasons[verdict.reason] ?? 0) + 1;
      const wanted = REASON_NAMES[verdict.reason];
      // The bytes of what is sent tell its reason; the others are told apart by their counts only.
      if (text !== null || !SENT.includes(actionOf(verdict.reason))) {
        const now = outcome(maps, verdict.reason);
        if (now !== (counted[verdict.reason] ?? 0) + 1) {
          const got = REASON_NAMES.filter((_, reason) => outcome(maps, reason) !== counted[reason]);
          return found(`reason ${got.join(', ')}, wanted ${wanted}`);
        }
      }
      counted[verdict.reason] = (counted[verdict.reason] ?? 0) + 1;
      if (text !== null) return found(`${wanted}: ${text}`);
    } else if ('ring' in step) {
      (world.pools.get(step.pool) as ModelPool).ring = step.ring;
      putRing(maps, step.pool, step.ring);
    } else {
      const backend = world.backends.get(step.backend) as ModelBackend;
      backend.valid = step.valid;
      backend.down = step.down;
      putBackend(maps, backend);
    }
  }
  return null;
}
