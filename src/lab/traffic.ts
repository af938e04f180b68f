// SPDX-License-Identifier: Apache-2.0
// What the lab and its driver say to each other.

/** One service the driver sends to. */
export interface Target {
  readonly service: string; // the service's name, and the key of its counts
  readonly protocol: 'http' | 'udp';
  readonly address: string;
  readonly port: number;
}

/**
 * `run`: send `rate` requests a second, the targets in turn, counted under `phase`; until `count` were sent, or another
 * command comes. A request counts in the phase it began in. `stop`: send no more; what is under way comes to its end.
 */
export type DriverCommand =
  | { readonly kind: 'run'; readonly phase: string; readonly rate: number; readonly count: number | null }
  | { readonly kind: 'stop' };

/** Requests that came to an end in one phase. `backends`: service name, backend name, answers. */
export interface PhaseCount {
  requests: number;
  failed: number;
  backends: Record<string, Record<string, number>>;
}

/** Sent every 250 ms, and at once when the last request of a run has ended. */
export interface DriverReport {
  readonly phases: Record<string, PhaseCount>;
  readonly errors: string[]; // the first few
  readonly idle: boolean; // nothing to send, nothing under way
}
