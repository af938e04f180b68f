// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Reason } from '../../src/dataplane/abi.gen.js';
import { readOutcomes, readTraffic } from '../../src/dataplane/counters.js';
import { native } from '../../src/dataplane/native.js';
import { readRingRef, stableRows, writeRingRef, writeRingRows } from '../../src/dataplane/tables.js';
import { openManyFlows } from '../support/many-flows.js';
import { openPacketPath, type PacketPath } from '../support/packet-path.js';
import { TCP } from '../support/packets.js';

const VIP = '192.0.2.50';
const SWAPS = 200;
const CHUNK = 1 << 17;
const STALE = 9;
/** Rings of different sizes with different backends; backend STALE stands in what no packet may read. */
const RINGS = [
  { rows: 1009, backends: [1, 2, 3] },
  { rows: 4099, backends: [4, 5] },
] as const;
/** Where rings are put, in turn: each piece is used again and again. */
const REGIONS = [0, 5000, 10_000] as const;

async function openSwapped(): Promise<PacketPath> {
  // One new flow per window: nearly every packet goes by the ring.
  const path = await openPacketPath({ newFlowsPerSecond: 1 });
  for (const backend of [1, 2, 3, 4, 5, STALE]) path.backend(backend, `10.9.0.${backend}`, 1, backend);
  path.service(1, VIP, 80, 'tcp', 1, 0);
  writeRingRows(path.maps, 0, stableRows(new Uint16Array(15_000).fill(STALE)));
  return path;
}

test('a ring is swapped under load: each packet sees one ring or the other, whole', async (t) => {
  const path = await openSwapped();
  const { maps } = path;
  const place = (ring: (typeof RINGS)[number], start: number): void => {
    const owners = Uint16Array.from({ length: ring.rows }, (_, row) => ring.backends[row % ring.backends.length] ?? 0);
    writeRingRows(maps, start, stableRows(owners));
    writeRingRef(maps, 1, { start, rows: ring.rows, generation: 1 });
  };
  place(RINGS[0], REGIONS[0]);

  const traffic = await openManyFlows(
    path,
    { from: '10.1.0.2', to: VIP, fromPort: 40000, toPort: 80, protocol: 'tcp', flags: TCP.SYN, payload: 26 },
    1 << 16,
  );
  let swapping = true;
  let packets = 0;
  const load = (async () => {
    for (; swapping; packets += CHUNK) await traffic.run(CHUNK);
  })();
  for (let swap = 1; swap <= SWAPS; swap++) {
    const old = readRingRef(maps, 1);
    place(RINGS[swap % 2 === 0 ? 0 : 1], REGIONS[swap % REGIONS.length] ?? 0);
    await native.synchronize();
    // From here on the old piece is free: whoever still reads it is found out.
    writeRingRows(maps, old.start, stableRows(new Uint16Array(old.rows).fill(STALE)));
  }
  swapping = false;
  await load;
  traffic.close();

  const outcomes = readOutcomes(maps, 0);
  assert.equal(outcomes[Reason.FORWARDED], packets);
  assert.deepEqual(
    outcomes.filter((count) => count > 0),
    [packets],
    'no other outcome',
  );
  const counted = [0, 1, 2, 3, 4, 5, STALE].map((slot) => readTraffic(maps, slot).packets);
  t.diagnostic(`${packets} packets, by backend ${counted}`);
  assert.equal(
    counted.reduce((sum, count) => sum + count, 0),
    packets,
  );
  assert.deepEqual([counted[0], counted[6]], [0, 0], 'none to a backend of neither ring');
  for (const backend of [1, 2, 3, 4, 5]) assert.ok((counted[backend] ?? 0) > packets / 1000, 'both rings were used');
  path.close();
});
