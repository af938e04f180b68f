// SPDX-License-Identifier: Apache-2.0
// What a write would come to, told before it is done.
import type { Snapshot } from './objects.js';

/** Rows of rings, and of how many the owner would be another one. */
export interface RowsMoved {
  readonly total: number;
  readonly moved: number;
}

/**
 * Live flows as the flow table has them (a packet within the last five minutes, not closing or closed). `moved`: their backend would take nothing
 * any more, or their service would be gone. `onMovedRows`: their row would move, estimated from the share of their backend's rows; they stay
 * where they are as long as their record is kept.
 */
export interface FlowsMoved {
  readonly live: number;
  readonly moved: number;
  readonly onMovedRows: number;
}

/** What becomes of one object. */
export interface ObjectChange {
  readonly kind: 'service' | 'pool';
  readonly name: string;
  readonly action: 'create' | 'change' | 'delete';
}

export interface PoolEffect {
  readonly name: string;
  readonly rows: RowsMoved;
  readonly flows: FlowsMoved;
  /** Rows by backend, before and after. */
  readonly backends: readonly { readonly name: string; readonly rowsBefore: number; readonly rowsAfter: number }[];
}

/** Computed against the rings in the kernel and the flow table of this node. Pools that would not change are left out, of `rows` and `flows` too. */
export interface Effect {
  readonly changes: readonly ObjectChange[];
  readonly rows: RowsMoved;
  readonly flows: FlowsMoved;
  readonly pools: readonly PoolEffect[];
}

/** What differs between two states of the store: pools, then services, each by name. */
export function changesOf(before: Snapshot, next: Snapshot): readonly ObjectChange[] {
  return (['pool', 'service'] as const).flatMap((kind) => {
    const [was, is] = kind === 'pool' ? [before.pools, next.pools] : [before.services, next.services];
    const names = [...new Set([...was.keys(), ...is.keys()])].sort();
    return names.flatMap((name): ObjectChange[] => {
      if (was.get(name) === is.get(name)) return [];
      return [{ kind, name, action: !was.has(name) ? 'create' : is.has(name) ? 'change' : 'delete' }];
    });
  });
}
