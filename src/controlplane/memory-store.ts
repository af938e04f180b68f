// SPDX-License-Identifier: Apache-2.0
import { randomBytes } from 'node:crypto';
import type { Store } from './store.js';
import { createStore } from './store-core.js';

/** A store that lasts as long as the process: empty, revision 0, a random hash key. */
export function openMemoryStore(): Store {
  return createStore({
    kind: 'memory',
    initial: { revision: 0, hashKey: newHashKey(), services: new Map(), pools: new Map() },
    persist: async () => undefined,
    release: () => undefined,
  });
}

/** A new secret for the ring hash: 32 hex digits. */
export function newHashKey(): string {
  return randomBytes(16).toString('hex');
}
