// SPDX-License-Identifier: Apache-2.0
// Whether the kernel holds what it was given: of a few things at once, of everything piece by piece.
import { type Backend, KeyKind } from '../dataplane/abi.gen.js';
import type { Maps } from '../dataplane/maps.js';
import { servicesIn } from '../dataplane/services.js';
import { readBackend, readRingRef, usedBackends, viewRingRows } from '../dataplane/tables.js';
import type { KernelRing, KernelService, KernelState } from './kernel-state.js';
import { type Step, sameEntry, sameRing, sameService } from './plan.js';
import { slices } from './slices.js';

function holdsRing(maps: Maps, pool: number, want: KernelRing | undefined): boolean {
  const ref = readRingRef(maps, pool);
  if (ref.rows === 0 || !want) return ref.rows === 0 && !want;
  return sameRing({ rows: viewRingRows(maps, ref), generation: ref.generation }, want);
}

const holdsBackend = (maps: Maps, number: number, want: Backend | undefined): boolean => {
  const entry = readBackend(maps, number);
  return want ? sameEntry(entry, want) : entry.slot === 0;
};

function holdsServices(maps: Maps, want: ReadonlyMap<string, KernelService>): boolean {
  let count = 0;
  for (const [id, { value }] of servicesIn(maps, KeyKind.SERVICE)) {
    const wanted = want.get(id);
    if (wanted === undefined || !sameService(value, wanted.value)) return false;
    count++;
  }
  return count === want.size;
}

/** Whether what these steps touched is as in `want` now; looked at while the event loop turns and nobody is writing. */
export async function holdsSteps(maps: Maps, want: KernelState, steps: readonly Step[]): Promise<boolean> {
  const pause = slices();
  let services = false;
  for (const step of steps) {
    const turn = pause();
    if (turn) await turn;
    if (step.do === 'set-ring' || step.do === 'delete-ring') {
      if (!holdsRing(maps, step.pool, want.rings.get(step.pool))) return false;
    } else if (step.do === 'set-backend' || step.do === 'clear-backend') {
      if (!holdsBackend(maps, step.number, want.backends.get(step.number))) return false;
    } else services ||= step.do === 'set-service' || step.do === 'delete-service';
  }
  return !services || holdsServices(maps, want.services);
}

/**
 * Whether the kernel holds all of it and nothing else, looked at while the event loop turns. `settled` resolves with what it is to
 * hold by now, when nobody is writing; or with null, when that is not known any more: then nobody is told of a difference.
 */
export async function holdsAll(maps: Maps, settled: () => Promise<KernelState | null>): Promise<boolean> {
  const pause = slices();
  let want = await settled();
  if (want && !holdsServices(maps, want.services)) return false;
  for (let pool = 0; want && pool < maps.handle.pools.info.maxEntries; pool++) {
    const turn = pause();
    if (turn) {
      await turn;
      want = await settled();
    }
    if (want && !holdsRing(maps, pool, want.rings.get(pool))) return false;
  }
  want &&= await settled();
  for (const number of new Set([...usedBackends(maps), ...(want?.backends.keys() ?? [])])) {
    const turn = pause();
    if (turn) {
      await turn;
      want = await settled();
    }
    if (want && !holdsBackend(maps, number, want.backends.get(number))) return false;
  }
  return true;
}
