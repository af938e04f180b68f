// SPDX-License-Identifier: Apache-2.0
// Who stays in the flow table when there is no room, or no budget, for all.
import assert from 'node:assert/strict';
import { after, before, beforeEach, test } from 'node:test';
import { Budget, BudgetLimit, FlowLimit, FlowState } from '../../src/dataplane/abi.gen.js';
import { type FlowTableStats, readFlowTableStats, readTraffic } from '../../src/dataplane/counters.js';
import { native } from '../../src/dataplane/native.js';
import { type FlowPath, openFlowPath } from '../support/flow-path.js';
import { clearFlows, packetsState, patchHot, rawFlows } from '../support/flow-records.js';
import { TCP } from '../support/packets.js';

/** One bucket of four per CPU. */
let tiny: FlowPath;
/** 100 new flows a second, some ten in each budget window. */
let frugal: FlowPath;
before(async () => {
  tiny = await openFlowPath({ flowsPerCpu: FlowLimit.WAYS });
  frugal = await openFlowPath({ newFlowsPerSecond: 100 });
});
beforeEach(() => {
  tiny.reset();
  frugal.reset();
});
after(() => {
  tiny?.close();
  frugal?.close();
});

/** What the table did during `work`. */
function statsOf(path: FlowPath, work: () => void): FlowTableStats {
  const start = readFlowTableStats(path.maps);
  work();
  const end = readFlowTableStats(path.maps);
  const names = Object.keys(end) as (keyof FlowTableStats)[];
  return Object.fromEntries(names.map((name) => [name, end[name] - start[name]])) as FlowTableStats;
}

const { NEW, ESTABLISHED, CLOSING, CLOSED } = FlowState;
/** Four records as [state, idle units], and the way a new flow takes; -1: none. */
const EVICTIONS: readonly { name: string; ways: readonly (readonly [number, number])[]; victim: number }[] = [
  {
    name: 'closed before never established and long idle',
    ways: [
      [ESTABLISHED, 5000],
      [NEW, 5000],
      [CLOSED, 0],
      [ESTABLISHED, 0],
    ],
    victim: 2,
  },
  {
    name: 'closing counts as closed, the one idle longest',
    ways: [
      [NEW, 9],
      [CLOSED, 3],
      [CLOSING, 4],
      [CLOSED, 2],
    ],
    victim: 2,
  },
  {
    name: 'never established before established, however idle',
    ways: [
      [ESTABLISHED, 5000],
      [ESTABLISHED, 0],
      [ESTABLISHED, 300],
      [NEW, 0],
    ],
    victim: 3,
  },
  {
    name: 'of those never established, the one idle longest',
    ways: [
      [NEW, 1],
      [NEW, 60],
      [ESTABLISHED, 0],
      [NEW, 59],
    ],
    victim: 1,
  },
  {
    name: 'of those established, the one idle longest',
    ways: [
      [ESTABLISHED, 200],
      [ESTABLISHED, 0],
      [ESTABLISHED, 65000],
      [ESTABLISHED, 201],
    ],
    victim: 2,
  },
  {
    name: 'established and idle for just a minute',
    ways: [
      [ESTABLISHED, 119],
      [ESTABLISHED, 119],
      [ESTABLISHED, 0],
      [ESTABLISHED, 120],
    ],
    victim: 3,
  },
  {
    name: 'nobody, when all are established and recent',
    ways: [
      [ESTABLISHED, 119],
      [ESTABLISHED, 119],
      [ESTABLISHED, 0],
      [ESTABLISHED, 119],
    ],
    victim: -1,
  },
];

const NEWCOMER = 50_000;
const ports = (): number[] => rawFlows(tiny.maps).map(({ cold }) => cold.clientPort);

for (const { name, ways, victim } of EVICTIONS)
  test(`flow table: a new flow evicts ${name}`, () => {
    // Idle times are exact only while the coarse clock stands still.
    for (let unit = -1; unit !== tiny.maps.seenNow(); ) {
      tiny.reset();
      for (let way = 0; way < ways.length; way++) tiny.go(TCP.SYN, { fromPort: 40000 + way });
      tiny.aim(2);
      unit = tiny.maps.seenNow();
      for (const [way, [state, idle]] of ways.entries())
        patchHot(tiny.maps, way, { packetsState: packetsState(7, state), seen: (unit - idle) & 0xffff });
      const stats = statsOf(tiny, () => assert.equal(tiny.go(TCP.SYN, { fromPort: NEWCOMER }), 2));
      if (unit !== tiny.maps.seenNow()) continue;
      const evicted = victim >= 0 ? 1 : 0;
      assert.deepEqual(stats, {
        misses: 1,
        inserts: evicted,
        evictions: evicted,
        overBudget: 0,
        bucketFull: 1 - evicted,
      });
      assert.deepEqual(
        ports(),
        ways.map((_, way) => (way === victim ? NEWCOMER : 40000 + way)),
      );
    }
  });

test('flow table: a flow without a record is forwarded by the ring, packet by packet', () => {
  for (let way = 0; way < 4; way++) for (const flags of [TCP.SYN, TCP.ACK]) tiny.go(flags, { fromPort: 40000 + way });
  assert.equal(tiny.go(TCP.ACK, { fromPort: NEWCOMER }), 1);
  tiny.aim(2);
  const stats = statsOf(tiny, () => {
    assert.equal(tiny.go(TCP.ACK, { fromPort: NEWCOMER }), 2);
    assert.equal(tiny.go(TCP.ACK, { fromPort: 40003 }), 1, 'the known ones stay');
  });
  assert.deepEqual(stats, { misses: 1, inserts: 0, evictions: 0, overBudget: 0, bucketFull: 1 });
  assert.deepEqual(ports(), [40000, 40001, 40002, 40003]);
});

test('flow table: a free way is taken before anybody is evicted', () => {
  for (let way = 0; way < 4; way++) tiny.go(TCP.RST, { fromPort: 40000 + way });
  patchHot(tiny.maps, 1, { tag: 0 });
  const stats = statsOf(tiny, () => tiny.go(TCP.SYN, { fromPort: NEWCOMER }));
  assert.deepEqual(stats, { misses: 1, inserts: 1, evictions: 0, overBudget: 0, bucketFull: 0 });
  assert.deepEqual(ports(), [40000, NEWCOMER, 40002, 40003]);
});

test('flow table: another flow with the same tag is found out by its SYN', () => {
  tiny.go(TCP.SYN);
  tiny.go(TCP.ACK);
  const [first] = rawFlows(tiny.maps);
  clearFlows(tiny.maps);
  tiny.go(TCP.SYN, { fromPort: NEWCOMER });
  tiny.go(TCP.ACK, { fromPort: NEWCOMER });
  patchHot(tiny.maps, 0, { tag: first?.hot.tag ?? 0 });
  tiny.aim(2);
  assert.equal(tiny.go(TCP.ACK), 1, 'no packet but SYN, FIN and RST compares the key');
  assert.equal(tiny.go(TCP.SYN), 2);
  assert.deepEqual(ports(), [40000]);
});

/** The budget window of the last new flow of service 1 on CPU 0. */
const budget = (): Budget =>
  Budget.decode(frugal.maps.handle.flow_budgets.get(new Uint8Array(Uint32Array.of(1).buffer)) ?? new Uint8Array(8));

test('flow table: over the new-flow budget the ring decides and nothing is written', () => {
  const perWindow = Math.round((100 * 2 ** BudgetLimit.WINDOW_SHIFT * native.tickNs()) / 1e9);
  // A window is 128 ms at HZ=250: rarely one ends meanwhile, and then all is done again.
  for (let window = -1; window !== budget().window; ) {
    window = -1;
    frugal.reset();
    frugal.go(TCP.SYN);
    // One that ended among the SYNs below leaves the next one used up: wait for the one after.
    if (rawFlows(frugal.maps).length === 0) continue;
    window = budget().window;
    const room = perWindow - budget().used;
    frugal.go(TCP.ACK);
    const filled = statsOf(frugal, () => {
      for (let at = 0; at < perWindow + 5; at++) frugal.go(TCP.SYN, { fromPort: 41000 + at });
    });
    const known = rawFlows(frugal.maps).length;
    frugal.aim(2);
    const backends: number[] = [];
    const over = statsOf(frugal, () => {
      backends.push(frugal.go(TCP.SYN, { fromPort: NEWCOMER })); // new
      backends.push(frugal.go(TCP.SYN, { fromPort: NEWCOMER })); // not remembered, so new again
      backends.push(frugal.go(TCP.ACK, { fromPort: NEWCOMER })); // a miss
      backends.push(frugal.go(TCP.ACK)); // established
      backends.push(frugal.go(TCP.SYN)); // a SYN does not even look
    });
    const other = statsOf(frugal, () => frugal.go(0, { protocol: 'udp' }));
    frugal.go(TCP.SYN, { fromPort: NEWCOMER + 1 });
    if (window !== budget().window) continue;
    assert.deepEqual([filled.inserts, filled.overBudget], [room, perWindow + 5 - room]);
    assert.deepEqual(backends, [2, 2, 2, 1, 2]);
    assert.deepEqual(over, { misses: 4, inserts: 0, evictions: 0, overBudget: 4, bucketFull: 0 });
    assert.equal(known, 1 + room);
    assert.equal(other.inserts, 1, 'another service has a budget of its own');
    assert.equal(rawFlows(frugal.maps).length, known + 1);
  }
});

test('flow table: the budget is there again in the next window', async () => {
  const deadline = Date.now() + 5000;
  let inserted = 0;
  for (let at = 0; inserted < 40; at++) {
    inserted += statsOf(frugal, () => frugal.go(TCP.SYN, { fromPort: 1000 + at })).inserts;
    assert.ok(Date.now() < deadline, `only ${inserted} flows were inserted`);
    await new Promise((done) => setTimeout(done, 2));
  }
});

test('counters: a connection is a SYN that begins a flow, or the first packet of UDP', () => {
  for (const flags of [TCP.SYN, TCP.SYN, TCP.ACK, TCP.FIN]) tiny.go(flags);
  tiny.go(TCP.ACK, { fromPort: 40001 });
  assert.deepEqual(readTraffic(tiny.maps, 1), { packets: 5, bytes: 200, connections: 1 });
  tiny.go(0, { protocol: 'udp' });
  tiny.go(0, { protocol: 'udp' });
  assert.deepEqual(readTraffic(tiny.maps, 5), { packets: 2, bytes: 56, connections: 1 });
  // Not remembered, so whether it is the first is not known.
  for (let fromPort = 50_000; fromPort < 50_004; fromPort++)
    for (const flags of [TCP.SYN, TCP.ACK]) tiny.go(flags, { fromPort });
  for (let at = 0; at < 3; at++) tiny.go(0, { protocol: 'udp', fromPort: 51_000 });
  assert.deepEqual(readTraffic(tiny.maps, 5), { packets: 5, bytes: 140, connections: 1 });
});
