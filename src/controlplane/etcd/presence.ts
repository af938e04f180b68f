// SPDX-License-Identifier: Apache-2.0
// Presence in etcd: documents under one lease of this node.
import { FairleadError, messageOf } from '../../model/errors.js';
import type { Claimant, Presence } from '../presence.js';
import type { StoreLog } from '../store.js';
import { type EtcdClient, prefixRange } from './client.js';
import { isStale } from './errors.js';
import { type FollowTimes, follow } from './follow.js';
import { keysBelow } from './keys.js';

export interface EtcdPresenceOptions {
  /** Closed by whoever opened it. */
  readonly client: EtcdClient;
  /** Ends with '/'. */
  readonly prefix: string;
  readonly node: string;
  readonly log: StoreLog;
  /** A node that is gone is gone for the others after so long. */
  readonly ttlSeconds?: number;
  readonly times?: FollowTimes;
}

const TTL_SECONDS = 10;
/** Keys per write; etcd takes 128. */
const BATCH = 100;
/** A key that another has is looked at this often. */
const CLAIM_MS = 500;

/** The document of who holds a key; null when it is none. */
function holderOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** Does nothing until a first document is set. What goes wrong is told to the log once, and tried again until it is closed. */
export function openEtcdPresence({
  client,
  prefix,
  node,
  log,
  ttlSeconds = TTL_SECONDS,
  times,
}: EtcdPresenceOptions): Presence {
  const keys = keysBelow(prefix);
  const wanted = new Map<string, string>();
  const written = new Map<string, string>();
  const claims = new Map<string, { told: string | null; readonly claimant: Claimant }>();
  const watching = new Set<() => Promise<void>>();
  let lease: string | null = null;
  let seenUntil = 0; // performance.now()
  let keepAt = 0;
  let told = '';
  let closed = false;
  let running: Promise<void> | null = null;
  let wake: () => void = () => undefined;

  const leftMs = (): number => (lease === null ? 0 : Math.max(0, seenUntil - performance.now()));

  /** Takes the lease, or keeps it. The time counts from before the request: etcd's own clock began later. */
  async function hold(): Promise<string> {
    const now = performance.now();
    if (lease !== null && now < keepAt) return lease;
    if (lease !== null && !(await client.keepAlive(lease))) lost();
    if (lease === null) lease = await client.grant(ttlSeconds);
    seenUntil = now + ttlSeconds * 1000;
    keepAt = now + (ttlSeconds * 1000) / 3;
    return lease;
  }

  function lost(): void {
    lease = null;
    written.clear();
  }

  /** Whether this key is to be claimed before it may be written: each lease claims anew. */
  const isClaim = (key: string): boolean => claims.has(key) && !written.has(key);

  /** Takes the key, unless another has it. */
  async function claim(key: string, value: string, id: string): Promise<void> {
    const put = [{ key, value, lease: id }];
    const { done, found } = await client.commit([{ key, revision: 0 }], put, [key]);
    const [held] = found;
    const one = claims.get(key);
    // What we have written ourselves, for the answer to that was lost; or what this node was before.
    const isOurs = held?.value === value || (held && one?.claimant.hasEnded(holderOf(held.value)));
    if (done || (isOurs && (await client.commit([{ key, revision: held.revision }], put)).done)) {
      written.set(key, value);
      return;
    }
    if (!held || !one) return;
    if (one.told !== held.value) one.claimant.taken(holderOf(held.value));
    one.told = held.value;
  }

  async function write(): Promise<void> {
    const id = await hold();
    for (const [key, value] of wanted) if (isClaim(key)) await claim(key, value, id);
    const puts = [...wanted].filter(([key, value]) => written.get(key) !== value && !isClaim(key));
    const gone = [...written.keys()].filter((key) => !wanted.has(key));
    const changes = [
      ...puts.map(([key, value]) => ({ key, value, lease: id })),
      ...gone.map((key) => ({ key, value: null })),
    ].slice(0, BATCH);
    if (changes.length === 0) return;
    await client.commit([], changes);
    for (const { key, value } of changes) {
      if (value === null) written.delete(key);
      else written.set(key, value);
    }
  }

  const isBehind = (): boolean =>
    [...written.keys()].some((key) => !wanted.has(key)) ||
    [...wanted].some(([key, value]) => written.get(key) !== value && !isClaim(key));

  async function run(): Promise<void> {
    while (!closed) {
      let restMs = 0;
      try {
        await write();
        told = '';
        if (!isBehind()) restMs = Math.max(0, keepAt - performance.now());
        if ([...wanted.keys()].some(isClaim)) restMs = Math.min(restMs, CLAIM_MS);
      } catch (error) {
        if (error instanceof FairleadError && error.code === 'not-found') lost(); // the lease
        if (isStale(error)) client.renew();
        const line = `say that node "${node}" is there: ${messageOf(error)}`;
        if (line !== told) log.warn({ leftMs: Math.round(leftMs()) }, line);
        told = line;
        restMs = 200 + Math.random() * 300;
      }
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, restMs);
        wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  }

  return {
    set(key, document) {
      const full = keys.below(key);
      if (document === null) {
        wanted.delete(full);
        claims.delete(full);
      } else wanted.set(full, JSON.stringify(document));
      running ??= run();
      if (told === '') wake(); // else it rests until it tries again
    },
    claim(key, document, claimant) {
      claims.set(keys.below(key), { told: null, claimant });
      this.set(key, document);
    },
    watch(path, listener) {
      const documents = new Map<string, unknown>();
      const texts = new Map<string, string>();
      let isChanged = true; // nothing is told, too, at first
      const take = (key: string, text: string | null): void => {
        const short = keys.short(key);
        if (texts.get(short) === (text ?? undefined)) return;
        try {
          if (text === null) documents.delete(short);
          else documents.set(short, JSON.parse(text));
          if (text === null) texts.delete(short);
          else texts.set(short, text);
          isChanged = true;
        } catch (error) {
          log.warn({ key, detail: messageOf(error) }, 'document skipped; the last good one stays in force');
        }
      };
      const tell = (): void => {
        if (isChanged) listener(new Map(documents));
        isChanged = false;
      };
      const follower = follow(
        client,
        prefixRange(keys.below(path)),
        {
          async relist(list) {
            const listing = await list();
            const there = new Set(listing.items.map(({ key }) => keys.short(key)));
            for (const short of [...documents.keys()]) if (!there.has(short)) take(keys.below(short), null);
            for (const { key, value } of listing.items) take(key, value);
            tell();
            return listing;
          },
          async changed(events) {
            for (const { key, value } of events) take(key, value);
            tell();
          },
          connected: () => undefined, // the store says so
        },
        times,
      );
      const stop = async (): Promise<void> => {
        watching.delete(stop);
        await follower.close();
      };
      watching.add(stop);
      return () => void stop();
    },
    leftMs,
    async close() {
      closed = true;
      wake();
      await Promise.all([running, ...[...watching].map((stop) => stop())]);
      if (lease !== null) await client.revoke(lease).catch(() => undefined); // it ends by itself
      lease = null;
    },
  };
}
