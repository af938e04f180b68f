// SPDX-License-Identifier: Apache-2.0
// What a node says of itself to the others, and what is to be made of what they all say. Pure.
import { reader, Type } from '../model/check.js';
import type { FieldError } from '../model/errors.js';

/** The ring of one pool in this node's kernel; see RingReading. */
export interface NodeRing {
  readonly digest: string;
  readonly generation: number;
  readonly basis: string;
  readonly without: readonly string[];
  readonly asWanted: boolean;
}

/** The document `nodes/{node}`. */
export interface NodeDocument {
  readonly node: string;
  /** Which process: another one with the same node name has another. */
  readonly instance: string;
  readonly host: string;
  readonly version: string;
  readonly startedAt: string; // RFC 3339
  /** The newest revision of the store it knows, and that its kernel holds in full. */
  readonly revision: number;
  readonly appliedRevision: number;
  /** Why its newest round did not get through; null when it did. */
  readonly error: string | null;
  readonly ready: boolean;
  readonly notReady: readonly string[];
  /** Addresses it announces; null: it announces none, as it is not configured to. */
  readonly announcing: number | null;
  /** By pool. */
  readonly rings: Readonly<Record<string, NodeRing>>;
}

// Fields of a newer version are let through: nodes are upgraded one after the other.
const readDocument = reader<NodeDocument>(
  Type.Object({
    node: Type.String(),
    instance: Type.String(),
    host: Type.String(),
    version: Type.String(),
    startedAt: Type.String(),
    revision: Type.Integer(),
    appliedRevision: Type.Integer(),
    error: Type.Union([Type.String(), Type.Null()], { description: 'a string or null' }),
    ready: Type.Boolean(),
    notReady: Type.Array(Type.String()),
    announcing: Type.Union([Type.Integer(), Type.Null()], { description: 'a number or null' }),
    rings: Type.Record(
      Type.String(),
      Type.Object({
        digest: Type.String(),
        generation: Type.Integer(),
        basis: Type.String(),
        without: Type.Array(Type.String()),
        asWanted: Type.Boolean(),
      }),
    ),
  }),
);

/** A node's document, or what is wrong with it. */
export function readNode(input: unknown): NodeDocument | readonly FieldError[] {
  const { draft, fields } = readDocument(input);
  return fields.length > 0 ? fields : (draft as NodeDocument);
}

export type NodeState = 'ok' | 'behind' | 'differs' | 'unreadable';

/** What a node is found to be, and why; null when all is well. */
export interface Verdict {
  readonly state: NodeState;
  readonly detail: string | null;
}

const OK: Verdict = { state: 'ok', detail: null };

/** Which revision a node was to reach, and since when (ms, any clock that runs on). */
export interface Lag {
  readonly target: number;
  readonly since: number;
}

/**
 * How far each node is behind: `old` is what the last call answered. A node that follows a store that changes all the time is always a little
 * behind the newest revision; it has until `now` to reach the one that was the newest when it fell behind.
 */
export function lagsOf(
  nodes: ReadonlyMap<string, NodeDocument>,
  newest: number,
  now: number,
  old: ReadonlyMap<string, Lag>,
): Map<string, Lag> {
  const lags = new Map<string, Lag>();
  for (const [name, { appliedRevision }] of nodes) {
    if (appliedRevision >= newest) continue;
    const lag = old.get(name);
    // A store that was restored goes back: a target beyond it is none any more.
    const holds = lag !== undefined && appliedRevision < lag.target && lag.target <= newest;
    lags.set(name, holds ? lag : { target: newest, since: now });
  }
  return lags;
}

/** The newest revision that any of them knows. */
export const newestRevision = (nodes: Iterable<NodeDocument>): number =>
  Math.max(0, ...[...nodes].map(({ revision }) => revision));

/**
 * A verdict on each. A node is behind when its lag is older than `behindMs`. It differs when a ring in its kernel is not the one it has worked out itself, or
 * is another than more than half of the nodes with the same basis have; of two that disagree without that, nobody can say which is right, and both differ.
 */
export function judge(
  nodes: ReadonlyMap<string, NodeDocument>,
  lags: ReadonlyMap<string, Lag>,
  now: number,
  behindMs: number,
): Map<string, Verdict> {
  const votes = votesOf(nodes.values());
  return new Map(
    [...nodes].map(([name, node]) => [name, differs(node, votes) ?? behind(node, lags.get(name), now, behindMs)]),
  );
}

function behind(
  { appliedRevision, error }: NodeDocument,
  lag: Lag | undefined,
  now: number,
  behindMs: number,
): Verdict {
  if (lag === undefined || now - lag.since < behindMs) return OK;
  const why = error === null ? '' : `: ${error}`;
  return { state: 'behind', detail: `revision ${appliedRevision} is in force, ${lag.target} is wanted${why}` };
}

/** By pool and basis: how many nodes have each digest. */
type Votes = ReadonlyMap<string, ReadonlyMap<string, number>>;

const ballot = (pool: string, { basis }: NodeRing): string => `${pool}\n${basis}`;

function votesOf(nodes: Iterable<NodeDocument>): Votes {
  const votes = new Map<string, Map<string, number>>();
  for (const { rings } of nodes)
    for (const [pool, ring] of Object.entries(rings)) {
      if (!ring.asWanted) continue; // it is known to be wrong
      const key = ballot(pool, ring);
      const counts = votes.get(key) ?? new Map<string, number>();
      votes.set(key, counts.set(ring.digest, (counts.get(ring.digest) ?? 0) + 1));
    }
  return votes;
}

function differs({ rings }: NodeDocument, votes: Votes): Verdict | null {
  for (const [pool, ring] of Object.entries(rings)) {
    if (!ring.asWanted)
      return {
        state: 'differs',
        detail: `the ring of pool "${pool}" in the kernel is not the one worked out from the store`,
      };
    const counts = votes.get(ballot(pool, ring));
    if (counts === undefined || counts.size < 2) continue;
    const all = [...counts.values()].reduce((sum, count) => sum + count, 0);
    const own = counts.get(ring.digest) ?? 0;
    if (own * 2 > all) continue;
    return {
      state: 'differs',
      detail: `the ring of pool "${pool}" is ${ring.digest}, as ${own} of ${all} nodes with the same members have it`,
    };
  }
  return null;
}
