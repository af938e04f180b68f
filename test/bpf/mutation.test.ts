// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Reason } from '../../src/dataplane/abi.gen.js';
import { readOutcomes } from '../../src/dataplane/counters.js';
import { actionOf, REASON_NAMES } from '../../src/dataplane/reasons.js';
import { parseAddress } from '../../src/model/address.js';
import { PACKET_CASES, prepareCases, VIP4, VIP6 } from '../support/packet-cases.js';
import { openPacketPath, type PacketPath } from '../support/packet-path.js';
import { encapsulated, ipSize, type Send, sender } from '../support/packet-run.js';
import { chosenSeed, randomFrom } from '../unit/random.js';

const MUTATIONS = 6000;
let path: PacketPath;
let send: Send;
before(async () => {
  path = await openPacketPath();
  prepareCases(path);
  send = sender(path);
});
after(() => path?.close());

const vip4 = Buffer.from(parseAddress(VIP4).bytes);
const vip6 = Buffer.from(parseAddress(VIP6).bytes);

/** Whether the frame is for a VIP, by what its bytes say where an address would be. */
function toVip(frame: Buffer): boolean {
  const type = frame.readUInt16BE(12);
  if (type === 0x0800) return frame.length >= 34 && frame.subarray(30, 34).equals(vip4);
  return type === 0x86dd && frame.length >= 54 && frame.subarray(38, 54).equals(vip6);
}

/** The address a frame was sent on to, as an IPv4 or IPv6 text. */
function outerDestination(out: Buffer): string {
  if (out.readUInt16BE(12) === 0x0800) return [...out.subarray(30, 34)].join('.');
  return [...new Uint16Array(8).keys()].map((word) => out.readUInt16BE(38 + word * 2).toString(16)).join(':');
}

/** Sends a frame of any form and checks what holds for every frame. */
function check(frame: Buffer): number {
  const { action, reason, out } = send(frame);
  const where = `${REASON_NAMES[reason]} ${frame.toString('hex')}`;
  assert.equal(action, actionOf(reason), where);
  assert.notEqual(action, 'aborted', where);
  if (!toVip(frame)) assert.equal(action, 'pass', where);
  const sent = action === 'tx' || action === 'redirect';
  const expected = sent ? encapsulated(frame, outerDestination(out), out) : frame;
  assert.equal(out.toString('hex'), expected.toString('hex'), where);
  return reason;
}

const total = (): number => readOutcomes(path.maps, 0).reduce((sum, count) => sum + count, 0);

test('xdp_lb: a packet cut at any length is passed, dropped or whole', () => {
  const before = total();
  let sent = 0;
  for (const { packet, reason } of PACKET_CASES) {
    for (let length = 14; length <= packet.length; length++, sent++) {
      const ended = check(packet.subarray(0, length));
      if (reason !== Reason.FORWARDED) continue;
      const header = packet.readUInt16BE(12) === 0x86dd ? 54 : 34;
      const short = length < header ? Reason.RUNT : Reason.TRUNCATED;
      const whole = length >= 14 + ipSize(packet); // what is cut is padding
      assert.equal(ended, whole ? Reason.FORWARDED : short, `${length} of ${packet.length} bytes`);
    }
  }
  assert.equal(total() - before, sent);
});

test('xdp_lb: headers with random bytes: counted once, never out of bounds', (t) => {
  const seed = chosenSeed();
  t.diagnostic(`seed ${seed}`);
  const random = randomFrom(seed);
  const below = (limit: number): number => Math.floor(random() * limit);
  const before = total();
  const reached = new Set<number>();
  for (let at = 0; at < MUTATIONS; at++) {
    const original = PACKET_CASES[below(PACKET_CASES.length)]?.packet ?? assert.fail();
    const frame = Buffer.from(original);
    // Past the MACs, up to the end of the longest headers; lengths and types often get small values.
    for (let change = below(3); change >= 0; change--) {
      frame[12 + below(Math.min(frame.length - 12, 100))] = random() < 0.5 ? below(256) : below(16) * 16 + below(8);
    }
    reached.add(check(random() < 0.2 ? frame.subarray(0, 14 + below(frame.length - 13)) : frame));
  }
  assert.equal(total() - before, MUTATIONS);
  assert.ok(reached.size >= 8, `reached only ${[...reached].map((reason) => REASON_NAMES[reason])}`);
});
