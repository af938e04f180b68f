// SPDX-License-Identifier: Apache-2.0
// Carries out a plan in the kernel.
import { addTraffic, clearServiceOutcomes, readTraffic, resetTraffic } from '../dataplane/counters.js';
import { firstFit, type Range } from '../dataplane/first-fit.js';
import type { Maps } from '../dataplane/maps.js';
import { native } from '../dataplane/native.js';
import { deleteService, writeService } from '../dataplane/services.js';
import {
  clearBackend,
  invalidateBackend,
  readRingRef,
  writeBackend,
  writeRingRef,
  writeRingRows,
} from '../dataplane/tables.js';
import { FairleadError } from '../model/errors.js';
import type { Step } from './plan.js';

/** Pieces of ring_rows that a packet may be looking at. */
function ringRanges(maps: Maps): Range[] {
  const ranges: Range[] = [];
  for (let pool = 0; pool < maps.pools.length; pool++) {
    const { start, rows } = readRingRef(maps, pool);
    if (rows > 0) ranges.push({ start, size: rows });
  }
  return ranges;
}

/** Writes a ring beside the old one and switches over. `leaving` are pieces that packets may still be reading. */
function setRing(maps: Maps, pool: number, owners: Uint16Array, leaving: Range[]): boolean {
  const old = readRingRef(maps, pool);
  const start = firstFit([...ringRanges(maps), ...leaving], owners.length, maps.ringRows.length);
  if (start < 0) return false;
  writeRingRows(maps, start, owners);
  writeRingRef(maps, pool, { start, rows: owners.length });
  if (old.rows > 0) leaving.push({ start: old.start, size: old.rows });
  return true;
}

/**
 * Applies the steps in order. Throws 'full' when a ring finds no room; what was applied before stays, and packets see
 * each ring, service and backend either as it was or as it is to be.
 */
export async function apply(maps: Maps, steps: readonly Step[]): Promise<void> {
  const leaving: Range[] = [];
  for (const step of steps) {
    switch (step.do) {
      case 'set-backend':
        writeBackend(maps, step.number, step.entry);
        break;
      case 'set-ring':
        if (!setRing(maps, step.pool, step.owners, leaving)) {
          // Room may be held only by rings that were just replaced.
          await native.synchronize();
          leaving.length = 0;
          if (!setRing(maps, step.pool, step.owners, leaving)) {
            throw new FairleadError(
              'full',
              `place a ring of ${step.owners.length} rows: ring_rows (${maps.ringRows.length}) is full`,
            );
          }
        }
        break;
      case 'clear-service':
        for (let at = 0; at < step.counters.size; at++) resetTraffic(maps, step.counters.start + at);
        clearServiceOutcomes(maps, step.number);
        break;
      case 'set-service':
        writeService(maps, step.service.key, step.service.value);
        break;
      case 'delete-service':
        deleteService(maps, step.service.key);
        break;
      case 'delete-ring':
        writeRingRef(maps, step.pool, { start: 0, rows: 0 });
        break;
      case 'remove-backend':
        invalidateBackend(maps, step.number);
        break;
      case 'wait':
        await native.synchronize();
        leaving.length = 0;
        break;
      case 'clear-backend':
        clearBackend(maps, step.number);
        break;
      case 'move-counter':
        addTraffic(maps, step.to, readTraffic(maps, step.from));
        resetTraffic(maps, step.from);
        break;
    }
  }
  if (leaving.length > 0) await native.synchronize();
}
