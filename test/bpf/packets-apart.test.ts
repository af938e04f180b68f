// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { BudgetLimit, Reason, ServiceFlag } from '../../src/dataplane/abi.gen.js';
import { native } from '../../src/dataplane/native.js';
import { REASON_NAMES } from '../../src/dataplane/reasons.js';
import { JUMBO_MTU, jumbo, prepareJumbo } from '../support/cases/jumbo.js';
import { b6, client, declare, type PacketCase, patched } from '../support/cases/table.js';
import { PACKET_CASES, prepareCases } from '../support/packet-cases.js';
import { checker } from '../support/packet-check.js';
import { openPacketPath } from '../support/packet-path.js';
import { packetOf, pinTo, sender, sentTo } from '../support/packet-run.js';

before(() => pinTo(0));

const windowNs = 2 ** BudgetLimit.WINDOW_SHIFT * native.tickNs();
const PER_WINDOW = 5;
const caseOf = (reason: number): PacketCase => PACKET_CASES.find((one) => one.reason === reason) ?? assert.fail();
const carried = PACKET_CASES.find((one) => one.name === 'an error of type 3') ?? assert.fail();

test('xdp_lb: each kind of ICMP has a budget of its own, and what is over it is dropped', async () => {
  const path = await openPacketPath({ icmpPerSecond: (PER_WINDOW * 1e9) / windowNs });
  prepareCases(path);
  for (const [one, over] of [
    [caseOf(Reason.ECHO_ANSWERED), Reason.ICMP_LIMITED],
    [carried, Reason.ICMP_LIMITED],
    [caseOf(Reason.TOO_BIG_ANSWERED), Reason.TOO_BIG],
  ] as const) {
    one.state?.(path);
    const send = sender(path);
    const began = process.hrtime.bigint();
    const reasons = Array.from({ length: 4 * PER_WINDOW }, () => send(one.packet).reason);
    const windows = 2 + Number((process.hrtime.bigint() - began) / BigInt(windowNs));
    const passed = reasons.filter((reason) => reason === one.reason).length;
    const names = reasons.map((reason) => REASON_NAMES[reason]).join(' ');
    // At most as many windows as there was time for; the first that is not let in comes after the budget's last.
    assert.ok(passed >= PER_WINDOW && passed <= PER_WINDOW * windows, names);
    assert.ok(
      reasons.slice(0, PER_WINDOW).every((reason) => reason === one.reason),
      names,
    );
    assert.ok(windows > 3 || reasons.includes(over), names);
    assert.ok(
      reasons.every((reason) => reason === one.reason || reason === over),
      names,
    );
  }
  path.close();
});

test('xdp_lb: jumbo frames go through wide tunnels whole', async (t) => {
  const path = await openPacketPath({ tunnelMtu: JUMBO_MTU });
  prepareJumbo(path);
  const check = checker(path);
  for (const one of jumbo) await t.test(one.name, () => check(one));
  path.close();
});

test('xdp_lb: GUE over IPv6 never says that it has no checksum', async () => {
  const path = await openPacketPath();
  const [vip, service] = ['2001:db8::50', 60];
  declare(path, {
    number: service,
    address: vip,
    port: 80,
    members: [{ address: b6(service) }],
    flags: ServiceFlag.GUE,
  });
  const send = sender(path);
  const whole = client(vip, 80);
  // The low half of the inner flow label is one word of the outer sum and of nothing else: make it all that is missing.
  const { out } = send(whole);
  const check = out.readUInt16BE(14 + 40 + 6);
  const zeroed = patched(whole, 16, check >> 8, check & 0xff);
  const { out: last } = send(zeroed);
  assert.equal(last.toString('hex'), sentTo(zeroed, { to: b6(service), form: 'gue' }, last).toString('hex'));
  assert.equal(last.readUInt16BE(14 + 40 + 6), 0xffff);
  assert.equal(packetOf(zeroed).readUInt16BE(2), check);
  path.close();
});

test('xdp_lb: packets of one flow have one flow label and one GUE port, other flows others', async () => {
  const path = await openPacketPath();
  const [vip, service] = ['2001:db8::50', 60];
  declare(path, {
    number: service,
    address: vip,
    port: 80,
    members: [{ address: b6(service) }],
    flags: ServiceFlag.GUE,
  });
  const send = sender(path);
  const labels = new Set<number>();
  const ports = new Set<number>();
  for (let fromPort = 1; fromPort <= 64; fromPort++) {
    const [first, second] = [0, 99].map((payload) => send(client(vip, 80, { fromPort, payload })).out);
    assert.ok(first && second);
    assert.equal(first.readUInt32BE(14), second.readUInt32BE(14));
    assert.equal(first.readUInt16BE(54), second.readUInt16BE(54));
    assert.ok(first.readUInt16BE(54) >= 49152);
    labels.add(first.readUInt32BE(14) & 0xfffff);
    ports.add(first.readUInt16BE(54));
  }
  assert.ok(labels.size > 60 && ports.size > 60, `${labels.size} labels, ${ports.size} ports of 64 flows`);
  path.close();
});
