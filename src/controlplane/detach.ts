// SPDX-License-Identifier: Apache-2.0
// What comes before `fairlead detach`: the network is asked to send nothing here any more, and given the time to do so.
import { existsSync, mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { deleteRoute, readRoutes } from './routes.js';

/** While this is there, a daemon announces nothing: the programs are about to go. */
const markOf = (bpffs: string): string => join(bpffs, 'fairlead-detaching');

export const isDetaching = (bpffs: string): boolean => existsSync(markOf(bpffs));

/** For the start of a daemon: a detach that was killed is over. */
export const clearDetaching = (bpffs: string): void => rmSync(markOf(bpffs), { recursive: true, force: true });

/**
 * Takes every route of Fairlead away, in all tables; when there was one, waits `drainSeconds`, in which packets go on being forwarded. Then `detach`. Answers
 * what was removed, one phrase each.
 */
export async function withdrawThen(
  bpffs: string,
  drainSeconds: number,
  detach: () => Promise<readonly string[]>,
): Promise<readonly string[]> {
  const routes = await readRoutes(null); // before the mark: a daemon that sees it may be the one that withdraws
  if (existsSync(join(bpffs, 'fairlead'))) mkdirSync(markOf(bpffs), { recursive: true });
  try {
    for (const route of routes) await deleteRoute(route);
    if (routes.length > 0) await pause(drainSeconds * 1000);
    return [
      ...routes.map(({ address, table }) => `not announced any more: ${address}, table ${table}`),
      ...(await detach()),
    ];
  } finally {
    clearDetaching(bpffs);
  }
}
