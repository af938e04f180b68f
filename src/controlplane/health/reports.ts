// SPDX-License-Identifier: Apache-2.0
// What the other nodes say of backends: documents health/{node}/{pool}/{backend}.
import { isRecord } from '../../model/check.js';
import type { Presence } from '../presence.js';
import type { Votes } from './agree.js';
import type { Checked } from './checker.js';

/** A node's view of one backend. */
export interface Report {
  readonly state: 'up' | 'down';
  readonly since: string; // RFC 3339, that node's clock
  readonly detail: string; // what was wrong
}

export interface Reports {
  /** Says what this node has found; null: nothing any more. */
  say(pool: string, backend: string, checked: Checked | null): void;
  /** Nodes that say anything of this pool, by name in order. */
  nodes(pool: string): readonly string[];
  of(pool: string, backend: string): ReadonlyMap<string, Report>;
  votes(pool: string, backend: string): Votes | undefined;
  /** Backends that some nodes have found up and some down for longer than this, ms: "POOL/BACKEND". */
  disputed(forMs: number): readonly string[];
  /** This node's alone. */
  ownVotes(pool: string, backend: string): Votes | undefined;
  close(): void;
}

const PREFIX = 'health/';
const NONE: ReadonlyMap<string, Report> = new Map();

const isReport = (document: unknown): document is Report =>
  isRecord(document) &&
  (document.state === 'up' || document.state === 'down') &&
  typeof document.since === 'string' &&
  typeof document.detail === 'string';

/** `told` is called with the pools that another node has said something new of. What this node says counts here at once, whoever hears it. */
export function openReports(node: string, presence: Presence, told: (pools: ReadonlySet<string>) => void): Reports {
  const byPool = new Map<string, Map<string, Map<string, Report>>>(); // pool, backend, node
  const disputes = new Map<string, number>(); // POOL/BACKEND: since when, performance.now()
  let known: ReadonlyMap<string, unknown> = new Map();

  function put(key: string, document: unknown): string | null {
    const [who = '', pool = '', backend = '', ...more] = key.slice(PREFIX.length).split('/');
    if (who === node || backend === '' || more.length > 0) return null;
    return putReport(who, pool, backend, isReport(document) ? document : null);
  }

  function putReport(who: string, pool: string, backend: string, report: Report | null): string {
    const backends = byPool.get(pool) ?? new Map<string, Map<string, Report>>();
    const nodes = backends.get(backend) ?? new Map<string, Report>();
    if (report === null) nodes.delete(who);
    else nodes.set(who, report);
    const key = `${pool}/${backend}`;
    if (new Set([...nodes.values()].map(({ state }) => state)).size < 2) disputes.delete(key);
    else if (!disputes.has(key)) disputes.set(key, performance.now());
    if (nodes.size === 0) backends.delete(backend);
    else backends.set(backend, nodes);
    if (backends.size === 0) byPool.delete(pool);
    else byPool.set(pool, backends);
    return pool;
  }

  const unwatch = presence.watch(PREFIX, (documents) => {
    const pools = new Set<string | null>();
    for (const key of known.keys()) if (!documents.has(key)) pools.add(put(key, null));
    for (const [key, document] of documents) if (known.get(key) !== document) pools.add(put(key, document));
    known = documents;
    pools.delete(null);
    if (pools.size > 0) told(pools as ReadonlySet<string>);
  });
  const of = (pool: string, backend: string) => byPool.get(pool)?.get(backend) ?? NONE;
  const count = (reports: readonly Report[]): Votes | undefined => {
    const up = reports.filter(({ state }) => state === 'up').length;
    return reports.length === 0 ? undefined : { up, down: reports.length - up };
  };

  return {
    say(pool, backend, checked) {
      const wasWrong = checked?.track.up === false ? (checked.last?.detail ?? '') : '';
      const report: Report | null = checked && {
        state: checked.track.up ? 'up' : 'down',
        since: new Date(Date.now() - (performance.now() - checked.track.since)).toISOString(),
        detail: wasWrong,
      };
      putReport(node, pool, backend, report);
      presence.set(`${PREFIX}${node}/${pool}/${backend}`, report);
    },
    nodes: (pool) => [...new Set([...(byPool.get(pool)?.values() ?? [])].flatMap((nodes) => [...nodes.keys()]))].sort(),
    of,
    disputed: (forMs) => [...disputes].flatMap(([key, since]) => (performance.now() - since > forMs ? [key] : [])),
    votes: (pool, backend) => count([...of(pool, backend).values()]),
    ownVotes(pool, backend) {
      const own = of(pool, backend).get(node);
      return count(own ? [own] : []);
    },
    close: unwatch,
  };
}
