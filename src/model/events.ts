// SPDX-License-Identifier: Apache-2.0
// What happened to this node and to what it serves, as operators are told.

export type Severity = 'info' | 'warning' | 'error';

/** What is told by the part it happens in. */
export interface NewEvent {
  /** A noun and what became of it, as 'backend.down', 'nat.port_exhausted'. Closed set: docs/operations.md lists them. */
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
  /** Counts from 1 in each run of the daemon, without a gap. */
  readonly id: number;
  /** RFC 3339, UTC. */
  readonly at: string;
}

export interface EventLog {
  emit(event: NewEvent): void;
  /** The events kept with a larger id, oldest first, and how many between were dropped for want of room. */
  since(id: number): { readonly events: readonly FairleadEvent[]; readonly lost: number };
  /** Calls back with each new event until the returned function is called. */
  subscribe(listener: (event: FairleadEvent) => void): () => void;
  /** By type, since the start; and how many no longer are kept. */
  counts(): { readonly byType: ReadonlyMap<string, number>; readonly dropped: number };
}
