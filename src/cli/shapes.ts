// SPDX-License-Identifier: Apache-2.0
import type { BackendStatus, DropCount, FlowView, NodeInfo, NodeStatus, ServiceStatus } from '../model/node-view.js';
import type { Backend, Pool, Service } from '../model/objects.js';

/** An object as the API answers it; `status` is null while the node has not applied it. */
export type Shown<T, S> = T & { readonly revision: number; readonly status: S | null };

export type ShownService = Shown<Service, ServiceStatus>;

/** What the API says of a pool beside its document. Its backends' status is here by name, or with each backend. */
interface ShownPoolStatus {
  readonly ringRows: number;
  readonly failOpen?: boolean;
  readonly appliedRevision: number;
  readonly backends?: Readonly<Record<string, BackendStatus>>;
}

export type ShownPool = Omit<Shown<Pool, ShownPoolStatus>, 'backends'> & {
  readonly backends: readonly (Backend & { readonly status?: BackendStatus | null })[];
};

/** A backend with the pool it is in; the revision is that of the pool. */
export type ShownBackend = { readonly pool: string } & Shown<Backend, BackendStatus>;

export type ShownFlow = FlowView;
export type ShownDrop = DropCount;
export type ShownNode = NodeInfo;
export type ShownStatus = NodeStatus & { readonly warnings?: readonly string[] };

/** The backends of a pool, each with its status. */
export function backendsOf(pool: ShownPool): readonly ShownBackend[] {
  return pool.backends.map((backend) => ({
    pool: pool.name,
    ...backend,
    revision: pool.revision,
    status: backend.status ?? pool.status?.backends?.[backend.name] ?? null,
  }));
}
