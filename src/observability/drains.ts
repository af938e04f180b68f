// SPDX-License-Identifier: Apache-2.0
// How far a drain is.
import { isOver } from '../controlplane/desired.js';
import { FlowState } from '../dataplane/abi.gen.js';
import { topFlows } from '../dataplane/flows.js';
import type { Maps } from '../dataplane/maps.js';
import type { NatTables } from '../dataplane/nat.js';
import type { DrainStatus } from '../model/node-view.js';
import type { Backend } from '../model/objects.js';
import { LIVE_IDLE_MS } from './census.js';

/** The oldest ones stand for all. */
const LOOKED_AT = 1000;

/** Of the backend with this number, of which `flowsLeft` live flows are known. `now`: Unix ms. */
export async function drainStatus(
  maps: Maps,
  nat: NatTables | null,
  backend: Backend,
  number: number,
  flowsLeft: number,
  now: number,
): Promise<DrainStatus> {
  if (isOver(backend, now)) return { flowsLeft, ages: null, etaSeconds: 0, done: true };
  const oldest = flowsLeft > 0 ? await topFlows(maps, { backends: new Set([number]) }, 'age', LOOKED_AT, nat) : [];
  const nowNs = Number(process.hrtime.bigint()); // CLOCK_MONOTONIC, as firstNs
  const ages = oldest
    .filter(({ state, idleNs }) => state < FlowState.CLOSING && idleNs <= LIVE_IDLE_MS * 1e6)
    .map(({ firstNs }) => Math.max(0, nowNs - firstNs) / 1e9);
  return drainOf(flowsLeft, ages, backend, now);
}

/** From the ages of flows, oldest first, in seconds. */
export function drainOf(flowsLeft: number, ages: readonly number[], { drain }: Backend, now: number): DrainStatus {
  if (flowsLeft === 0 || ages.length === 0) return { flowsLeft, ages: null, etaSeconds: 0, done: flowsLeft === 0 };
  const mean = ages.reduce((sum, age) => sum + age, 0) / ages.length;
  const harmonic = Math.log(flowsLeft) + 0.5772 + 1 / (2 * flowsLeft); // Euler's constant
  const cut = drain?.deadline === undefined ? Number.POSITIVE_INFINITY : (Date.parse(drain.deadline) - now) / 1000;
  const [oldest = 0] = ages;
  return {
    flowsLeft,
    ages: { youngest: ages.at(-1) ?? 0, median: ages[ages.length >> 1] ?? 0, oldest },
    etaSeconds: Math.round(Math.min(mean * harmonic, cut)),
    done: false,
  };
}
