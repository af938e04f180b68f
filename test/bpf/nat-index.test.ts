// SPDX-License-Identifier: Apache-2.0
// The index of NAT's connections with the table full and emptied again: all buckets of a tuple are in use then.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { formatAddress } from '../../src/model/address.js';
import { openNatPath, TC } from '../support/nat-path.js';
import { pinTo } from '../support/packet-run.js';
import { type PacketSpec, packet } from '../support/packets.js';
import { chosenSeed, randomFrom } from '../unit/random.js';

const VIP = '192.0.2.10';
const BACKEND = '10.9.0.21';
const ROOM = 1024;

pinTo(0);
const path = await openNatPath(ROOM, { udpNew: 2, udpEstablished: 2 });
after(() => path.close());
path.backend(7, BACKEND, 1, 1, { port: 8080 });
path.ring(1, 0, new Uint16Array(251).fill(7));
path.pool(1, ['10.9.0.10']);
path.nat(1, VIP, 80, 'udp', 1, 1);
const index = new Uint8Array(path.tables.handle.nat_index.mmap());

test('nat index: full it finds every connection from both sides, and empty again it is empty', async (t) => {
  const seed = chosenSeed();
  t.diagnostic(`seed ${seed}`);
  const random = randomFrom(seed);
  for (let turn = 1; turn <= 2; turn++) {
    const clients = new Set<number>();
    while (clients.size < ROOM) clients.add(Math.floor(random() * 2 ** 32));
    const requests = [...clients].map((each): PacketSpec => {
      const from = `10.1.${(each >>> 24) & 255}.${(each >>> 16) & 255}`;
      return { protocol: 'udp', from, to: VIP, fromPort: 1 + (each & 0x7fff), toPort: 80 };
    });
    let begun = 0;
    for (const each of requests) begun += path.run(packet(each)).retval === TC.REDIRECT ? 1 : 0;
    const all = path.connections();
    assert.equal(all.length, new Set(requests.map(({ from, fromPort }) => `${from} ${fromPort}`)).size);
    assert.equal(begun, requests.length);
    for (const each of requests) assert.equal(path.run(packet(each)).retval, TC.REDIRECT, 'a request');
    for (const { source, sourcePort } of all) {
      const to = formatAddress(source.subarray(0, 4));
      const reply = packet({ protocol: 'udp', from: BACKEND, to, fromPort: 8080, toPort: sourcePort });
      assert.equal(path.run(reply).retval, TC.REDIRECT, 'a reply');
    }
    assert.equal(path.connections().length, all.length, 'none was taken for another one');
    assert.ok(index.some((byte) => byte !== 0));
    if (turn === 1) path.sweep();
    for (const deadline = Date.now() + 10_000; path.connections().length > 0; ) {
      assert.ok(Date.now() < deadline, `${path.connections().length} are there`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    assert.ok(
      index.every((byte) => byte === 0),
      'slots and counts',
    );
    for (const deadline = Date.now() + 10_000; path.tables.counts[3] !== turn * all.length; ) {
      assert.ok(Date.now() < deadline, 'they are to be had again');
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
});
