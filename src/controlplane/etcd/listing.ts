// SPDX-License-Identifier: Apache-2.0
import { FairleadError } from '../../model/errors.js';
import type { EtcdClient, Header, KeyRange, KeyValue } from './client.js';

/** Every key of a range at one revision. */
export interface Listing extends Header {
  readonly items: readonly KeyValue[];
}

/** What a page should weigh: decoding it holds the event loop. Documents differ by a factor of a thousand in size. */
const PAGE_BYTES = 128 * 1024;
const PAGE_ITEMS = { first: 16, max: 512 } as const;
const ATTEMPTS = 3;

/** Lists a range in pages, all of them at the revision of the first. Throws as EtcdClient does. */
export async function listRange(client: EtcdClient, range: KeyRange): Promise<Listing> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await listOnce(client, range);
    } catch (error) {
      // Compacted between two pages.
      if (!(error instanceof FairleadError && error.code === 'not-found') || attempt === ATTEMPTS) throw error;
    }
  }
}

async function listOnce(client: EtcdClient, range: KeyRange): Promise<Listing> {
  const items: KeyValue[] = [];
  let header: Header | null = null;
  let limit: number = PAGE_ITEMS.first;
  let from = range.from;
  for (;;) {
    const page = await client.range(
      { from, to: range.to },
      { limit, ...(header !== null && { revision: header.revision }) },
    );
    header ??= { clusterId: page.clusterId, revision: page.revision };
    if (page.clusterId !== header.clusterId)
      throw new FairleadError('unavailable', 'etcd: read: another cluster answers now');
    for (const item of page.items) items.push(item);
    const last = page.items.at(-1);
    if (!page.more || last === undefined) return { ...header, items };
    from = `${last.key}\0`;
    const size = page.items.reduce((total, item) => total + item.size + item.key.length, 1);
    limit = Math.max(1, Math.min(PAGE_ITEMS.max, Math.floor((page.items.length * PAGE_BYTES) / size)));
  }
}
