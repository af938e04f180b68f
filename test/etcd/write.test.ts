// SPDX-License-Identifier: Apache-2.0
// A write whose answer is lost, moment by moment; and a list that is compacted between two pages.
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { type EtcdClient, prefixRange } from '../../src/controlplane/etcd/client.js';
import { listRange } from '../../src/controlplane/etcd/listing.js';
import { commitOnce, type Write } from '../../src/controlplane/etcd/write.js';
import { FairleadError } from '../../src/model/errors.js';
import { startEtcd } from '../support/etcd.js';

const guard = '/w/revision';
const lost = () => new FairleadError('unavailable', 'etcd: write: Connection dropped');

/** An etcd, and a client whose first commit meets this. */
async function setup(t: TestContext, first: (commit: () => Promise<unknown>, etcd: Setup) => Promise<never>) {
  const etcd = await startEtcd(t);
  const client = etcd.client();
  const { revision } = await client.commit([], [{ key: guard, value: '{"writeId":"before"}' }]);
  let isFirst = true;
  const wrapped: EtcdClient = {
    ...client,
    commit(...args) {
      const isMine = isFirst;
      isFirst = false;
      return isMine ? first(() => client.commit(...args), { etcd, client }) : client.commit(...args);
    },
  };
  const write = (value: string): Write => ({
    writeId: `id of ${value}`,
    guard,
    guardRevision: revision,
    conditions: [{ key: '/w/a', revision: 0 }],
    puts: [{ key: '/w/a', value }],
    read: ['/w/a'],
  });
  const values = async () =>
    (await client.range(prefixRange('/w/'))).items.map(({ value, revision: at }) => [value, at]);
  return { client, wrapped, write, values, revision };
}

interface Setup {
  readonly etcd: Awaited<ReturnType<typeof startEtcd>>;
  readonly client: EtcdClient;
}

/** Another writer's write, whatever is there. */
const other = (client: EtcdClient, id: string) =>
  client.commit(
    [],
    [
      { key: guard, value: JSON.stringify({ writeId: id }) },
      { key: '/w/b', value: id },
    ],
  );

test('etcd write: done, and the answer lost: it is found, at its revision, not done twice', async (t) => {
  const { wrapped, write, values, revision } = await setup(t, async (commit) => {
    await commit();
    throw lost();
  });
  assert.deepEqual(await commitOnce(wrapped, write('x'), 1), { done: true, revision: revision + 1 });
  assert.deepEqual(await values(), [
    ['x', revision + 1],
    ['{"writeId":"id of x"}', revision + 1],
  ]);
});

test('etcd write: not done, and no answer: it is done by the second attempt', async (t) => {
  const { wrapped, write, revision } = await setup(t, async () => {
    throw lost();
  });
  assert.deepEqual(await commitOnce(wrapped, write('x'), 1), { done: true, revision: revision + 1 });
});

test('etcd write: done, the answer lost, and others have written since: it is found in the history', async (t) => {
  const { wrapped, write, revision } = await setup(t, async (commit, { client }) => {
    await commit();
    for (const id of ['1', '2', '3']) await other(client, id);
    throw lost();
  });
  assert.deepEqual(await commitOnce(wrapped, write('x'), 1), { done: true, revision: revision + 1 });
});

test('etcd write: every other read of the history is lost, too: it goes on where it was', async (t) => {
  const { wrapped, write, revision } = await setup(t, async (commit, { client }) => {
    await commit();
    for (const id of ['1', '2', '3']) await other(client, id);
    throw lost();
  });
  let reads = 0;
  const range: EtcdClient['range'] = async (...args) => {
    if (reads++ % 2 === 0) throw lost();
    return wrapped.range(...args);
  };
  assert.deepEqual(await commitOnce({ ...wrapped, range }, write('x'), 1), { done: true, revision: revision + 1 });
  assert.equal(reads, 6); // three steps back, each asked for twice
});

test('etcd write: not done, no answer, and another was faster: it is lost', async (t) => {
  const { wrapped, write, values, revision } = await setup(t, async (_commit, { client }) => {
    await other(client, '1');
    throw lost();
  });
  const outcome = await commitOnce(wrapped, write('x'), 1);
  assert.ok(!outcome.done);
  assert.deepEqual([outcome.guard?.revision, outcome.found], [revision + 1, [null]]);
  assert.equal((await values()).length, 2);
});

test('etcd write: when the history is compacted, the writer is told that it is not known', async (t) => {
  const { wrapped, write } = await setup(t, async (commit, { etcd, client }) => {
    await commit();
    await other(client, '1');
    const { revision } = await other(client, '2');
    etcd.ctl('compact', String(revision));
    throw lost();
  });
  await assert.rejects(commitOnce(wrapped, write('x'), 1), { message: /whether it was written is not known/ });
});

test('etcd write: without a connection it was not sent: refused at once, nothing was changed', async (t) => {
  const { wrapped, write, values } = await setup(t, async () => {
    throw new FairleadError('unavailable', 'etcd: write: No connection established. Last error: connect ECONNREFUSED');
  });
  await assert.rejects(commitOnce(wrapped, write('x'), 1), { code: 'unavailable', message: /; nothing was changed$/ });
  assert.equal((await values()).length, 1);
  assert.equal((await commitOnce(wrapped, write('x'), 2)).done, true);
});

test('etcd list: compacted between two pages it begins anew, at one revision', async (t) => {
  const etcd = await startEtcd(t);
  const client = etcd.client();
  const keys = Array.from({ length: 100 }, (_, i) => `/w/${i}`);
  await client.commit(
    [],
    keys.map((key) => ({ key, value: 'old' })),
  );
  let pages = 0;
  const wrapped: EtcdClient = {
    ...client,
    async range(...args) {
      const page = await client.range(...args);
      if (++pages === 1) {
        const { revision } = await client.commit(
          [],
          keys.map((key) => ({ key, value: 'new' })),
        );
        etcd.ctl('compact', String(revision));
      }
      return page;
    },
  };
  const { items, revision } = await listRange(wrapped, prefixRange('/w/'));
  assert.equal(pages, 3); // one, then two
  assert.deepEqual([...new Set(items.map(({ value, revision: own }) => `${value} ${own}`))], [`new ${revision}`]);
  assert.equal(items.length, 100);
});

test('etcd list: what is written between two pages is not in it', async (t) => {
  const etcd = await startEtcd(t);
  const client = etcd.client();
  const keys = Array.from({ length: 100 }, (_, i) => `/w/${i}`);
  await client.commit(
    [],
    keys.map((key) => ({ key, value: 'old' })),
  );
  const wrapped: EtcdClient = {
    ...client,
    async range(...args) {
      const page = await client.range(...args);
      await client.commit(
        [],
        keys.map((key) => ({ key, value: 'new' })),
      );
      return page;
    },
  };
  const { items } = await listRange(wrapped, prefixRange('/w/'));
  assert.deepEqual([...new Set(items.map(({ value }) => value)), items.length], ['old', 100]);
});
