// SPDX-License-Identifier: Apache-2.0
// What happened to this node and to what it serves, as operators are told.

export type Severity = 'info' | 'warning' | 'error';

/** What is told by the part it happens in. */
export interface NewEvent {
  /** A noun and what became of it, as 'backend.down', 'nat.port_exhausted'. Closed set: docs/api.md lists them. */
  readonly type: string;
  readonly severity: Severity;
  /** Path of the object under /api/v1, as '/pools/web/backends/b1'; null: the node itself. */
  readonly object: string | null;
  /** One sentence. */
  readonly message: string;
  /** What a program would want to know besides; JSON. */
  readonly data?: Readonly<Record<string, unknown>>;
}

export interface FairleadEvent extends NewEvent {
  /** Counts without a gap in each run of the daemon, from a number beyond those of all runs before: the clock's, at its start. */
  readonly id: number;
  /** RFC 3339, UTC. */
  readonly at: string;
}

export interface EventsSince {
  readonly events: readonly FairleadEvent[];
  /** How many between were dropped for want of room. */
  readonly lost: number;
  /** The id is not of this run of the daemon: what came between is not known, and `events` are all of this run. */
  readonly isOther: boolean;
  /** Of the newest event, or what comes before the first. */
  readonly newest: number;
}

export interface EventLog {
  emit(event: NewEvent): void;
  /** The events kept with a larger id, oldest first; 0: all of them. */
  since(id: number): EventsSince;
  /** Calls back with each new event until the returned function is called. */
  subscribe(listener: (event: FairleadEvent) => void): () => void;
  /** By type, since the start; and how many no longer are kept. */
  counts(): { readonly byType: ReadonlyMap<string, number>; readonly dropped: number };
}
