// SPDX-License-Identifier: Apache-2.0
// Documents that last as long as the node that wrote them: who is there, and what each finds healthy.

/**
 * The same contract for etcd and memory (test/unit/presence-contract.ts). Keys are paths of two parts or more, as `nodes/edge-1`; a document is any JSON object.
 *
 * - `set` is what this node wants to be there: it is written soon, and again whenever it was lost. `null` takes it away.
 * - `claim` is `set` for a key that one node alone may have: while another has it that one's document stays, and `taken` is told of it, and of each change of it; the key is
 *   had as soon as it is free. A later `set` of it changes what is claimed.
 * - `watch` calls back with everything below a prefix (`nodes/`), by key, of all nodes: at first with what there is, then after each change.
 * - `leftMs` is how long the others are sure to see what this node wrote, on this node's own clock: at 0 it may be gone, and another may have taken its place.
 * - `close` takes away what this node wrote, if that can be done.
 */
export interface Presence {
  set(key: string, document: object | null): void;
  claim(key: string, document: object, taken: (holder: unknown) => void): void;
  watch(prefix: string, listener: (documents: ReadonlyMap<string, unknown>) => void): () => void;
  leftMs(): number;
  close(): Promise<void>;
}

/** What all nodes of one process share. */
export interface PresenceHub {
  readonly documents: Map<string, { readonly document: unknown; readonly owner: object }>;
  readonly listeners: Set<() => void>;
}

export const presenceHub = (): PresenceHub => ({ documents: new Map(), listeners: new Set() });

/** Presence among the nodes of this process: for one that has no others, and for tests. */
export function openMemoryPresence({ documents, listeners }: PresenceHub = presenceHub()): Presence {
  const owner = {};
  const watching = new Set<() => void>();
  const waiting = new Map<string, { document: object; told: unknown; readonly taken: (holder: unknown) => void }>();
  const tell = (): void => {
    for (const listener of listeners) listener();
  };
  const claimAll = (): void => {
    for (const [key, claim] of waiting) {
      const held = documents.get(key);
      if (held === undefined || held.owner === owner) {
        waiting.delete(key);
        documents.set(key, { document: structuredClone(claim.document), owner });
        queueMicrotask(tell);
      } else if (claim.told !== held.document) {
        claim.told = held.document;
        claim.taken(held.document);
      }
    }
  };
  listeners.add(claimAll);
  return {
    set(key, document) {
      const claim = waiting.get(key);
      if (claim && document !== null) claim.document = document;
      else if (document !== null) documents.set(key, { document: structuredClone(document), owner });
      else {
        waiting.delete(key);
        if (documents.get(key)?.owner === owner) documents.delete(key);
      }
      tell();
    },
    claim(key, document, taken) {
      waiting.set(key, { document, told: null, taken });
      tell();
    },
    watch(prefix, listener) {
      let told = '';
      const look = (): void => {
        const below = [...documents].filter(([key]) => key.startsWith(prefix));
        const now = new Map(below.map(([key, { document }]) => [key, document]));
        const text = JSON.stringify([...now]);
        if (text !== told) listener(now);
        told = text;
      };
      const stop = (): void => {
        listeners.delete(look);
        watching.delete(stop);
      };
      listeners.add(look);
      watching.add(stop);
      queueMicrotask(look);
      return stop;
    },
    leftMs: () => Number.POSITIVE_INFINITY,
    async close() {
      for (const stop of watching) stop();
      listeners.delete(claimAll);
      for (const [key, { owner: whose }] of documents) if (whose === owner) documents.delete(key);
      tell();
    },
  };
}
