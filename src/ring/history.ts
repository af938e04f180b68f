// SPDX-License-Identifier: Apache-2.0
import { setImmediate as nextTurn } from 'node:timers/promises';
import { buildRingSliced } from './ring.js';

/** `live`: takes rows in proportion to its weight. `drain`: keeps its flows, takes no row. `down`: takes nothing, as one that is absent. */
export interface GenerationMember {
  readonly name: string;
  readonly weight: number;
  readonly state: 'live' | 'drain' | 'down';
}

/** A pool's members from `at` (Unix ms) on. */
export interface Generation {
  readonly at: number;
  readonly members: readonly GenerationMember[];
}

export interface HistoryView {
  /** Everyone a row may name, by 1-based id; 0 is nobody. */
  readonly names: readonly string[];
  /** Four ids a row: the owner, then those before it, newest first. A copy. */
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
 * a row whose owner takes no new flow (drain, weight 0) moves at once, and lets the oldest go. Owners that take nothing any more are not
 * held. Not thread-safe: one call at a time.
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
const ROWS_PER_SLICE = 8192;

interface State {
  readonly names: string[];
  readonly owner: Uint16Array; // of a row, as all below
  readonly wanted: Uint16Array;
  readonly previous: Uint16Array; // HELD a row, newest first, without gaps
  readonly until: Float64Array; // of `previous`, Unix ms
}

/** An empty ring of `size` rows; with `from`, what that ring of another size has, each new row from the old one at its middle. */
export function openHistory(size: number, holdMs: number, from?: RingHistory): RingHistory {
  return new History(size, holdMs, from instanceof History ? from : null);
}

class History implements RingHistory {
  readonly #state: State;
  readonly #ids = new Map<string, number>();
  #keeps = new Uint8Array(1); // by id: still takes packets of its flows
  #takes = new Uint8Array(1); // by id: takes new flows
  #last = Number.NEGATIVE_INFINITY;
  #nextChange = Number.POSITIVE_INFINITY;

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
    };
    if (from) this.#resample(from);
  }

  #resample(from: History): void {
    const old = from.#state;
    this.#state.names.push(...old.names);
    for (const [name, id] of from.#ids) this.#ids.set(name, id);
    this.#keeps = from.#keeps.slice();
    this.#takes = from.#takes.slice();
    this.#last = from.#last;
    this.#nextChange = from.#nextChange;
    for (let row = 0; row < this.size; row++) {
      const source = Math.floor(((row + 0.5) * from.size) / this.size);
      this.#state.owner[row] = old.owner[source] as number;
      this.#state.wanted[row] = old.wanted[source] as number;
      for (let place = 0; place < HELD; place++) {
        this.#state.previous[row * HELD + place] = old.previous[source * HELD + place] as number;
        this.#state.until[row * HELD + place] = old.until[source * HELD + place] as number;
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
      members.map(({ name, weight, state }) => ({ name, weight, live: state === 'live' })),
      this.size,
    );
    const ids = Uint16Array.from([0, ...ring.names.map((name) => this.#idOf(name))]);
    this.advance(at);
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
      this.#nextChange = Math.min(this.#nextChange, this.#earliest(row));
    }
  }

  advance(now: number): void {
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
      }
      this.#nextChange = Math.min(this.#nextChange, this.#earliest(row));
    }
  }

  /** To its wanted owner, holding the one it has. Only what is held still is in `previous` now. */
  #move(row: number, at: number): void {
    const { owner, wanted, previous, until } = this.#state;
    const from = owner[row] as number;
    const to = wanted[row] as number;
    owner[row] = to;
    this.#drop(row, to);
    if (this.holdMs <= 0 || this.#keeps[from] !== 1) return;
    const base = row * HELD;
    for (let place = HELD - 1; place > 0; place--) {
      previous[base + place] = previous[base + place - 1] as number;
      until[base + place] = until[base + place - 1] as number;
    }
    previous[base] = from;
    until[base] = at + this.holdMs;
  }

  /** Lets go of owners whose time is over at `at`, and of those that take nothing any more. */
  #prune(row: number, at: number): void {
    const { previous, until } = this.#state;
    let kept = row * HELD;
    const end = kept + HELD;
    for (let place = kept; place < end; place++) {
      const id = previous[place] as number;
      if (id === 0 || (until[place] as number) <= at || this.#keeps[id] !== 1) continue;
      previous[kept] = id;
      until[kept++] = until[place] as number;
    }
    previous.fill(0, kept, end);
  }

  /** Takes `id` out of those held. */
  #drop(row: number, id: number): void {
    const { previous, until } = this.#state;
    const end = (row + 1) * HELD;
    const found = previous.subarray(row * HELD, end).indexOf(id);
    if (id === 0 || found < 0) return;
    previous.copyWithin(row * HELD + found, row * HELD + found + 1, end);
    until.copyWithin(row * HELD + found, row * HELD + found + 1, end);
    previous[end - 1] = 0;
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

  view(): HistoryView {
    const { names, owner, wanted, previous } = this.#state;
    const rows = new Uint16Array(this.size * (HELD + 1));
    let inTransition = 0;
    let deferred = 0;
    for (let row = 0; row < this.size; row++) {
      rows[row * (HELD + 1)] = owner[row] as number;
      for (let place = 0; place < HELD; place++)
        rows[row * (HELD + 1) + 1 + place] = previous[row * HELD + place] as number;
      if (previous[row * HELD] !== 0) inTransition++;
      if (owner[row] !== wanted[row]) deferred++;
    }
    const nextChange = Number.isFinite(this.#nextChange) ? this.#nextChange : null;
    return { names: [...names], rows, inTransition, deferred, nextChange };
  }
}
