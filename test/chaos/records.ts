// SPDX-License-Identifier: Apache-2.0
// What the checker's client, its servers and its parent say to each other.

/** Of a record: `ID SEQUENCE PAYLOAD`, a line; sequences count from 0 on each connection. */
export const payloadOf = (id: number, sequence: number): string => 'x'.repeat((id * 31 + sequence * 17) % 400);

export interface Violation {
  readonly kind: 'reset' | 'refused' | 'two backends' | 'gap' | 'stalled';
  readonly connection: string; // 10.1.0.2:40000 > 192.0.2.10:7000, number 17
  readonly backend: string | null;
  readonly begun: number; // Unix ms
  readonly at: number; // Unix ms
  readonly records: number; // answered before
  readonly detail: string;
}

export interface CheckerReport {
  readonly connections: number; // begun so far
  readonly open: number;
  readonly byBackend: Readonly<Record<string, number>>; // open ones
  readonly records: number;
  readonly violations: readonly Violation[];
}

export type CheckerCommand =
  /** Keeps `long` connections open for good, and `short` ones that end after 20 records and make room for the next. */
  | { readonly kind: 'keep'; readonly long: number; readonly short: number }
  /** Ends the connections of these backends after their next answer, and does not count what happens to those of them that begin. */
  | { readonly kind: 'leave'; readonly backends: readonly string[] };

/** Milliseconds without an answer after which a connection is stalled. */
export const STALL_MS = 3000;
