// SPDX-License-Identifier: Apache-2.0
// What a ring costs to build, how long it holds up the event loop, and how many rows move. Alone: node dist/bench/ring.js [--json]
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { diffRings, rowsOwned } from '../src/ring/diff.js';
import { hashName, scale } from '../src/ring/hash.js';
import { buildRing, buildRingSliced, type Ring, type RingMember } from '../src/ring/ring.js';

const self = fileURLToPath(import.meta.url);
const repeats = 60;
const warmups = 20;

/** Times in ms. `first` is the first call of a new process. `plainMaglevMedian` is unweighted Maglev over the same members, same run. */
export interface RingTiming {
  readonly name: string;
  readonly first: number;
  readonly median: number;
  readonly min: number;
  readonly max: number;
  readonly plainMaglevMedian: number;
}

/** The longest time in ms between two turns of the event loop. `idleMs`: the same, as long, with nothing to do (what this machine adds). */
export interface RingSlices {
  readonly name: string;
  readonly totalMs: number;
  readonly turns: number;
  readonly maxMs: number;
  readonly idleMs: number;
}

/** Percent of all rows that changed, and of those that did so between two members to whom nothing happened. `maglevNeedless` is null where plain Maglev knows no such event. */
export interface RingMoves {
  readonly name: string;
  readonly changed: number;
  readonly needless: number;
  readonly maglevNeedless: number | null;
}

export interface RingBenchResult {
  readonly timings: readonly RingTiming[];
  readonly slices: readonly RingSlices[];
  readonly moves: readonly RingMoves[];
  /** Most loaded live member over the wanted share, 10 % down. */
  readonly balance: readonly { readonly name: string; readonly maxOverAverage: number }[];
}

interface Case {
  readonly name: string;
  readonly members: RingMember[];
  readonly size: number;
}

function pool(count: number, downEvery = 0, weightOf: (i: number) => number = () => 1): RingMember[] {
  const live = (i: number): boolean => downEvery === 0 || i % downEvery !== 0;
  return Array.from({ length: count }, (_, i) => ({ name: `backend-${i}`, weight: weightOf(i), live: live(i) }));
}

const cases: readonly Case[] = [
  { name: '100 members, 65537 rows', members: pool(100), size: 65537 },
  { name: '1000 members, 100 down, 65537 rows', members: pool(1000, 10), size: 65537 },
  { name: '1000 members of weight 1..256, 65537 rows', members: pool(1000, 0, (i) => 1 + (i % 256)), size: 65537 },
  { name: '10 members, 1009 rows', members: pool(10), size: 1009 },
];

/** Maglev as published (NSDI 2016, pseudocode 1), one turn each in name order: the baseline. */
function plainMaglev(members: readonly RingMember[], size: number): Ring {
  const names = members.map((m) => m.name).sort();
  const hashes = names.map(hashName);
  const position = Int32Array.from(hashes, ([a]) => scale(a, size));
  const stride = Int32Array.from(hashes, ([, b]) => 1 + scale(b, size - 1));
  const owners = new Uint16Array(size);
  for (let filled = 0; ; ) {
    for (let i = 0; i < names.length; i++) {
      const jump = stride[i] as number;
      let row = position[i] as number;
      while (owners[row] !== 0) {
        row += jump;
        if (row >= size) row -= size;
      }
      owners[row] = i + 1;
      position[i] = row;
      if (++filled === size) return { names, owners };
    }
  }
}

function time(work: () => unknown): number {
  const start = performance.now();
  work();
  return performance.now() - start;
}

const round = (value: number): number => Number(value.toPrecision(3));
const median = (sorted: readonly number[]): number => sorted[sorted.length >> 1] ?? 0;

async function timing(index: number, { name, members, size }: Case): Promise<RingTiming> {
  const first = Number(await cold('first', index));
  const ours: number[] = [];
  const plain: number[] = [];
  for (let i = 0; i < warmups + repeats; i++) {
    ours.push(time(() => buildRing(members, size)));
    plain.push(time(() => plainMaglev(members, size)));
  }
  const [a, b] = [ours, plain].map((list) => list.slice(warmups).sort((x, y) => x - y)) as [number[], number[]];
  const [min, max] = [a[0] ?? 0, a.at(-1) ?? 0];
  return {
    name,
    first: round(first),
    median: round(median(a)),
    min: round(min),
    max: round(max),
    plainMaglevMedian: round(median(b)),
  };
}

/** Counts turns of the event loop, and the longest, while `work` is under way. */
async function watchTurns(work: () => Promise<unknown>): Promise<{ totalMs: number; turns: number; maxMs: number }> {
  let [turns, longest, done] = [0, 0, false];
  const start = performance.now();
  let last = start;
  const turn = (): void => {
    const now = performance.now();
    longest = Math.max(longest, now - last);
    last = now;
    turns++;
    if (!done) setImmediate(turn);
  };
  setImmediate(turn);
  await work();
  done = true;
  turn();
  return { totalMs: round(last - start), turns, maxMs: round(longest) };
}

async function slices(label: string, { name, members, size }: Case): Promise<RingSlices> {
  const idle = async (ms: number): Promise<void> => {
    const end = performance.now() + ms;
    while (performance.now() < end) await new Promise((resolve) => setImmediate(resolve));
  };
  const busy = await watchTurns(() => buildRingSliced(members, size));
  const { maxMs } = await watchTurns(() => idle(busy.totalMs));
  return { name: `${label}: ${name}`, ...busy, idleMs: maxMs };
}

function moves(
  name: string,
  size: number,
  subject: string,
  before: RingMember[],
  after: RingMember[],
  maglev: boolean,
): RingMoves {
  const compare = (a: Ring, b: Ring): { changed: number; needless: number } => {
    const needless = a.owners.reduce((sum, owner, row) => {
      const [from, to] = [a.names[owner - 1], b.names[(b.owners[row] ?? 0) - 1]];
      return sum + (from !== to && from !== subject && to !== subject ? 1 : 0);
    }, 0);
    return { changed: round((100 * diffRings(a, b).changed) / size), needless: round((100 * needless) / size) };
  };
  const ours = compare(buildRing(before, size), buildRing(after, size));
  const plain = maglev ? compare(plainMaglev(before, size), plainMaglev(after, size)).needless : null;
  return { name, ...ours, maglevNeedless: plain };
}

function allMoves(): RingMoves[] {
  const list: RingMoves[] = [];
  for (const [count, size] of [
    [10, 1009],
    [100, 10007],
    [100, 65537],
    [1000, 65537],
  ] as const) {
    const all = pool(count).map((m) => ({ ...m, weight: 100 }));
    const more = pool(count + 1).map((m) => ({ ...m, weight: 100 }));
    const at = count / 2;
    const subject = `backend-${at}`;
    const but = (change: Partial<RingMember>): RingMember[] => all.map((m, i) => (i === at ? { ...m, ...change } : m));
    const one = `1 of ${count} on ${size}`;
    list.push(moves(`${one} not live`, size, subject, all, but({ live: false }), false));
    list.push(moves(`${one} removed`, size, subject, all, all.toSpliced(at, 1), true));
    list.push(moves(`1 added to ${count} on ${size}`, size, `backend-${count}`, all, more, true));
    list.push(moves(`${one} to half its weight`, size, subject, all, but({ weight: 50 }), false));
  }
  const down = pool(100, 10);
  list.push(moves('1 of 100 on 65537 removed, 10 down', 65537, 'backend-55', down, down.toSpliced(55, 1), false));
  return list;
}

function balance({ name, members, size }: Case): { name: string; maxOverAverage: number } {
  const ring = buildRing(members, size);
  const liveCount = members.filter((m) => m.live).length;
  return { name, maxOverAverage: round((Math.max(...rowsOwned(ring)) * liveCount) / size) };
}

/** Runs one case in a new process, where nothing is compiled yet, and returns what it prints. */
async function cold(what: 'first' | 'slices', index: number): Promise<string> {
  return (await promisify(execFile)(process.execPath, [self, what, String(index)])).stdout;
}

/** Runs all of it: some seconds. */
export async function ringBench(): Promise<RingBenchResult> {
  const timings: RingTiming[] = [];
  for (const [index, c] of cases.entries()) timings.push(await timing(index, c));
  const sliced: RingSlices[] = [];
  for (const [index, c] of cases.slice(0, 2).entries()) {
    sliced.push(JSON.parse(await cold('slices', index)) as RingSlices, await slices('warm', c));
  }
  const tenDown = [
    { name: '100 members, 10 down, 10007 rows', members: pool(100, 10), size: 10007 },
    { name: '100 members, 10 down, 65537 rows', members: pool(100, 10), size: 65537 },
  ];
  return { timings, slices: sliced, moves: allMoves(), balance: tenDown.map(balance) };
}

async function main([what = '', index = '']: readonly string[]): Promise<void> {
  const c = cases[Number(index)];
  if (c !== undefined && what === 'first') {
    console.log(time(() => buildRing(c.members, c.size)));
    return;
  }
  if (c !== undefined && what === 'slices') {
    console.log(JSON.stringify(await slices('cold', c)));
    return;
  }
  const result = await ringBench();
  if (what === '--json') console.log(JSON.stringify(result, null, 2));
  else
    for (const [title, rows] of Object.entries(result)) {
      console.log(`\n${title}`);
      console.table(rows);
    }
}

if (process.argv[1] === self) await main(process.argv.slice(2));
