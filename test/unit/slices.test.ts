// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { slices } from '../../src/controlplane/slices.js';
import { formatState, parseState } from '../../src/controlplane/state-file.js';
import { backendsOf, poolOf, serviceOf, snapshotOf } from '../support/snapshots.js';

const JOBS = 8;
const PIECES = 40;
const PIECE_MS = 1;

/** Pieces of PIECE_MS: each takes the processor for all of it. */
async function job(done: number[], own: number): Promise<void> {
  const pause = slices();
  for (let piece = 0; piece < PIECES; piece++) {
    for (const end = performance.now() + PIECE_MS; performance.now() < end; );
    done.push(own);
    await pause();
  }
}

test('slices: jobs beside each other take no more of a turn than one, and none waits for the end of another', async () => {
  const done: number[] = [];
  const turns: number[] = []; // pieces done in each
  let over = false;
  const all = Promise.all(Array.from({ length: JOBS }, (_, own) => job(done, own))).then(() => {
    over = true;
  });
  for (let before = done.length; !over; before = done.length) {
    await nextTurn();
    turns.push(done.length - before);
  }
  await all;
  assert.equal(done.length, JOBS * PIECES);
  // A slice of 4 ms, the piece that goes over it, and one of a job that ends.
  assert.ok(Math.max(...turns) <= 6, `pieces in a turn: ${Math.max(...turns)}`);
  const half = done.slice(0, done.length / 2);
  for (let own = 0; own < JOBS; own++) assert.ok(half.includes(own), `job ${own} has begun by half the time`);
});

test('slices: jobs one after the other share a turn, too', async () => {
  const done: number[] = [];
  const short = async (): Promise<void> => {
    const pause = slices();
    for (const end = performance.now() + PIECE_MS; performance.now() < end; );
    done.push(0);
    await pause();
  };
  const all = (async () => {
    for (let at = 0; at < PIECES; at++) await short();
  })();
  const turns: number[] = [];
  for (let before = done.length; done.length < PIECES; before = done.length) {
    await nextTurn();
    turns.push(done.length - before);
  }
  await all;
  assert.ok(Math.max(...turns) <= 6, `pieces in a turn: ${Math.max(...turns)}`);
});

test('slices: the event loop turns while a large state is read', async () => {
  const pools = Array.from({ length: 1000 }, (_, at) => poolOf(`p${at}`, backendsOf(10)));
  const services = pools.map(({ name }, at) => serviceOf(`s${at}`, name, 1000 + at));
  const snapshot = snapshotOf(pools, services);
  let over = false;
  const read = parseState(formatState(snapshot), 'f').finally(() => {
    over = true;
  });
  let turns = 0;
  for (; !over; turns++) await nextTurn();
  assert.deepEqual(await read, snapshot);
  assert.ok(turns >= 10, `${turns} turns`);
});
