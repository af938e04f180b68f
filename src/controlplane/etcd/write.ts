// SPDX-License-Identifier: Apache-2.0
// One write to etcd: done, lost to a faster writer, or refused. Never "done or not, who knows" while etcd can still be asked.
import { setTimeout as delay } from 'node:timers/promises';
import { FairleadError, messageOf } from '../../model/errors.js';
import type { Condition, EtcdClient, KeyValue, Put } from './client.js';
import { writeIdOf } from './documents.js';
import { isStale, wasSent } from './errors.js';

/** What is written, under which conditions. Every write puts `guard` too, with its `writeId`: the values of that key are the history of writes. */
export interface Write {
  readonly writeId: string;
  readonly guard: string;
  /** What the guard is to be at: its newest revision the writer knows, 0 without. */
  readonly guardRevision: number;
  readonly conditions: readonly Condition[];
  readonly puts: readonly Put[];
  /** What is answered when it is lost, beside the guard. */
  readonly read: readonly string[];
}

export type Outcome =
  | { readonly done: true; readonly revision: number }
  | { readonly done: false; readonly guard: KeyValue | null; readonly found: readonly (KeyValue | null)[] };

/** How long a write waits for its answer, and how long one that was lost is asked for, ms: together what a writer may have to wait. */
const ANSWER_MS = 4000;
const UNSURE_MS = 5000;
const RETRY_MS = 50;

/**
 * Commits once. An answer that is lost on the way is found out: the same write is tried again, under the same conditions, so it can be done once
 * only; when it is refused, the history of the guard tells whether the first one was done. Throws as EtcdClient does; 'unavailable' says
 * whether nothing was changed, or it is not known. `tries`: endpoints to try that have no connection.
 */
export async function commitOnce(client: EtcdClient, write: Write, tries: number): Promise<Outcome> {
  const { guard, guardRevision, writeId } = write;
  const conditions = [{ key: guard, revision: guardRevision }, ...write.conditions];
  const puts = [...write.puts, { key: guard, value: JSON.stringify({ writeId }) }];
  let unsureSince: number | null = null;
  for (let attempt = 1; ; attempt++) {
    try {
      const leftMs = unsureSince === null ? ANSWER_MS : unsureSince + UNSURE_MS - performance.now();
      const answer = await client.commit(conditions, puts, [guard, ...write.read], Math.min(ANSWER_MS, leftMs));
      if (answer.done) return { done: true, revision: answer.revision };
      const [now = null, ...found] = answer.found;
      const revision = unsureSince === null ? null : await revisionOf(client, write, now, unsureSince + UNSURE_MS);
      return revision === null ? { done: false, guard: now, found } : { done: true, revision };
    } catch (error) {
      if (!(error instanceof FairleadError) || error.code !== 'unavailable') throw error;
      if (wasSent(error) && !isStale(error)) unsureSince ??= performance.now();
      if (isStale(error)) client.renew();
      const isOver = unsureSince === null ? attempt >= tries : performance.now() - unsureSince > UNSURE_MS;
      if (isOver) throw givenUp(error, unsureSince !== null);
      await delay(unsureSince === null ? 0 : RETRY_MS);
    }
  }
}

function givenUp(error: FairleadError, isUnsure: boolean): FairleadError {
  const end = isUnsure ? 'whether it was written is not known: read it, then decide' : 'nothing was changed';
  return new FairleadError('unavailable', `${messageOf(error)}; ${end}`, [], { cause: error });
}

/**
 * The revision this write was done at, null when it was not: looked for from the newest value of the guard back to the one it was made on. A read
 * that is lost on the way is asked again where it was, until `until` (performance.now()): to begin anew each time might never end.
 */
async function revisionOf(
  client: EtcdClient,
  { guard, guardRevision, writeId }: Write,
  newest: KeyValue | null,
  until: number,
): Promise<number | null> {
  let value = newest;
  while (value !== null && value.revision > guardRevision) {
    if (writeIdOf(value.value) === writeId) return value.revision;
    try {
      const older = await client.range(guard, { revision: value.revision - 1 });
      value = older.items[0] ?? null;
    } catch (error) {
      if (error instanceof FairleadError && error.code === 'not-found')
        throw new FairleadError(
          'native',
          `etcd: write: the answer was lost, and its history is compacted; whether it was written is not known`,
        );
      const isLost = error instanceof FairleadError && error.code === 'unavailable';
      if (!isLost || performance.now() > until) throw error;
      if (isStale(error)) client.renew();
      await delay(RETRY_MS);
    }
  }
  return null;
}
