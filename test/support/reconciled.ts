// SPDX-License-Identifier: Apache-2.0
// A packet path without an interface, kept by a real reconciler from a real store: only the next hops are invented.
import assert from 'node:assert/strict';
import type { TestContext } from 'node:test';
import { isDeepStrictEqual } from 'node:util';
import { openMemoryStore } from '../../src/controlplane/memory-store.js';
import type { NextHop } from '../../src/controlplane/next-hops.js';
import { type Reconciler, startReconciler } from '../../src/controlplane/reconciler.js';
import type { Change, Store } from '../../src/controlplane/store.js';
import type { MapName, Maps } from '../../src/dataplane/maps.js';
import type { NativeProgram } from '../../src/dataplane/native.js';
import { formatAddress } from '../../src/model/address.js';
import type { Pool, Service, Snapshot } from '../../src/model/objects.js';
import type { NodeFacts } from '../../src/observability/facts.js';
import { nodeFacts } from '../../src/observability/node.js';
import { openPacketPath } from './packet-path.js';
import { packet, TCP } from './packets.js';
import { HOP } from './snapshots.js';

export interface Reconciled {
  readonly maps: Maps;
  readonly program: NativeProgram;
  readonly store: Store;
  readonly reconciler: Reconciler;
  readonly facts: NodeFacts;
  /** Addresses whose next hop is not known; `moved` tells the reconciler of a change. */
  readonly lost: Set<string>;
  /** Addresses behind a router. */
  readonly routed: Set<string>;
  moved(): void;
  /** `resolve` is called for each round before it knows its next hops. */
  readonly on: { resolve: () => Promise<void> };
  /** Writes these objects and waits until the kernel has them. */
  put(...objects: (Pool | Service)[]): Promise<void>;
  remove(...objects: (Pool | Service)[]): Promise<void>;
  /** What comes every 10 seconds: all is compared with the kernel, and a round that has nothing to do, unless something changed. */
  round(): Promise<void>;
  /** Ends the reconciler and starts another, as a new daemon would. */
  restart(): Promise<void>;
  /** A packet of a client's flow, 'syn' begins it: the backend's address, or what became of it. */
  send(service: Service, client: number, kind?: 'syn' | 'ack'): string;
}

const VERDICTS = ['aborted', 'drop', 'pass', 'tx', 'redirect'];
const ROUND_MS = 20_000;
const ROUTED = { ...HOP, onLink: false };

export const changeOf = (object: Pool | Service): Exclude<Change, { kind: 'health' }> =>
  'backends' in object
    ? { kind: 'pool', name: object.name, value: object }
    : { kind: 'service', name: object.name, value: object };

/** `initial`: what the store holds; or the store itself, which whoever opened it closes. */
export async function openReconciled(
  t: Pick<TestContext, 'after'>,
  from: { readonly initial?: Snapshot; readonly store?: Store } = {},
): Promise<Reconciled> {
  const { maps, program, close } = await openPacketPath();
  const store = from.store ?? openMemoryStore(from.initial);
  const lost = new Set<string>();
  const routed = new Set<string>();
  const on: Reconciled['on'] = { resolve: async () => undefined };
  let moved: () => void = () => undefined;
  let answered = new Map<string, NextHop | null>();
  const resolver = {
    async resolve(addresses: ReadonlySet<string>): Promise<Map<string, NextHop | null>> {
      await on.resolve();
      const found = new Map(
        [...addresses].map((address) => [address, lost.has(address) ? null : routed.has(address) ? ROUTED : HOP]),
      );
      if (!isDeepStrictEqual(found, answered)) answered = found;
      return answered; // the same map while none moves, as of the real one
    },
    onChange(listener: () => void): void {
      moved = listener;
    },
    close: () => undefined,
  };
  let reconciler = startReconciler(maps, store, resolver, async () => null, {
    source: null,
    source6: null,
    egress: [],
  });
  const interfaces = [{ name: 'lo', slot: 0, mode: 'native', program: 'xdp_lb', tag: '', start: 'attached' }] as const;
  const factsOf = (): NodeFacts =>
    nodeFacts(
      { name: 'edge-1', version: '1.2.3', startedAt: new Date(0) },
      {
        maps,
        interfaces,
        warnings: [],
        setFeatures: async () => null,
        nat: () => null,
        openProbes: () => Promise.reject(new Error('no interface')),
        close,
      },
      reconciler,
      store,
    );
  let facts = factsOf();
  const update = async (changes: readonly Change[]): Promise<void> => {
    const { revision } = await store.update(() => changes);
    await reconciler.applied(revision, ROUND_MS);
  };
  const node: Reconciled = {
    maps,
    program,
    store,
    lost,
    routed,
    moved: () => moved(),
    get reconciler() {
      return reconciler;
    },
    get facts() {
      return facts;
    },
    on,
    put: (...objects) => update(objects.map(changeOf)),
    remove: (...objects) => update(objects.map((object) => ({ ...changeOf(object), value: null }))),
    round: () => reconciler.verify(),
    async restart() {
      await reconciler.close();
      reconciler = startReconciler(maps, store, resolver, async () => null, {
        source: null,
        source6: null,
        egress: [],
      });
      facts = factsOf();
      await reconciler.applied(store.read().revision, ROUND_MS);
    },
    send({ address, port, protocol }, client, kind = 'syn') {
      const flags = kind === 'syn' ? TCP.SYN : TCP.ACK;
      const from = `198.51.100.${1 + (client >> 14)}`;
      const frame = packet({ from, to: address, fromPort: 1024 + (client & 16383), toPort: port, protocol, flags });
      const { retval, data } = program.run(frame, null);
      return VERDICTS[retval] === 'tx' ? formatAddress(data.subarray(30, 34)) : (VERDICTS[retval] ?? '?');
    },
  };
  t.after(async () => {
    await reconciler.close();
    if (!from.store) await store.close();
    program.close();
    maps.close();
  });
  await reconciler.applied(store.read().revision, ROUND_MS);
  return node;
}

/** Every byte of every map. */
export async function contents({ handle }: Maps): Promise<Map<MapName, Buffer>> {
  const found = new Map<MapName, Buffer>();
  for (const name of Object.keys(handle) as MapName[]) {
    const { keys, values } = await handle[name].readAll();
    found.set(name, Buffer.concat([keys, values]));
  }
  return found;
}

export function assertSameContents(now: Map<MapName, Buffer>, before: Map<MapName, Buffer>): void {
  for (const [name, bytes] of before) assert.ok(now.get(name)?.equals(bytes), `map ${name} is as it was`);
}

/** Waits until `holds`, at most `deadlineMs`. */
export async function until(what: string, holds: () => boolean, deadlineMs = 10_000): Promise<void> {
  const deadline = performance.now() + deadlineMs;
  while (!holds()) {
    assert.ok(performance.now() < deadline, `${what}: not within ${deadlineMs} ms`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
