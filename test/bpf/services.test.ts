// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { isDeepStrictEqual } from 'node:util';
import { serviceKey } from '../../src/controlplane/kernel-state.js';
import {
  Family,
  KeyKind,
  ServiceEntry,
  type ServiceKey,
  ServiceKey as ServiceKeyCodec,
  ServiceLimit,
} from '../../src/dataplane/abi.gen.js';
import { readTraffic } from '../../src/dataplane/counters.js';
import { deleteService, serviceSlot, servicesIn, writeService } from '../../src/dataplane/services.js';
import { FairleadError } from '../../src/model/errors.js';
import { openPacketPath, type PacketPath } from '../support/packet-path.js';
import { packet, TCP } from '../support/packets.js';
import { chosenSeed, randomFrom } from '../unit/random.js';

const XDP_TX = 3;
const XDP_PASS = 2;
let path: PacketPath;

before(async () => {
  path = await openPacketPath();
  path.backend(1, '10.9.0.21', 1, 1);
  path.ring(1, 0, Uint16Array.of(1, 1, 1));
});
after(() => path?.close());

interface Candidate {
  readonly key: ServiceKey;
  readonly frame: Uint8Array;
  readonly countersStart: number;
}

/** VIPs of both families whose searches begin within four slots of the last ones, so that they collide and wrap around. */
function colliding(random: () => number, count: number): Candidate[] {
  const found: Candidate[] = [];
  const below = (limit: number): number => Math.floor(random() * limit);
  while (found.length < count) {
    const v6 = random() < 0.7;
    const address = v6
      ? `2001:db8::${(1 + below(65535)).toString(16)}:${(1 + below(65535)).toString(16)}`
      : `198.${18 + below(2)}.${below(256)}.${below(256)}`;
    const port = random() < 0.5 ? 80 : 443; // keys that differ in one word only
    const key = serviceKey({ address, port, protocol: 'tcp' });
    if (serviceSlot(key) < ServiceLimit.SLOTS - 4) continue;
    if (found.some((other) => isDeepStrictEqual(other.key, key))) continue;
    const from = v6 ? 'fd00:1::2' : '10.1.0.2';
    const frame = packet({ from, to: address, fromPort: 40000, toPort: port, protocol: 'tcp', flags: TCP.SYN });
    found.push({ key, frame, countersStart: found.length * 2 });
  }
  return found;
}

test('services: in any history of colliding keys each packet finds its own service or none', () => {
  const seed = chosenSeed();
  console.log(`seed ${seed} (set SEED to repeat)`);
  const random = randomFrom(seed);
  const candidates = colliding(random, 30);
  const live = new Set<Candidate>();
  const sent = new Map<Candidate, number>();
  let refused = 0;
  for (let step = 0; step < 1500; step++) {
    const chosen = candidates[Math.floor(random() * candidates.length)] as Candidate;
    // Phases that fill the reach of the keys, and phases that empty it.
    if (random() < (Math.floor(step / 150) % 2 === 0 ? 0.8 : 0.3)) {
      try {
        writeService(path.maps, chosen.key, { number: 1, pool: 1, countersStart: chosen.countersStart, flags: 0 });
        live.add(chosen);
      } catch (error) {
        assert.ok(error instanceof FairleadError && error.code === 'full', String(error));
        assert.ok(live.size >= ServiceLimit.PROBES, `refused with only ${live.size} in the table`);
        refused++;
      }
    } else {
      deleteService(path.maps, chosen.key);
      live.delete(chosen);
    }
    for (const candidate of candidates) {
      const { retval } = path.program.run(candidate.frame, null);
      assert.equal(retval, live.has(candidate) ? XDP_TX : XDP_PASS, `step ${step}`);
      if (live.has(candidate)) sent.set(candidate, (sent.get(candidate) ?? 0) + 1);
    }
  }
  assert.ok(refused > 0, 'the reach of the keys was full at times');
  for (const [{ countersStart }, packets] of sent) {
    assert.equal(readTraffic(path.maps, countersStart + 1).packets, packets, 'counted for the right service');
  }
  const wanted = [...live].map(({ key }) => Buffer.from(ServiceKeyCodec.encode(key)).toString('hex')).sort();
  assert.deepEqual([...servicesIn(path.maps, KeyKind.SERVICE)].map(([id]) => id).sort(), wanted);
  for (const { key } of candidates) deleteService(path.maps, key);
  for (let slot = 0; slot < ServiceLimit.SLOTS; slot++) {
    const family =
      path.maps.services[slot * ServiceEntry.size + ServiceEntry.offset.key + ServiceKeyCodec.field.family.offset];
    assert.equal(family, Family.NONE, `slot ${slot} of an empty table still lengthens searches`);
  }
});
