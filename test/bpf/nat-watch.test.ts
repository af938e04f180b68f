// SPDX-License-Identifier: Apache-2.0
// What operators are told when NAT refuses connections, with the kernel's own tables: once when it begins, once when it is over.
import assert from 'node:assert/strict';
import { before, type TestContext, test } from 'node:test';
import { natEntries } from '../../src/dataplane/nat-flows.js';
import { openEventLog } from '../../src/observability/event-log.js';
import { openNatWatch, QUIET_MS } from '../../src/observability/nat-watch.js';
import { type NatPath, openNatPath } from '../support/nat-path.js';
import { pinTo } from '../support/packet-run.js';
import { packet, TCP } from '../support/packets.js';

const VIP = '192.0.2.10';
before(() => pinTo(0));

interface Watched extends NatPath {
  /** SYNs from so many client ports not used yet. */
  syns(count: number, port?: number): void;
  /** What is told new when looked at so many seconds after the start. */
  told(second: number): readonly string[];
}

async function open(t: TestContext, connections: number, ports: readonly number[]): Promise<Watched> {
  const path = await openNatPath(connections, { tcpNew: 1 });
  t.after(() => path.close());
  path.backend(4, '10.9.0.21', 1, 1, { port: 8080 });
  path.ring(1, 0, new Uint16Array(251).fill(4));
  path.pool(1, ['10.9.0.10']);
  path.pool(2, ['10.9.0.11'], ports);
  path.nat(1, VIP, 80, 'tcp', 1, 1);
  path.nat(2, VIP, 81, 'tcp', 1, 2);
  const events = openEventLog();
  const names = new Map([
    [1, 'wide'],
    [2, 'narrow'],
  ]);
  const watch = openNatWatch(
    () => path.tables,
    () => names,
    events,
  );
  watch.look(0);
  let client = 10_000;
  let last = 0;
  return {
    ...path,
    syns(count, port = 80) {
      for (let at = 0; at < count; at++)
        path.run(
          packet({ protocol: 'tcp', from: '203.0.113.7', to: VIP, fromPort: client++, toPort: port, flags: TCP.SYN }),
        );
    },
    told(second) {
      watch.look(second * 1000);
      const found = events.since(last).events;
      last = found.at(-1)?.id ?? last;
      return found.map(({ type, object, data }) => `${type} ${object} ${data?.refused}`);
    },
  };
}

/** Waits until all connections have ended, and their ids and ports are there again. */
async function empty(path: NatPath): Promise<void> {
  path.sweep();
  for (const deadline = Date.now() + 10_000; natEntries(path.tables) > 0; ) {
    assert.ok(Date.now() < deadline, `${natEntries(path.tables)} are left`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
const quiet = QUIET_MS / 1000;

test('nat events: a full table is told once when it begins to refuse and once when it has room again', async (t) => {
  const path = await open(t, 1024, [5000]);
  path.syns(1024);
  assert.deepEqual(path.told(1), [], 'full, and nobody was refused');
  path.syns(3);
  assert.deepEqual(path.told(2), ['nat.table_full null 3']);
  path.syns(1);
  assert.deepEqual(path.told(3), []);
  assert.deepEqual(path.told(3 + quiet), [], 'nobody asked, and it is still full');
  await empty(path);
  assert.deepEqual(path.told(4 + quiet), ['nat.table_free null 4']);
  assert.deepEqual(path.told(5 + quiet), []);
  path.syns(5);
  assert.deepEqual(path.told(6 + quiet), [], 'there is room');
  assert.equal(path.connections().length, 5);
});

test('nat events: ports that are used up are told of the service whose they are', async (t) => {
  const path = await open(t, 1024, [5000, 5001]);
  path.syns(4, 81);
  path.syns(4, 80);
  assert.deepEqual(path.told(1), ['nat.ports_exhausted /services/narrow 2']);
  path.syns(2, 81);
  assert.deepEqual(path.told(2), []);
  path.syns(1, 81);
  assert.deepEqual(path.told(1 + quiet), [], 'one more a moment ago');
  assert.deepEqual(path.told(2 + 2 * quiet), [], 'there is still none');
  await empty(path);
  assert.deepEqual(path.told(3 + 2 * quiet), ['nat.ports_free /services/narrow 5']);
  path.syns(3, 81);
  assert.deepEqual(path.told(4 + 2 * quiet), ['nat.ports_exhausted /services/narrow 1'], 'and again');
});
