// SPDX-License-Identifier: Apache-2.0
// Random nodes and packets until the wanted number is sent or a difference is found, which is then cut down.
import { mix32 } from '../../src/ring/hash.js';
import type { World } from '../model/world.js';
import type { PacketPath } from '../support/packet-path.js';
import { type Random, random } from './random.js';
import { type Difference, firstBuffer, runSteps, type Tried } from './run.js';
import { randomProgram, randomWorld } from './setup.js';
import { type Limits, makeSteps, ONE_BUFFER, type Step } from './steps.js';
import { openSplitting } from './tables.js';

export interface FuzzOptions {
  readonly seed: number;
  readonly packets: number;
  readonly kinds: readonly string[];
  /** ServiceFlag bits services may have. */
  readonly flags: number;
  /** Called now and then. */
  progress?(tried: Tried): void;
}

const FRAMES_PER_NODE = 12_000;
const NODES_PER_PROGRAM = 40;

/** Whether test runs take such a frame: larger than a page needs a program for several buffers, `linear` Linux 6.18. */
function takes(path: PacketPath, size: number, linear: number): boolean {
  try {
    path.program.run(new Uint8Array(size), firstBuffer(linear, size));
    return true;
  } catch {
    return false;
  }
}

/** What was found, as text for people; null: nothing. */
export async function fuzz(options: FuzzOptions, tried: Tried): Promise<string | null> {
  for (let program = 0; tried.frames < options.packets; program++) {
    const programSeed = mix32(options.seed + program * 1000);
    const config = randomProgram(random(programSeed));
    const path = await openSplitting(config);
    try {
      const limits: Limits = {
        kinds: options.kinds,
        largest: takes(path, 5000, ONE_BUFFER) ? 9014 : ONE_BUFFER,
        anyFirstBuffer: takes(path, 200, 100),
      };
      for (let node = 0; node < NODES_PER_PROGRAM && tried.frames < options.packets; node++) {
        const seed = mix32(programSeed + node);
        const count = Math.min(FRAMES_PER_NODE, options.packets - tried.frames);
        const world = (): [World, Random] => {
          const own = random(seed);
          return [randomWorld(own, config, options.flags), own];
        };
        const steps = makeSteps(...swap(world()), count, limits);
        const found = await runSteps(path, world()[0], steps, tried);
        if (found !== null)
          return await explain(path, () => world()[0], steps, found, `program ${program}, node ${node}`);
        options.progress?.(tried);
      }
    } finally {
      path.close();
    }
  }
  return null;
}

const swap = <A, B>([a, b]: [A, B]): [B, A] => [b, a];

/** How long a difference is cut down. */
const CUTTING_MS = 30_000;
const nothing = (): Tried => ({ frames: 0, stalls: 0, reasons: [] });

/** Cuts the steps down to those the difference needs: by halves, then by smaller parts, as long as CUTTING_MS allows. */
async function explain(
  path: PacketPath,
  world: () => World,
  steps: readonly Step[],
  found: Difference,
  where: string,
): Promise<string> {
  const replay = (some: readonly Step[]): Promise<Difference | null> => runSteps(path, world(), some, nothing());
  const again = await replay(steps.slice(0, found.step + 1));
  let least = again ?? found;
  let kept = steps.slice(0, least.step + 1);
  const until = performance.now() + CUTTING_MS;
  const time = (): boolean => performance.now() < until;
  for (let part = kept.length >> 1; part >= 1 && time(); part >>= 1) {
    for (let end = kept.length - 1; end > 0 && time(); end -= part) {
      const fewer = [...kept.slice(0, Math.max(0, end - part)), ...kept.slice(end)];
      const still = fewer.length < kept.length ? await replay(fewer) : null;
      if (still === null) continue;
      least = still;
      kept = fewer.slice(0, still.step + 1);
      end = Math.min(end, kept.length);
    }
  }
  const lines = kept.slice(-12).map((step) => `  ${textOf(step)}`);
  const more = again === null ? ' (seen once, not again)' : '';
  return [
    `${where}, step ${found.step}${more}: ${least.text}`,
    `after ${kept.length} steps:`,
    ...lines,
    describe(world()),
  ].join('\n');
}

function textOf(step: Step): string {
  if (step === 'forget') return 'fragments forgotten';
  if ('frame' in step) return `frame ${step.frame.toString('hex')}`;
  return 'ring' in step
    ? `ring of pool ${step.pool} changes`
    : `backend ${step.backend} valid ${step.valid} down ${step.down}`;
}

function describe(world: World): string {
  const services = [...world.services.values()].map(
    ({ number, address, port, protocol, pool, flags, sourceBits }) =>
      `  service ${number} ${address.toString('hex')} ${port} ${protocol === 6 ? 'tcp' : 'udp'} pool ${pool} flags ${flags} bits ${sourceBits}`,
  );
  const backends = [...world.backends.values()].map(
    (one) =>
      `  backend ${one.number} pool ${one.pool} ${one.address.toString('hex')} valid ${one.valid} down ${one.down} on link ${one.onLink} here ${one.sameInterface} mtu ${one.mtu} tags ${one.tags.toString('hex')}`,
  );
  return [`tunnel mtu ${world.tunnelMtu}`, ...services, ...backends].join('\n');
}
