// SPDX-License-Identifier: Apache-2.0
// Carries out a plan in the kernel.
import { addTraffic, clearServiceOutcomes, clearTallies, readTraffic, resetTraffic } from '../dataplane/counters.js';
import { byStart, type Range, takeFirstFit } from '../dataplane/first-fit.js';
import type { Maps } from '../dataplane/maps.js';
import { native } from '../dataplane/native.js';
import { deleteService, writeService } from '../dataplane/services.js';
import {
  clearBackend,
  invalidateBackend,
  ROW_WORDS,
  readRingRef,
  writeBackend,
  writeRingRef,
  writeRingRows,
} from '../dataplane/tables.js';
import { FairleadError } from '../model/errors.js';
import type { Step } from './plan.js';
import { slices } from './slices.js';

/** Where a ring goes in ring_rows; `wait`: once packets have let go of the rings replaced or deleted before it. */
export interface RingPlace {
  readonly start: number;
  readonly wait: boolean;
}

/** Rings' places, and the ranges that packets may still read when all steps are done. */
export interface RingPlaces {
  readonly places: readonly RingPlace[];
  readonly leaving: readonly Range[];
}

/**
 * Finds room for the rings of these steps, each beside the one it replaces; `left`: ranges that packets may still read from before.
 * Throws 'full', before anything is written.
 */
export async function placeRings(maps: Maps, steps: readonly Step[], left: readonly Range[]): Promise<RingPlaces> {
  if (!steps.some((step) => step.do === 'set-ring' || step.do === 'delete-ring')) return { places: [], leaving: left };
  const pause = slices();
  const capacity = maps.ringRows.length;
  const ringOf = new Map<number, Range>();
  for (let pool = 0; pool < maps.handle.pools.info.maxEntries; pool++) {
    const { start, rows } = readRingRef(maps, pool);
    if (rows > 0) ringOf.set(pool, { start, size: rows });
  }
  let taken = [...ringOf.values(), ...left].sort(byStart);
  const leaving = new Set(left); // replaced or deleted, and perhaps still read
  const letGo = (): void => {
    taken = taken.filter((range) => !leaving.has(range));
    leaving.clear();
  };
  const leave = (pool: number): void => {
    const old = ringOf.get(pool);
    if (old) leaving.add(old);
    ringOf.delete(pool);
  };
  const places: RingPlace[] = [];
  for (const step of steps) {
    if (step.do === 'wait') letGo();
    if (step.do === 'delete-ring') leave(step.pool);
    if (step.do !== 'set-ring') continue;
    await pause();
    const size = step.ring.rows.length / ROW_WORDS;
    let place = takeFirstFit(taken, size, capacity);
    const wait = place === null;
    if (wait) {
      letGo();
      place = takeFirstFit(taken, size, capacity);
    }
    if (!place) throw new FairleadError('full', `place a ring of ${size} rows: ring_rows (${capacity}) is full`);
    leave(step.pool);
    ringOf.set(step.pool, place);
    places.push({ start: place.start, wait });
  }
  return { places, leaving: [...leaving] };
}

/**
 * Applies the steps in order, the rings at `places` (placeRings). Packets see each ring, service and backend either as it
 * was or as it is to be.
 */
export async function apply(maps: Maps, steps: readonly Step[], places: readonly RingPlace[]): Promise<void> {
  const pause = slices();
  let rings = 0;
  for (const step of steps) {
    await pause();
    switch (step.do) {
      case 'set-backend':
        writeBackend(maps, step.number, step.entry);
        break;
      case 'set-ring': {
        const place = places[rings++];
        if (!place) throw new RangeError('apply: got fewer places than rings');
        if (place.wait) await native.synchronize();
        const { rows, generation } = step.ring;
        writeRingRows(maps, place.start, rows);
        writeRingRef(maps, step.pool, { start: place.start, rows: rows.length / ROW_WORDS, generation });
        break;
      }
      case 'clear-service':
        for (let at = 0; at < step.counters.size; at++) resetTraffic(maps, step.counters.start + at);
        clearServiceOutcomes(maps, step.number);
        clearTallies(maps, step.number);
        break;
      case 'set-service':
        writeService(maps, step.service.key, step.service.value);
        break;
      case 'delete-service':
        deleteService(maps, step.service.key);
        break;
      case 'delete-ring':
        writeRingRef(maps, step.pool, { start: 0, rows: 0, generation: 0 });
        break;
      case 'remove-backend':
        invalidateBackend(maps, step.number);
        break;
      case 'wait':
        await native.synchronize();
        break;
      case 'clear-backend':
        clearBackend(maps, step.number);
        break;
      case 'copy-counter':
        addTraffic(maps, step.to, readTraffic(maps, step.from));
        break;
      case 'move-counter':
        addTraffic(maps, step.to, readTraffic(maps, step.from));
        resetTraffic(maps, step.from);
        break;
    }
  }
}
