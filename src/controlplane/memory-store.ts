// SPDX-License-Identifier: Apache-2.0
import { randomBytes } from 'node:crypto';
import type { Snapshot } from '../model/objects.js';
import type { Store } from './store.js';
import { createStore } from './store-core.js';

/** An empty snapshot at revision 0 with a hash key of its own. */
export const emptySnapshot = (): Snapshot => ({
  revision: 0,
  hashKey: newHashKey(),
  services: new Map(),
  pools: new Map(),
});

/** A store that lasts as long as the process. */
export function openMemoryStore(initial = emptySnapshot()): Store {
  return createStore({
    kind: 'memory',
    initial,
    persist: async () => undefined,
    release: () => undefined,
  });
}

/** A new secret for the ring hash: 32 hex digits. */
export function newHashKey(): string {
  return randomBytes(16).toString('hex');
}
