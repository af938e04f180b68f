// SPDX-License-Identifier: Apache-2.0
import { setImmediate as nextTurn } from 'node:timers/promises';
import { buildRingSliced } from './ring.js';

/** `live`: takes rows in proportion to its weight. `drain`: keeps its flows, takes no row. `down`: takes nothing, as one that is absent. */
export interface GenerationMember {
  readonly name: string;
  readonly weight: number;
  readonly state: 'live' | 'drain' | 'down';
  /** Of its rows, so much is its own now (RingMember). Default: 1. */
  readonly part?: number;
}

/** A pool's members from `at` (Unix ms) on. */
export interface Generation {
  readonly at: number;
  readonly members: readonly GenerationMember[];
}

export interface HistoryView {
  /** Everyone a row may name, by 1-based id; 0 is nobody. */
  readonly names: readonly string[];
  /**
   * Four ids a row: the owner, then where a flow that is not known should be looked for, the likeliest first: owners before, and before
   * them the owner again once it is likelier than they are. A copy.
   */
  readonly rows: Uint16Array;
  /** Rows with an owner before. */
  readonly inTransition: number;
  /** Rows that are to move and cannot yet. */
  readonly deferred: number;
  /** Unix ms at which rows change by themselves; null: never. */
  readonly nextChange: number | null;
}

/**
 * A ring that remembers: which owner each row has, and which it had within the hold time. The rows depend on the size, the hold time,
 * the generations added and the time it is, not on how often anyone looked: every node that is told the same computes the same.
 *
 * A row moves to the owner the anchored ring (buildRing) gives it, and holds the one it leaves for the hold time, three at most. A row
 * that holds three does not move before the oldest of them is let go: it is deferred, for a flow on a forgotten owner would break. But
 * a row whose owner takes no new flow (drain, weight 0) moves at once, and forgets whoever of the four has the fewest flows. Owners that take nothing any more are not
 * held.
 *
 * How likely an unknown flow is with an owner: in proportion to the flows it has, if as many begin at all times and they live exponentially
 * long, a third of the hold time on average. So right after a move it is with the owner before; when that one has had the row for long,
 * the new one overtakes it after 0.23 hold times, and when it only stood in for a while, after about as long a while, but not before a
 * 15th of the hold time.
 * Not thread-safe: one call at a time.
 */
export interface RingHistory {
  readonly size: number;
  /** Rows move towards these members' ring. Throws RangeError when `at` lies before the generation added last. */
  add(generation: Generation): Promise<void>;
  /** Lets go what is held for long enough, and moves the rows that waited for it. Time that lies back changes nothing. */
  advance(now: number): void;
  view(): HistoryView;
}

const HELD = 3;
const LIVES_PER_HOLD = 3;
const FIRST_PER_LIFE = 5; // a minute of 15 min held
const STEPS_PER_HOLD = 90; // 10 s of 15 min
const ROWS_PER_SLICE = 8192;

interface State {
  readonly names: string[];
  readonly owner: Uint16Array; // of a row, as all below
  readonly wanted: Uint16Array;
  readonly previous: Uint16Array; // HELD a row, newest first, without gaps
  readonly until: Float64Array; // of `previous`, Unix ms
  readonly since: Float64Array; // of `owner`, Unix ms
  readonly flows: Float64Array; // of `owner`, at `since`: how many it had from earlier, in ms of arrivals
  readonly left: Float64Array; // of `previous`: how many it had when it lost the row
  readonly overtakes: Float64Array; // Unix ms at which `owner` has more flows than any of `previous`
}

/** An empty ring of `size` rows; with `from`, what that ring of another size has, each new row from the old one at its middle. */
export function openHistory(size: number, holdMs: number, from?: RingHistory): RingHistory {
  return new History(size, holdMs, from instanceof History ? from : null);
}

/** What #likeliest puts in order: at most HELD. */
const ranked = { id: new Uint16Array(HELD), flows: new Float64Array(HELD) };

class History implements RingHistory {
  readonly #state: State;
  readonly #ids = new Map<string, number>();
  #keeps = new Uint8Array(1); // by id: still takes packets of its flows
  #takes = new Uint8Array(1); // by id: takes new flows
  #last = Number.NEGATIVE_INFINITY;
  #nextChange = Number.POSITIVE_INFINITY;
  #now = 0;
  readonly #life: number; // ms
  readonly #step: number; // ms: rows do not change one by one

  constructor(
    readonly size: number,
    readonly holdMs: number,
    from: History | null,
  ) {
    this.#state = {
      names: [],
      owner: new Uint16Array(size),
      wanted: new Uint16Array(size),
      previous: new Uint16Array(size * HELD),
      until: new Float64Array(size * HELD),
      since: new Float64Array(size),
      flows: new Float64Array(size),
      left: new Float64Array(size * HELD),
      overtakes: new Float64Array(size),
    };
    this.#life = Math.max(1, holdMs / LIVES_PER_HOLD);
    this.#step = Math.max(1, Math.round(holdMs / STEPS_PER_HOLD));
    if (from) this.#resample(from);
  }

  #resample(from: History): void {
    const old = from.#state;
    this.#state.names.push(...old.names);
    for (const [name, id] of from.#ids) this.#ids.set(name, id);
    this.#keeps = from.#keeps.slice();
    this.#takes = from.#takes.slice();
    this.#last = from.#last;
    this.#now = from.#now;
    this.#nextChange = from.#nextChange;
    for (let row = 0; row < this.size; row++) {
      const source = Math.floor(((row + 0.5) * from.size) / this.size);
      this.#state.owner[row] = old.owner[source] as number;
      this.#state.wanted[row] = old.wanted[source] as number;
      this.#state.since[row] = old.since[source] as number;
      this.#state.flows[row] = old.flows[source] as number;
      this.#state.overtakes[row] = old.overtakes[source] as number;
      for (let place = 0; place < HELD; place++) {
        this.#state.previous[row * HELD + place] = old.previous[source * HELD + place] as number;
        this.#state.until[row * HELD + place] = old.until[source * HELD + place] as number;
        this.#state.left[row * HELD + place] = old.left[source * HELD + place] as number;
      }
    }
  }

  #idOf(name: string): number {
    const known = this.#ids.get(name);
    if (known !== undefined) return known;
    const id = this.#state.names.push(name);
    if (id > 0xffff) throw new RangeError(`add a generation: more than 65535 names, "${name}" is one too many`);
    this.#ids.set(name, id);
    return id;
  }

  async add({ at, members }: Generation): Promise<void> {
    if (!(at >= this.#last)) throw new RangeError(`add a generation: got time ${at}, wanted ${this.#last} or later`);
    const ring = await buildRingSliced(
      members.map(({ name, weight, state, part = 1 }) => ({ name, weight, live: state === 'live', part })),
      this.size,
    );
    const ids = Uint16Array.from([0, ...ring.names.map((name) => this.#idOf(name))]);
    this.advance(at);
    this.#now = Math.max(this.#now, at);
    this.#last = at;
    this.#keeps = new Uint8Array(this.#state.names.length + 1);
    this.#takes = new Uint8Array(this.#state.names.length + 1);
    for (const { name, weight, state } of members) {
      this.#keeps[this.#idOf(name)] = state === 'down' ? 0 : 1;
      this.#takes[this.#idOf(name)] = state === 'live' && weight > 0 ? 1 : 0;
    }
    this.#nextChange = Number.POSITIVE_INFINITY;
    for (let start = 0; start < this.size; start += ROWS_PER_SLICE) {
      this.#settle(ring.owners, ids, start, Math.min(start + ROWS_PER_SLICE, this.size), at);
      await nextTurn();
    }
  }

  /** Rows start..end-1 towards the ring whose owner i has id ids[i]. */
  #settle(owners: Uint16Array, ids: Uint16Array, start: number, end: number, at: number): void {
    const { owner, wanted } = this.#state;
    for (let row = start; row < end; row++) {
      const to = ids[owners[row] as number] as number;
      wanted[row] = to;
      this.#prune(row, at);
      if (owner[row] !== to && (this.#takes[owner[row] as number] === 0 || this.#held(row, to) < HELD))
        this.#move(row, at);
      this.#race(row);
      this.#nextChange = Math.min(this.#nextChange, this.#changes(row));
    }
  }

  advance(now: number): void {
    this.#now = Math.max(this.#now, now);
    if (now < this.#nextChange) return;
    const { owner, wanted } = this.#state;
    this.#nextChange = Number.POSITIVE_INFINITY;
    for (let row = 0; row < this.size; row++) {
      // A row waits for the first of its three to be let go; then it moves, at that moment whenever that is noticed.
      const free = this.#earliest(row);
      if (free <= now) {
        if (owner[row] !== wanted[row]) {
          this.#prune(row, free);
          this.#move(row, free);
        }
        this.#prune(row, now);
        this.#race(row);
      }
      this.#nextChange = Math.min(this.#nextChange, this.#changes(row));
    }
  }

  /** To its wanted owner, holding the one it has. Only what is held still is in `previous` now. */
  #move(row: number, at: number): void {
    const { owner, wanted, previous, until, since, flows, left } = this.#state;
    const from = owner[row] as number;
    const to = wanted[row] as number;
    const had = this.#life - (this.#life - (flows[row] as number)) * this.#survive(at - (since[row] as number));
    owner[row] = to;
    // Who follows nobody is taken to have had the row for ever: what was before is not known.
    const known = this.#drop(row, to, at);
    flows[row] = from === 0 && previous[row * HELD] === 0 ? this.#life : known;
    since[row] = at;
    if (this.holdMs <= 0 || this.#keeps[from] !== 1) return;
    const base = row * HELD;
    if (previous[base + HELD - 1] !== 0) {
      const least = this.#least(row, at);
      if (had < this.#flowsLeft(least, at)) return;
      for (const each of [previous, until, left]) each.copyWithin(least, least + 1, base + HELD);
    }
    for (let place = base + HELD - 1; place > base; place--) {
      previous[place] = previous[place - 1] as number;
      until[place] = until[place - 1] as number;
      left[place] = left[place - 1] as number;
    }
    previous[base] = from;
    until[base] = at + this.holdMs;
    left[base] = had;
  }

  /** The place of whoever has the fewest flows at `at` of those held, of equals the oldest. */
  #least(row: number, at: number): number {
    let least = (row + 1) * HELD - 1;
    for (let place = least - 1; place >= row * HELD; place--)
      if (this.#flowsLeft(place, at) < this.#flowsLeft(least, at)) least = place;
    return least;
  }

  /** What is left of a number of flows after `ms`. */
  #survive(ms: number): number {
    return Math.exp(-ms / this.#life);
  }

  /** The flows that the owner before in this place has at `at`. */
  #flowsLeft(place: number, at: number): number {
    const { until, left } = this.#state;
    return (left[place] as number) * this.#survive(at - ((until[place] as number) - this.holdMs));
  }

  /** Works out anew when the row's owner has more flows than any before it; to be seen at the next of this.#step. */
  #race(row: number): void {
    const { previous, since, flows, overtakes } = this.#state;
    if (previous[row * HELD] === 0) return;
    const begun = since[row] as number;
    let most = flows[row] as number;
    for (let place = row * HELD; place < (row + 1) * HELD; place++)
      if (previous[place] !== 0) most = Math.max(most, this.#flowsLeft(place, begun));
    const at = begun + this.#life * Math.log1p((most - (flows[row] as number)) / this.#life);
    // Who had nothing here before is not looked at first right away: until then a change breaks nothing that is older.
    const first = flows[row] === 0 ? Math.max(at, begun + this.#life / FIRST_PER_LIFE) : at;
    overtakes[row] = first > begun ? Math.ceil(first / this.#step) * this.#step : begun;
  }

  /** When the row changes next: one is let go, or the owner overtakes those before. */
  #changes(row: number): number {
    const free = this.#earliest(row);
    if (free === Number.POSITIVE_INFINITY) return free;
    const overtakes = this.#state.overtakes[row] as number;
    return overtakes > this.#now ? Math.min(free, overtakes) : free;
  }

  /** Lets go of owners whose time is over at `at`, and of those that take nothing any more. */
  #prune(row: number, at: number): void {
    const { previous, until, left } = this.#state;
    let kept = row * HELD;
    const end = kept + HELD;
    for (let place = kept; place < end; place++) {
      const id = previous[place] as number;
      if (id === 0 || (until[place] as number) <= at || this.#keeps[id] !== 1) continue;
      previous[kept] = id;
      until[kept] = until[place] as number;
      left[kept++] = left[place] as number;
    }
    previous.fill(0, kept, end);
  }

  /** Takes `id` out of those held; answers the flows it has at `at`. */
  #drop(row: number, id: number, at: number): number {
    const { previous, until, left } = this.#state;
    const end = (row + 1) * HELD;
    let place = row * HELD;
    while (place < end && previous[place] !== id) place++;
    if (id === 0 || place === end) return 0;
    const flows = this.#flowsLeft(place, at);
    for (const each of [previous, until, left]) each.copyWithin(place, place + 1, end);
    previous[end - 1] = 0;
    return flows;
  }

  /** How many are held, `but` left out. */
  #held(row: number, but: number): number {
    let held = 0;
    for (let place = row * HELD; place < (row + 1) * HELD; place++) {
      const id = this.#state.previous[place] as number;
      if (id !== 0 && id !== but) held++;
    }
    return held;
  }

  /** When the first of those held is let go; infinite when none is. */
  #earliest(row: number): number {
    const { previous, until } = this.#state;
    let first = Number.POSITIVE_INFINITY;
    for (let place = row * HELD; place < (row + 1) * HELD; place++)
      if (previous[place] !== 0 && (until[place] as number) < first) first = until[place] as number;
    return first;
  }

  /** Writes where to look for an unknown flow of a row in transition to HELD places from `to` on. */
  #likeliest(row: number, rows: Uint16Array, to: number): void {
    const { owner, previous, overtakes } = this.#state;
    const base = row * HELD;
    let count = 0;
    for (; count < HELD && previous[base + count] !== 0; count++) {
      const flows = this.#flowsLeft(base + count, this.#now);
      let place = count;
      // Behind those that have as many: the newest comes first.
      for (; place > 0 && (ranked.flows[place - 1] as number) < flows; place--) {
        ranked.id[place] = ranked.id[place - 1] as number;
        ranked.flows[place] = ranked.flows[place - 1] as number;
      }
      ranked.id[place] = previous[base + count] as number;
      ranked.flows[place] = flows;
    }
    let place = 0;
    if ((overtakes[row] as number) <= this.#now && owner[row] !== 0) rows[to + place++] = owner[row] as number;
    for (let from = 0; from < count && place < HELD; from++) rows[to + place++] = ranked.id[from] as number;
  }

  view(): HistoryView {
    const { names, owner, wanted, previous } = this.#state;
    const rows = new Uint16Array(this.size * (HELD + 1));
    let inTransition = 0;
    let deferred = 0;
    for (let row = 0; row < this.size; row++) {
      rows[row * (HELD + 1)] = owner[row] as number;
      if (previous[row * HELD] !== 0) {
        this.#likeliest(row, rows, row * (HELD + 1) + 1);
        inTransition++;
      }
      if (owner[row] !== wanted[row]) deferred++;
    }
    const nextChange = Number.isFinite(this.#nextChange) ? this.#nextChange : null;
    return { names: [...names], rows, inTransition, deferred, nextChange };
  }
}
