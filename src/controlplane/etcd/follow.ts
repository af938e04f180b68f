// SPDX-License-Identifier: Apache-2.0
// Keeps a reader equal to a range of keys: list, watch, and list again whenever the watch may have missed something.
import { FairleadError, messageOf } from '../../model/errors.js';
import type { EtcdClient, Header, KeyEvent, KeyRange, WatchStream } from './client.js';
import { isStale } from './errors.js';
import { type Listing, listRange } from './listing.js';

/** Why everything was listed again. */
export type RelistReason = 'start' | 'compacted' | 'cluster_changed' | 'revision_back' | 'periodic' | 'asked';

export const RELIST_REASONS: readonly RelistReason[] = [
  'start',
  'compacted',
  'cluster_changed',
  'revision_back',
  'periodic',
  'asked',
];

/** `isOther`: revisions from before mean nothing any more, for the cluster is another one or went back. */
export interface FollowedListing extends Listing {
  readonly isOther: boolean;
}

/** Who follows. Its functions are called one at a time, and the next when the promise of the one before has resolved. */
export interface Reader {
  /** `list` answers everything there is; what the reader has is to become that. Answers the listing it took. */
  relist(list: () => Promise<FollowedListing>, reason: RelistReason): Promise<Listing>;
  /** Changes, oldest first, whole revisions, each told once. */
  changed(events: readonly KeyEvent[]): Promise<void>;
  /** Null: the watch runs. */
  connected(error: FairleadError | null): void;
}

export interface Follower {
  /** Lists everything soon. */
  relist(): void;
  close(): Promise<void>;
}

export interface FollowTimes {
  /** Between two lists that nothing asked for, ms; a tenth more or less. */
  readonly relistMs: number;
  /** Between two questions for a sign of life, and how long none is borne, ms. */
  readonly askMs: number;
  readonly silenceMs: number;
}

const TIMES: FollowTimes = { relistMs: 300_000, askMs: 10_000, silenceMs: 30_000 };
/** How long etcd may take to begin a watch, ms. */
const CREATED_MS = 5000;
const BACKOFF_MS = { first: 50, max: 2000 } as const;

/** Follows `range` until closed. Nothing is thrown: what goes wrong is told to `connected`, and tried again. */
export function follow(
  client: EtcdClient,
  range: KeyRange,
  reader: Reader,
  { relistMs, askMs, silenceMs }: FollowTimes = TIMES,
): Follower {
  /** The newest revision whose events the reader has, or that of the list it has: from messages with events only. */
  let cursor: Header | null = null;
  let wanted: RelistReason | null = 'start';
  let stream: WatchStream | null = null;
  let closed = false;
  let failures = 0;
  let ended = false; // the stream, by us
  let wake: () => void = () => undefined;

  const want = (reason: RelistReason): void => {
    wanted ??= reason;
    if (stream) ended = true;
    stream?.cancel();
    wake();
  };

  async function relist(reason: RelistReason): Promise<Header> {
    const list = async (): Promise<FollowedListing> => {
      const listing = await listRange(client, range);
      return { ...listing, isOther: cursor !== null && broken(listing, cursor) !== null };
    };
    const { clusterId, revision } = await reader.relist(list, reason);
    cursor = { clusterId, revision };
    wanted = null;
    return cursor;
  }

  /** Why the events after `cursor` are not to be had from this cluster; null when they are. */
  function broken({ clusterId, revision }: Header, at: Header): RelistReason | null {
    if (clusterId !== at.clusterId) return 'cluster_changed';
    return revision < at.revision ? 'revision_back' : null;
  }

  /** Before every watch: renews what the server knows of us, proves a quorum, and tells a wiped or restored cluster. */
  async function prepare(): Promise<Header> {
    if (cursor !== null) {
      const reason = broken(await client.probe(range), cursor);
      if (reason !== null) wanted = reason;
    }
    return cursor === null || wanted !== null ? relist(wanted ?? 'start') : cursor;
  }

  async function watchOnce(): Promise<void> {
    ended = false;
    const start = await prepare();
    if (closed) return;
    stream = await client.watch(range, start.revision + 1);
    if (closed || wanted !== null) {
      stream.cancel();
      stream = null;
      return;
    }
    let heard = performance.now();
    let bearMs = CREATED_MS;
    const pulse = setInterval(
      () => {
        if (performance.now() - heard > bearMs) stream?.cancel();
        else stream?.ask();
      },
      Math.min(askMs, CREATED_MS),
    );
    const again = setTimeout(() => want('periodic'), relistMs * (0.9 + Math.random() * 0.2));
    try {
      for await (const message of stream) {
        heard = performance.now();
        const at: Header = cursor ?? start;
        if (message.kind === 'compacted') return want('compacted');
        if (message.kind === 'canceled') throw new FairleadError('unavailable', `etcd: watch: ${message.reason}`);
        if (message.clusterId !== at.clusterId) return want('cluster_changed');
        if (message.kind === 'created') {
          bearMs = silenceMs;
          failures = 0;
          reader.connected(null);
        }
        const news = message.events.filter(({ revision }) => revision > at.revision);
        const last = news.at(-1);
        if (last === undefined) continue;
        await reader.changed(news);
        heard = performance.now(); // the reader's time is not etcd's silence
        cursor = { clusterId: at.clusterId, revision: last.revision };
      }
      if (wanted === null) throw new FairleadError('unavailable', 'etcd: watch: the stream ended');
    } finally {
      clearInterval(pulse);
      clearTimeout(again);
      stream?.cancel();
      stream = null;
    }
  }

  async function run(): Promise<void> {
    while (!closed) {
      try {
        await watchOnce();
      } catch (error) {
        if (closed) break;
        if (ended) continue;
        reader.connected(
          error instanceof FairleadError ? error : new FairleadError('native', messageOf(error), [], { cause: error }),
        );
        if (isStale(error)) client.renew();
        await pause(Math.min(BACKOFF_MS.max, BACKOFF_MS.first * 2 ** failures++) * (0.5 + Math.random()));
      }
    }
  }

  function pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  const running = run();
  return {
    relist: () => want('asked'),
    async close() {
      closed = true;
      stream?.cancel();
      wake();
      await running;
    },
  };
}
