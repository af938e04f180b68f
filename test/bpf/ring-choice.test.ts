// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatAddress, parseAddress } from '../../src/model/address.js';
import { sipHash13 } from '../../src/ring/index.js';
import { openPacketPath } from '../support/packet-path.js';
import { sender } from '../support/packet-run.js';
import { packet } from '../support/packets.js';
import { chosenSeed, randomFrom } from '../unit/random.js';

const ROWS = 1009;
const VIP = { 4: '192.0.2.40', 6: '2001:db8::40' } as const;
const PORT = 443;

/** A backend of its own for each row, so that where a packet goes tells the row. */
const backendAddress = (family: 4 | 6, row: number): string =>
  family === 4 ? `10.40.${row >> 8}.${row & 255}` : formatAddress(parseAddress(`fd00:40::1:${row.toString(16)}`).bytes);

test('ring_choose: the row is SipHash-1-3 of the 5-tuple, scaled', async (t) => {
  const seed = chosenSeed();
  t.diagnostic(`seed ${seed}`);
  const random = randomFrom(seed);
  const ringKey = Uint8Array.from({ length: 16 }, () => Math.floor(random() * 256));
  const path = await openPacketPath({ ringKey, newFlowsPerSecond: 1e9 });
  for (const [at, family] of ([4, 6] as const).entries()) {
    const first = 1 + at * ROWS;
    for (let row = 0; row < ROWS; row++) path.backend(first + row, backendAddress(family, row), family, 1);
    path.ring(
      family,
      7 + at * ROWS,
      Uint16Array.from({ length: ROWS }, (_, row) => first + row),
    );
    path.service(family * 10, VIP[family], PORT, 'tcp', family, 0);
    path.service(family * 10 + 1, VIP[family], PORT, 'udp', family, 4);
  }
  const send = sender(path);
  const reached = new Set<number>();
  for (let flow = 0; flow < 2000; flow++) {
    const family = random() < 0.5 ? 4 : 6;
    const protocol = random() < 0.5 ? 'tcp' : 'udp';
    // Clients no address rule refuses; which bits differ is left to chance.
    const client = Uint8Array.from({ length: family === 4 ? 4 : 16 }, () => Math.floor(random() * 256));
    client[0] = family === 4 ? 100 : 0x20;
    const fromPort = Math.floor(random() * 65536);
    const key = Buffer.concat([
      client,
      parseAddress(VIP[family]).bytes,
      Buffer.of(fromPort >> 8, fromPort & 255, PORT >> 8, PORT & 255, protocol === 'tcp' ? 6 : 17),
    ]);
    const row = Number(((sipHash13(ringKey, key) >> 32n) * BigInt(ROWS)) >> 32n);
    const { out } = send(packet({ from: formatAddress(client), to: VIP[family], fromPort, toPort: PORT, protocol }));
    const to = family === 4 ? out.subarray(30, 34) : out.subarray(38, 54);
    assert.equal(formatAddress(to), backendAddress(family, row), `${protocol} ${formatAddress(client)} ${fromPort}`);
    reached.add(row);
  }
  assert.ok(reached.size > ROWS / 2, 'flows spread over the ring');
  path.close();
});
