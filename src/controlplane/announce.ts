// SPDX-License-Identifier: Apache-2.0
// Which VIPs this node asks the network to send to it: a route for each in a table of its own, which a routing daemon announces.
import { messageOf } from '../model/errors.js';
import type { EventLog } from '../model/events.js';
import type { AnnounceStatus } from '../model/node-view.js';
import type { Backend, Snapshot } from '../model/objects.js';
import { timeOfDay } from './clock.js';
import { isDown, isOver, isReachable, type NextHops, onLinkPools } from './desired.js';
import type { Reconciler } from './reconciler.js';
import { addRoute, deleteRoute, readRoutes } from './routes.js';
import type { StoreLog } from './store.js';

export interface AnnouncerOptions {
  readonly table: number;
  readonly reconciler: Pick<Reconciler, 'state' | 'onRound'>;
  /** Why no address at all is to be announced now; null: those that are ready are. */
  readonly withheld: () => string | null;
  /** Told after each look how many addresses are announced. */
  readonly announcing?: (count: number) => void;
  readonly events: Pick<EventLog, 'emit'>;
  readonly log: Pick<StoreLog, 'warn'>;
}

export interface Announcer {
  status(): AnnounceStatus;
  /** Looks soon whether something has changed; it looks each second by itself. */
  check(): void;
  /** Takes all routes of ours away, for good: true when there were any. */
  withdraw(): Promise<boolean>;
  /** The routes stay. */
  close(): Promise<void>;
}

const LOOK_MS = 1000;
/** A VIP is withdrawn when it has had no backend for so long: a neighbour that has to be found anew is no reason. */
const SETTLE_MS = 1000;
/** A route that somebody took away is there again within this. */
const READ_MS = 10_000;

const NO_BACKEND = 'no backend of its services is up';

/** Whether connections are kept here: those of a drain are, to its end. */
const serves = (backend: Backend, now: number): boolean => backend.state !== 'disabled' && !isOver(backend, now);

/** Every VIP there is, with why it is not ready, or null: a backend of one of its services is. */
export function vipsOf(snapshot: Snapshot, hops: NextHops, now: number): Map<string, string | null> {
  const onLink = onLinkPools(snapshot);
  const ready = new Map<string, boolean>();
  for (const [pool, { value, health }] of snapshot.pools)
    ready.set(
      pool,
      value.backends.some(
        (each) =>
          serves(each, now) && isReachable(hops.get(each.address), onLink.has(pool)) && !isDown(health, each.name),
      ),
    );
  const vips = new Map<string, string | null>();
  for (const { value } of snapshot.services.values()) {
    if (vips.get(value.address) === null) continue;
    vips.set(value.address, ready.get(value.pool) === true ? null : NO_BACKEND);
  }
  return vips;
}

/** Routes that a run before left are kept or taken away once the first round is through; those in other tables go at once. */
export function openAnnouncer(options: AnnouncerOptions): Announcer {
  const { table, reconciler, withheld, announcing = () => undefined, events, log } = options;
  let have: Set<string> | null = null; // null: not read yet
  let readAt = Number.NEGATIVE_INFINITY;
  let details = new Map<string, string | null>();
  const downSince = new Map<string, number>();
  let told = '';
  let closed = false;
  let tail: Promise<unknown> = Promise.resolve();

  /** The addresses to be announced now. */
  function wanted(): Set<string> {
    const { snapshot, hops, revision } = reconciler.state();
    const why = withheld() ?? (revision < 0 ? 'the store has not been applied yet' : null);
    const now = performance.now();
    const vips = vipsOf(snapshot, hops, timeOfDay());
    details = new Map([...vips].map(([address, own]) => [address, why ?? own]));
    for (const address of downSince.keys()) if (vips.get(address) !== NO_BACKEND) downSince.delete(address);
    if (why !== null) return new Set();
    const ready = new Set<string>();
    for (const [address, own] of vips) {
      if (own !== null && !downSince.has(address)) downSince.set(address, now);
      const isSettling = have?.has(address) === true && now - (downSince.get(address) ?? 0) < SETTLE_MS;
      if (own === null || isSettling) ready.add(address);
    }
    return ready;
  }

  const emit = (address: string, what: 'announced' | 'withdrawn', message: string): void =>
    events.emit({
      type: `vip.${what}`,
      severity: what === 'announced' ? 'info' : 'warning',
      object: null,
      message,
      data: { address, table },
    });

  async function look(): Promise<void> {
    // Until the first round nothing is known of the backends: what a run before announced stays.
    if (closed || (reconciler.state().revision < 0 && withheld() === null)) return;
    try {
      await become(wanted());
      told = '';
    } catch (error) {
      const line = `keep the routes in table ${table}: ${messageOf(error)}`;
      if (line !== told) log.warn({ table }, line);
      told = line;
      have = null;
    }
  }

  async function become(next: ReadonlySet<string>): Promise<void> {
    if (have === null || performance.now() - readAt > READ_MS) {
      have = new Set((await readRoutes(table)).map(({ address }) => address));
      readAt = performance.now();
    }
    for (const address of [...have].filter((each) => !next.has(each))) {
      await deleteRoute({ table, address });
      have.delete(address);
      emit(
        address,
        'withdrawn',
        `${address} is not announced any more: ${details.get(address) ?? 'no service has it'}`,
      );
    }
    for (const address of [...next].filter((each) => !have?.has(each))) {
      if (await addRoute({ table, address })) {
        have.add(address);
        emit(address, 'announced', `${address} is announced`);
      } else details.set(address, `another's route is in table ${table}`);
    }
    announcing(have.size);
  }

  const inTurn = <T>(work: () => Promise<T>): Promise<T> => {
    const done = tail.then(work);
    tail = done.catch(() => undefined);
    return done;
  };
  let isWaiting = false;
  const check = (): void => {
    if (isWaiting) return;
    isWaiting = true;
    void inTurn(() => {
      isWaiting = false;
      return look();
    });
  };
  const timer = setInterval(check, LOOK_MS).unref();
  reconciler.onRound(check);
  void inTurn(() => removeElsewhere(table).catch((error: unknown) => log.warn({ table }, messageOf(error))));

  return {
    status: () => ({
      table,
      vips: [...details]
        .map(([address, detail]) => ({ address, announced: have?.has(address) === true, detail }))
        .sort((a, b) => (a.address < b.address ? -1 : 1)),
    }),
    check,
    async withdraw() {
      clearInterval(timer);
      return inTurn(async () => {
        closed = true;
        const routes = await readRoutes(table);
        for (const route of routes) await deleteRoute(route);
        have = new Set();
        return routes.length > 0;
      });
    },
    async close() {
      closed = true;
      clearInterval(timer);
      await tail;
    },
  };
}

/** Takes away what runs before left in other tables; in all of them for null. */
export async function removeElsewhere(table: number | null): Promise<void> {
  for (const route of await readRoutes(null)) if (route.table !== table) await deleteRoute(route);
}
