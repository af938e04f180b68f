// SPDX-License-Identifier: Apache-2.0
// The nodes there are: what this one says of itself, what the others say, and whether this one should stand back.
import { hostname } from 'node:os';
import { setTimeout as pause } from 'node:timers/promises';
import type { Maps } from '../dataplane/maps.js';
import { isRecord } from '../model/check.js';
import type { EventLog, Severity } from '../model/events.js';
import type { NodeInfo } from '../model/node-view.js';
import {
  judge,
  type Lag,
  lagsOf,
  type NodeDocument,
  type NodeRing,
  type NodeState,
  newestRevision,
  readNode,
  type Verdict,
} from './node-document.js';
import type { Presence } from './presence.js';
import type { Reconciler } from './reconciler.js';
import { openRingReader } from './ring-digest.js';
import type { Store } from './store.js';

/** A repair that does not last as long is none. */
const LASTS_MS = 50;

/** How long things take, ms. */
export interface ClusterTimes {
  /** Between two looks at the rings in the kernel. */
  readonly lookMs: number;
  /** Between two documents of this node, at least. */
  readonly publishMs: number;
  /** A node that has not reached a revision for so long is behind. */
  readonly behindMs: number;
  /** The name may be held by what this node was before it was killed; its lease ends within this, while the store is there. */
  readonly takenMs: number;
}

const TIMES: ClusterTimes = { lookMs: 2000, publishMs: 1000, behindMs: 10_000, takenMs: 15_000 };

export interface ClusterOptions {
  readonly node: string;
  /** Tells this node from another of its name; what was it before and was killed has the same. */
  readonly instance: string;
  readonly version: string;
  readonly startedAt: Date;
  readonly presence: Presence;
  readonly store: Pick<Store, 'read'>;
  readonly reconciler: Pick<Reconciler, 'state' | 'busy' | 'verify' | 'onRound'>;
  readonly maps: Maps;
  readonly events: Pick<EventLog, 'emit'>;
  readonly times?: Partial<ClusterTimes>;
}

export interface Cluster {
  /** All nodes by name, this one among them. */
  nodes(): readonly NodeInfo[];
  /** What of all this keeps the node from being ready; sentences. */
  notReady(): readonly string[];
  /**
   * Why this node should leave the clients to the others, null when it should not: it is behind, or differs, or its name is another's, and there is another
   * that is ready and sound. The last one never stands back: old rings are better than none.
   */
  standBack(): string | null;
  /** To be shown with this node from now on: how many addresses it announces. */
  announcing(count: number | null): void;
  onChange(listener: () => void): void;
  close(): void;
}

const SEVERITY: Readonly<Record<NodeState, Severity>> = {
  ok: 'info',
  behind: 'warning',
  differs: 'error',
  unreadable: 'warning',
};

const phraseOf = ({ state, detail }: Verdict): string =>
  `${{ ok: 'is well', behind: 'is behind', differs: 'differs', unreadable: 'cannot be read' }[state]}: ${detail}`;

/** `nodes/NAME` is this node's document: written when it changes, gone with its lease. */
export function openCluster(options: ClusterOptions): Cluster {
  const { node, instance, version, startedAt, presence, store, reconciler, maps, events } = options;
  const times = { ...TIMES, ...options.times };
  const key = `nodes/${node}`;
  const reader = openRingReader(maps, reconciler);
  const listeners = new Set<() => void>();
  let rings: NodeDocument['rings'] = {};
  let others = new Map<string, NodeDocument>();
  let unreadable = new Map<string, string>();
  let lags: ReadonlyMap<string, Lag> = new Map();
  let verdicts: ReadonlyMap<string, Verdict> = new Map();
  let announcing: number | null = null;
  let taken: { readonly by: string; readonly since: number } | null = null;
  let isToldTaken = false;
  let published: string | null = null;
  let publishedAt = Number.NEGATIVE_INFINITY;
  let publishing: NodeJS.Timeout | null = null;
  let repairs = reconciler.state().repairs.count;
  let isFirst = true;
  let reading = false;
  let readAgain = false;
  let suspected = false; // a ring was wrong when it was read last, and is being written anew
  let closed = false;

  const emit = (name: string, what: string, severity: Severity, message: string): void =>
    events.emit({ type: `node.${what}`, severity, object: `/nodes/${name}`, message });

  const takenFor = (): number => (taken === null ? 0 : performance.now() - taken.since);

  function notReady(): string[] {
    const verdict = verdicts.get(node);
    return [
      ...(verdict === undefined || verdict.state === 'ok' ? [] : [`this node ${phraseOf(verdict)}`]),
      ...(taken !== null && takenFor() > times.takenMs ? [`another node has the name "${node}": ${taken.by}`] : []),
    ];
  }

  function own(): NodeDocument {
    const { revision: appliedRevision, error } = reconciler.state();
    const reasons = [
      ...(appliedRevision < 0 ? ['the store has not been applied yet'] : []),
      ...(error === null ? [] : [error]),
      ...notReady(),
    ];
    return {
      node,
      instance,
      host: hostname(),
      version,
      startedAt: startedAt.toISOString(),
      revision: store.read().revision,
      appliedRevision,
      error,
      ready: reasons.length === 0,
      notReady: reasons,
      announcing,
      rings,
    };
  }

  /** Soon: several changes become one document. */
  function publish(): void {
    if (closed || publishing) return;
    const wait = Math.max(0, publishedAt + times.publishMs - performance.now());
    publishing = setTimeout(() => {
      publishing = null;
      const next = own();
      const text = JSON.stringify(next); // a thousand rings: compared in a tenth of the time the objects would take
      if (text === published) return;
      if (published === null) presence.claim(key, next, { taken: takenBy, hasEnded: isOurs });
      else presence.set(key, next);
      published = text;
      publishedAt = performance.now();
    }, wait);
  }

  const isOurs = (document: unknown): boolean => isRecord(document) && document.instance === instance;

  function takenBy(holder: unknown): void {
    const other = readNode(holder);
    const by = 'node' in other ? `since ${other.startedAt} on host ${other.host}` : JSON.stringify(holder);
    taken = { by, since: taken?.since ?? performance.now() };
  }

  /** Looks at all that is known, and tells what is new in it. */
  function look(): void {
    if (closed) return;
    const now = performance.now();
    // Nobody tells when the lease of what this node was before ends, while the store is away: its time begins anew.
    if (taken !== null && !isToldTaken && presence.leftMs() === 0) taken = { ...taken, since: now };
    const nodes = new Map(others).set(node, own());
    lags = lagsOf(nodes, newestRevision(nodes.values()), now, lags);
    const before = verdicts;
    const next = judge(nodes, lags, now, times.behindMs);
    for (const [name, detail] of unreadable) next.set(name, { state: 'unreadable', detail });
    verdicts = next;
    for (const [name, { state, detail }] of next) {
      const old = before.get(name);
      if (old === undefined) {
        if (name !== node && !isFirst) emit(name, 'joined', 'info', `node "${name}" is there`);
      }
      if ((old?.state ?? 'ok') === state) continue;
      if (state === 'ok') emit(name, 'recovered', 'info', `node "${name}" is as the others again`);
      else emit(name, state, SEVERITY[state], `node "${name}" ${phraseOf({ state, detail })}`);
    }
    for (const name of before.keys()) if (!next.has(name)) emit(name, 'left', 'warning', `node "${name}" is gone`);
    if (taken !== null && takenFor() > times.takenMs && !isToldTaken) {
      isToldTaken = true;
      emit(node, 'name_taken', 'error', `another node has the name "${node}": ${taken.by}`);
    }
    publish();
    for (const listener of listeners) listener();
  }

  function seen(documents: ReadonlyMap<string, unknown>): void {
    others = new Map();
    unreadable = new Map();
    for (const [path, document] of documents) {
      const name = path.slice('nodes/'.length);
      if (path === key) {
        if (isOurs(document)) taken = null;
        if (isOurs(document)) isToldTaken = false;
        continue; // what we say of ourselves is newer here
      }
      const read = readNode(document);
      if ('node' in read) others.set(name, read);
      else unreadable.set(name, `${read[0]?.pointer}: ${read[0]?.detail}`);
    }
    look();
    isFirst = false;
  }

  /** Reads the rings back. One that is not as it was written is written anew first; it is told to others when that does not help. */
  async function readRings(): Promise<void> {
    if (reading) {
      readAgain = true;
      return;
    }
    reading = true;
    try {
      do {
        readAgain = false;
        const found = await reader.read();
        if (closed) break;
        if (found === null) {
          look(); // the round under way may be one that does not end
          break; // its end asks again
        }
        const isWrong = [...found.values()].some(({ asWanted }) => !asWanted);
        if (isWrong && !suspected) {
          suspected = true;
          await reconciler.verify();
          await pause(LASTS_MS);
          readAgain = true;
          continue;
        }
        suspected = isWrong;
        rings = Object.fromEntries(found);
        look();
      } while (readAgain);
    } finally {
      reading = false;
    }
  }

  reconciler.onRound(() => {
    const { count, pools } = reconciler.state().repairs;
    if (count !== repairs)
      emit(
        node,
        'ring_repaired',
        'warning',
        `rings in the kernel were not as they had been written, and were written anew: ${pools.join(', ')}`,
      );
    repairs = count;
    void readRings();
  });
  const timer = setInterval(() => {
    if (suspected)
      void reconciler.verify(); // what comes of it is read after the round
    else void readRings();
  }, times.lookMs);
  timer.unref();
  const unwatch = presence.watch('nodes/', seen);
  void readRings();

  return {
    nodes: () =>
      [...new Map(others).set(node, own())]
        .map(([name, document]) => infoOf(name, document, verdicts.get(name), name === node))
        .concat([...unreadable].map(([name, detail]) => unreadableInfo(name, detail)))
        .sort((a, b) => (a.name < b.name ? -1 : 1)),
    notReady,
    standBack() {
      const [why] = notReady();
      // Who does not know how the others are does not leave it to them.
      if (why === undefined || presence.leftMs() <= 0) return null;
      const isSound = ([name, { ready }]: [string, NodeDocument]): boolean =>
        ready && verdicts.get(name)?.state === 'ok';
      return [...others].some(isSound) ? why : null;
    },
    announcing(count) {
      if (announcing === count) return;
      announcing = count;
      publish();
    },
    onChange: (listener) => void listeners.add(listener),
    close() {
      closed = true;
      unwatch();
      clearInterval(timer);
      if (publishing) clearTimeout(publishing);
    },
  };
}

function infoOf(name: string, document: NodeDocument, verdict: Verdict | undefined, self: boolean): NodeInfo {
  const { node: _node, instance: _instance, rings, ...rest } = document;
  const { state, detail } = verdict ?? { state: 'ok', detail: null };
  return { name, self, state, detail, ...rest, rings: Object.fromEntries(Object.entries(rings).map(shownRing)) };
}

function shownRing([pool, { basis: _, ...ring }]: [string, NodeRing]): [string, NodeInfo['rings'][string]] {
  return [pool, ring];
}

const unreadableInfo = (name: string, detail: string): NodeInfo => ({
  ...{ name, self: false, state: 'unreadable', detail, host: null, version: null, startedAt: null },
  ...{ revision: null, appliedRevision: null, error: null, ready: false, notReady: [], announcing: null, rings: {} },
});
