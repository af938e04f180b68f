// SPDX-License-Identifier: Apache-2.0
// What a run consists of: frames, and what the control plane does between them.
import type { World } from '../model/world.js';
import { framed, mutated } from './mutate.js';
import { echo, foreign, fragmented, icmpError, type Make, nested, wholePacket } from './packets.js';
import type { Random } from './random.js';
import { randomRing } from './setup.js';

export type Step =
  | { readonly frame: Buffer; readonly linear: number }
  | { readonly pool: number; readonly ring: Uint16Array }
  | { readonly backend: number; readonly valid: boolean; readonly down: boolean }
  | 'forget';

const KINDS: readonly (readonly [weight: number, name: string, make: (make: Make) => Buffer[]])[] = [
  [60, 'whole', wholePacket],
  [6, 'fragments', fragmented],
  [5, 'echo', echo],
  [10, 'error', icmpError],
  [3, 'nested', nested],
  [4, 'foreign', foreign],
];

/** Frames of more than this are in several buffers: a page less headroom and skb_shared_info. */
export const ONE_BUFFER = 3520;

/** What every driver has in the first buffer: Ethernet, two tags, a fixed IP header. */
const HEADERS = 62;

export interface Limits {
  /** Kinds to make; empty: all. */
  readonly kinds: readonly string[];
  readonly largest: number; // bytes of a frame
  /** The kernel takes frames whose first buffer ends anywhere. */
  readonly anyFirstBuffer?: boolean;
  /** Frames leave their sender as they should be. */
  readonly faultless?: boolean;
}

const EVERY = { change: 150, forget: 4000 };

/** About `count` frames; the same for the same random numbers and world. */
export function makeSteps(random: Random, world: World, count: number, limits: Limits): Step[] {
  const kinds = KINDS.filter(([, name]) => limits.kinds.length === 0 || limits.kinds.includes(name));
  const wheel = kinds.flatMap(([weight, , make]) => Array<(make: Make) => Buffer[]>(weight).fill(make));
  const steps: Step[] = [];
  // Fragments of several datagrams mix: what a kind made comes out of here bit by bit.
  const waiting: Buffer[][] = [];
  for (let frames = 0; frames < count; ) {
    if (random.once(EVERY.change)) steps.push(change(random, world));
    if (frames % EVERY.forget === EVERY.forget - 1) steps.push('forget');
    if (waiting.length < 3) waiting.push(random.pick(wheel)({ random, world }));
    const from = random.below(waiting.length);
    const packet = waiting[from]?.shift();
    if (waiting[from]?.length === 0) waiting.splice(from, 1);
    if (packet === undefined) continue;
    const whole = framed(random, packet);
    const frame = !limits.faultless && random.once(3) ? mutated(random, whole) : whole;
    if (frame.length > limits.largest) continue;
    const cut = limits.anyFirstBuffer && frame.length > HEADERS && random.once(40);
    const linear = cut ? HEADERS + random.below(frame.length - HEADERS) : frame.length;
    steps.push({ frame, linear: Math.min(linear, ONE_BUFFER) });
    frames++;
  }
  steps.push('forget');
  return steps;
}

function change(random: Random, world: World): Step {
  if (random.once(3)) {
    const backend = random.pick([...world.backends.keys()]);
    return { backend, valid: !random.once(5), down: random.once(3) };
  }
  const pool = random.pick([...world.pools.keys()]);
  const members = [...world.backends.values()].filter((one) => one.pool === pool).map(({ number }) => number);
  return { pool, ring: randomRing(random, members) };
}
