// SPDX-License-Identifier: Apache-2.0
import { isDeepStrictEqual } from 'node:util';

// Documents that last as long as the node that wrote them: who is there, and what each finds healthy.

/** Who wants a key that one node alone may have. */
export interface Claimant {
  taken(holder: unknown): void;
  /** Whether the holder is one that cannot be there any more: what this node was before it was killed. */
  hasEnded(holder: unknown): boolean;
}

/**
 * The same contract for etcd and memory (test/unit/presence-contract.ts). Keys are paths of two parts or more, as `nodes/edge-1`; a document is any JSON object.
 *
 * - `set` is what this node wants to be there: it is written soon, and again whenever it was lost. `null` takes it away.
 * - `claim` is `set` for a key that one node alone may have: while another has it that one's document stays, and `taken` is told of it, and of each change of it; the key is
 *   had as soon as it is free, and at once from a holder that is known to have ended (`hasEnded`). A later `set` of it changes what is claimed.
 * - `watch` calls back with everything below a prefix (`nodes/`), by key, of all nodes: at first with what there is, then after changes, those of one moment together.
 *   A document that has not changed is the same object as before.
 * - `leftMs` is how long the others are sure to see what this node wrote, on this node's own clock: at 0 it may be gone, and another may have taken its place.
 * - `close` takes away what this node wrote, if that can be done.
 */
export interface Presence {
  set(key: string, document: object | null): void;
  claim(key: string, document: object, claimant: Claimant): void;
  watch(prefix: string, listener: (documents: ReadonlyMap<string, unknown>) => void): () => void;
  leftMs(): number;
  close(): Promise<void>;
}

/** What all nodes of one process share. */
export interface PresenceHub {
  readonly documents: Map<string, { readonly document: unknown; readonly owner: object }>;
  readonly listeners: Set<(key: string) => void>;
}

export const presenceHub = (): PresenceHub => ({ documents: new Map(), listeners: new Set() });

/** Presence among the nodes of this process: for one that has no others, and for tests. */
export function openMemoryPresence({ documents, listeners }: PresenceHub = presenceHub()): Presence {
  const owner = {};
  const watching = new Set<() => void>();
  const waiting = new Map<string, { document: object; told: unknown; readonly claimant: Claimant }>();
  const tell = (key: string): void => {
    for (const listener of listeners) listener(key);
  };
  /** Has what of its own differs from this there, and tells of it. */
  const put = (key: string, document: object): void => {
    const known = documents.get(key);
    if (known?.owner === owner && isDeepStrictEqual(known.document, document)) return;
    documents.set(key, { document: structuredClone(document), owner });
    tell(key);
  };
  const claimAll = (): void => {
    for (const [key, claim] of waiting) {
      const held = documents.get(key);
      if (held === undefined || held.owner === owner || claim.claimant.hasEnded(held.document)) {
        waiting.delete(key);
        put(key, claim.document);
      } else if (claim.told !== held.document) {
        claim.told = held.document;
        claim.claimant.taken(held.document);
      }
    }
  };
  listeners.add(claimAll);
  return {
    set(key, document) {
      const claim = waiting.get(key);
      if (claim && document !== null) claim.document = document;
      else if (document !== null) put(key, document);
      else {
        waiting.delete(key);
        if (documents.get(key)?.owner === owner && documents.delete(key)) tell(key);
      }
    },
    claim(key, document, claimant) {
      waiting.set(key, { document, told: null, claimant });
      claimAll();
    },
    watch(prefix, listener) {
      let isDue = true;
      let stopped = false;
      const tell = (): void => {
        isDue = false;
        if (stopped) return;
        const below = [...documents].filter(([key]) => key.startsWith(prefix));
        listener(new Map(below.map(([key, { document }]) => [key, document])));
      };
      const look = (key: string): void => {
        if (isDue || !key.startsWith(prefix)) return;
        isDue = true;
        setImmediate(tell);
      };
      const stop = (): void => {
        stopped = true;
        listeners.delete(look);
        watching.delete(stop);
      };
      listeners.add(look);
      watching.add(stop);
      setImmediate(tell);
      return stop;
    },
    leftMs: () => Number.POSITIVE_INFINITY,
    async close() {
      for (const stop of watching) stop();
      listeners.delete(claimAll);
      const own = [...documents].flatMap(([key, { owner: whose }]) => (whose === owner ? [key] : []));
      for (const key of own) documents.delete(key);
      for (const key of own) tell(key);
    },
  };
}
