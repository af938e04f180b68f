// SPDX-License-Identifier: Apache-2.0
// What a pool's changes cost the flows of a node that is lost: a simulation with the rows the daemon would have.
import { type Generation, type GenerationMember, type HistoryView, openHistory, ringSize } from '../src/ring/index.js';
import { randomFrom } from '../test/unit/random.js';

const HOLD_MS = 900_000;
const FLOWS = 60_000;
/** Before the first change: by then as many flows end as begin. */
const WARM_MS = 1_800_000;
const LOSSES = 25;
/** Flows live long or short, exponentially: mean seconds and share. */
const LIVES = [
  [10, 0.8],
  [600, 0.2],
] as const;

interface Scenario {
  readonly name: string;
  /** Ascending; the first at 0. */
  generations(members: number, random: () => number): Generation[];
}

export interface HistoryResult {
  readonly scenario: string;
  readonly backends: number;
  readonly changes: number;
  /** Percent of the flows alive, whose backend still serves, that are sent elsewhere once their node is lost: mean over losses, and the most. */
  readonly ownerOnly: Broken;
  readonly ipip: Broken;
  readonly secondChance: Broken;
  /** Of `ipip`: flows that began after their row's last move, whose packets cannot be told from older ones. */
  readonly ipipYounger: Broken;
  readonly deferredMaxPercent: number;
  readonly maxOverAverage: number; // rows by weight, over live members, the worst moment
}

interface Broken {
  readonly mean: number;
  readonly max: number;
}

const live = (at: number, weight = 100): GenerationMember => ({ name: `b${at}`, weight, state: 'live' });
const pool = (count: number): GenerationMember[] => Array.from({ length: count }, (_, at) => live(at));

/** `together` members at a time drain for 60 s, are down for 10 and back; 30 s later the next. At most 100 turns. */
function restart(count: number, together: number): Generation[] {
  const generations: Generation[] = [{ at: 0, members: pool(count) }];
  const turns = Math.min(100, Math.ceil(count / together));
  for (let turn = 0; turn < turns; turn++) {
    const inTurn = (at: number): boolean => Math.floor(at / together) === turn;
    const as = (state: GenerationMember['state']): GenerationMember[] =>
      pool(count).map((member, at) => (inTurn(at) ? { ...member, state } : member));
    const from = 60_000 + turn * 100_000;
    generations.push({ at: from, members: as('drain') }, { at: from + 60_000, members: as('down') });
    generations.push({ at: from + 70_000, members: pool(count) });
  }
  return generations;
}

const SCENARIOS: readonly Scenario[] = [
  { name: 'restart, one at a time', generations: (count) => restart(count, 1) },
  { name: 'restart, ten at a time', generations: (count) => restart(count, 10) },
  {
    name: 'half as many more',
    generations: (count) => [
      { at: 0, members: pool(count) },
      { at: 60_000, members: pool(count * 1.5) },
    ],
  },
  {
    name: 'half of them go: drain, gone after 10 min',
    generations: (count) => [
      { at: 0, members: pool(count) },
      { at: 60_000, members: pool(count).map((m, at) => (at % 2 === 0 ? { ...m, state: 'drain' as const } : m)) },
      { at: 660_000, members: pool(count).filter((_, at) => at % 2 === 1) },
    ],
  },
  {
    name: 'half more, then half of all go, in one hold time',
    generations: (count) => [
      { at: 0, members: pool(count) },
      { at: 60_000, members: pool(count * 1.5) },
      { at: 360_000, members: pool(count * 1.5).map((m, at) => (at % 2 ? m : { ...m, state: 'drain' as const })) },
    ],
  },
  {
    name: 'weights of 10 %, every 20 s',
    generations: (count, random) =>
      changing(count, 60, 20_000, (members) => {
        for (let change = 0; change < count / 10; change++) {
          const at = Math.floor(random() * count);
          members[at] = live(at, 50 + Math.floor(random() * 101));
        }
      }),
  },
  {
    name: '500 changes in 60 s',
    generations: (count, random) =>
      changing(count, 500, 120, (members) => {
        const at = Math.floor(random() * count);
        const state = random() < 0.3 ? 'drain' : 'live';
        members[at] = { name: `b${at}`, weight: 50 + Math.floor(random() * 101), state };
      }),
  },
];

function changing(
  count: number,
  times: number,
  everyMs: number,
  change: (m: GenerationMember[]) => void,
): Generation[] {
  const members = pool(count);
  const generations: Generation[] = [{ at: 0, members: [...members] }];
  for (let turn = 0; turn < times; turn++) {
    change(members);
    generations.push({ at: 60_000 + turn * everyMs, members: [...members] });
  }
  return generations;
}

interface Flow {
  readonly row: number;
  readonly from: number;
  until: number; // earlier when its backend ends
  owner: string;
}

function flowsOf(random: () => number, size: number, end: number): Flow[] {
  const flows = Array.from({ length: FLOWS }, (): Flow => {
    const mean = random() < LIVES[0][1] ? LIVES[0][0] : LIVES[1][0];
    const from = random() * end;
    return { row: Math.floor(random() * size), from, until: from - Math.log(1 - random()) * mean * 1000, owner: '' };
  });
  return flows.sort((a, b) => a.from - b.from);
}

/** How much of the live weight's rows the member with the most has, over its due. */
function maxOverAverage({ names, rows }: HistoryView, members: readonly GenerationMember[]): number {
  const owned = new Map<string, number>();
  for (let at = 0; at < rows.length; at += 4) {
    const name = names[(rows[at] ?? 0) - 1] ?? '';
    owned.set(name, (owned.get(name) ?? 0) + 1);
  }
  const takers = members.filter(({ state, weight }) => state === 'live' && weight > 0);
  const weight = takers.reduce((sum, member) => sum + member.weight, 0);
  return Math.max(...takers.map((m) => ((owned.get(m.name) ?? 0) * weight) / (m.weight * (rows.length / 4))));
}

const RULES = ['ownerOnly', 'ipip', 'secondChance', 'ipipYounger'] as const;

async function simulate({ name, generations }: Scenario, backends: number, seed: number): Promise<HistoryResult> {
  const random = randomFrom(seed);
  const told = generations(backends, random).map((each, at) => (at === 0 ? each : { ...each, at: each.at + WARM_MS }));
  const size = ringSize(backends, 0);
  const last = told.at(-1)?.at ?? 0;
  const end = last + 300_000;
  const flows = flowsOf(random, size, end);
  const losses = Array.from({ length: LOSSES }, () => WARM_MS + 60_000 + random() * (last + 60_000 - WARM_MS));
  const history = openHistory(size, HOLD_MS);
  let view = history.view();
  let members: readonly GenerationMember[] = [];
  let worst = 0;
  let deferred = 0;
  const begun: Flow[] = [];
  const movedAt = new Float64Array(size).fill(-1);
  const look = (now: number): void => {
    const old = view;
    view = history.view();
    for (let row = 0; row < size; row++)
      if (view.names[(view.rows[row * 4] ?? 0) - 1] !== old.names[(old.rows[row * 4] ?? 0) - 1]) movedAt[row] = now;
    deferred = Math.max(deferred, view.deferred / size);
    worst = Math.max(worst, maxOverAverage(view, members));
  };
  const to = async (now: number): Promise<void> => {
    while ((told[0]?.at ?? Number.POSITIVE_INFINITY) <= now) {
      const generation = told.shift() as Generation;
      await history.add(generation);
      members = generation.members;
      const serving = new Set(members.filter(({ state }) => state !== 'down').map((member) => member.name));
      for (const flow of begun) if (!serving.has(flow.owner)) flow.until = Math.min(flow.until, generation.at);
      look(generation.at);
    }
    if ((view.nextChange ?? Number.POSITIVE_INFINITY) > now) return;
    history.advance(now);
    look(now);
  };

  const changes = told.length - 1;
  const broken = Object.fromEntries(RULES.map((rule) => [rule, [] as number[]])) as Record<
    (typeof RULES)[number],
    number[]
  >;
  const events = [...flows.map((flow) => ({ at: flow.from, flow })), ...losses.map((at) => ({ at, flow: null }))];
  for (const { at, flow } of events.sort((a, b) => a.at - b.at)) {
    await to(at);
    const ownersOf = (row: number): string[] =>
      [...view.rows.subarray(row * 4, row * 4 + 4)].filter((id) => id > 0).map((id) => view.names[id - 1] ?? '');
    if (flow) {
      flow.owner = ownersOf(flow.row)[0] ?? '';
      begun.push(flow);
      continue;
    }
    const alive = begun.filter(({ until }) => until > at);
    const lost = { ownerOnly: 0, ipip: 0, secondChance: 0, ipipYounger: 0 };
    for (const { row, owner, from } of alive) {
      const [current, previous, ...older] = ownersOf(row);
      if (current !== owner) lost.ownerOnly++;
      if ((previous ?? current) !== owner) {
        lost.ipip++;
        if (from >= (movedAt[row] ?? 0)) lost.ipipYounger++;
      }
      if (![current, previous, ...older].includes(owner)) lost.secondChance++;
    }
    for (const rule of RULES) broken[rule].push((100 * lost[rule]) / Math.max(1, alive.length));
  }
  const sum = (rule: (typeof RULES)[number]): Broken => ({
    mean: broken[rule].reduce((total, each) => total + each, 0) / broken[rule].length,
    max: Math.max(...broken[rule]),
  });
  return {
    scenario: name,
    backends,
    changes,
    ownerOnly: sum('ownerOnly'),
    ipip: sum('ipip'),
    ipipYounger: sum('ipipYounger'),
    secondChance: sum('secondChance'),
    deferredMaxPercent: 100 * deferred,
    maxOverAverage: worst,
  };
}

/** Every scenario with 100 and 1000 backends. The same seed, the same figures. */
export async function historyBench(seed: number, log: (line: string) => void): Promise<HistoryResult[]> {
  const results: HistoryResult[] = [];
  for (const backends of [100, 1000]) {
    for (const scenario of SCENARIOS) {
      results.push(await simulate(scenario, backends, seed));
      log(`${backends} backends: ${scenario.name}`);
    }
  }
  return results;
}
