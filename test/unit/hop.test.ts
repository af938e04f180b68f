// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  hopOf,
  type Link,
  movesHop,
  type Neighbour,
  neighbourEvents,
  neighbourKey,
  sameHop,
  vlanOf,
  type Way,
  wayOf,
} from '../../src/controlplane/hop.js';
import { NO_PROBES, probeDue } from '../../src/controlplane/probing.js';

const hex = (text: string): Buffer => Buffer.from(text.replace(/\s/g, ''), 'hex');
const MAC = hex('02 00 00 00 00 11');
const reachable: Neighbour = { state: 0x02, mac: MAC };
const linkOf = (name: string, more: Partial<Link> = {}): Link => ({
  name,
  mac: hex('02 00 00 00 00 01'),
  mtu: 1500,
  up: true,
  vlan: null,
  ...more,
});
const wayTo = (device: number, more: Partial<Way> = {}): Way => ({
  interface: device,
  next: Uint8Array.of(10, 0, 0, 1),
  onLink: true,
  mtu: null,
  ...more,
});

// IFLA_LINKINFO: kind "vlan"; data: id, flags, protocol.
const linkInfo = (id: string, protocol: string): Buffer =>
  hex(
    `0900 0100 766c616e00 000000  2000 0200  0600 0100 ${id} 0000  0c00 0200 01000000 ffffffff  0600 0500 ${protocol} 0000`,
  );

test('hop: a VLAN device is known by its link attributes', () => {
  assert.deepEqual(vlanOf(linkInfo('6400', '8100'), 2), { protocol: 0x8100, id: 100, lower: 2 });
  assert.deepEqual(vlanOf(linkInfo('ff0f', '88a8'), -1), { protocol: 0x88a8, id: 4095, lower: -1 });
  assert.equal(vlanOf(hex('0800 0100 69666200'), 2), null); // kind "ifb"
  assert.equal(vlanOf(undefined, 2), null);
  assert.equal(vlanOf(hex('ff00 0100 766c'), 2), null); // cut short
});

test('hop: on stacked VLAN devices packets leave by the lowest, with the tags outermost first', () => {
  const links = new Map([
    [2, linkOf('eth0', { mtu: 9000 })],
    [3, linkOf('eth0.100', { vlan: { protocol: 0x88a8, id: 100, lower: 2 }, mtu: 1600 })],
    [4, linkOf('eth0.100.7', { vlan: { protocol: 0x8100, id: 7, lower: 3 }, mac: hex('02 00 00 00 00 04') })],
    [5, linkOf('third', { vlan: { protocol: 0x8100, id: 8, lower: 4 } })],
    [6, linkOf('elsewhere', { vlan: { protocol: 0x8100, id: 9, lower: -1 } })],
  ]);
  assert.deepEqual(hopOf(wayTo(4), links, reachable), {
    interface: 2,
    interfaceName: 'eth0',
    mac: MAC,
    sourceMac: hex('02 00 00 00 00 04'),
    onLink: true,
    mtu: 1500,
    tags: [
      { protocol: 0x88a8, id: 100 },
      { protocol: 0x8100, id: 7 },
    ],
  });
  assert.equal(hopOf(wayTo(3), links, reachable)?.mtu, 1600);
  assert.deepEqual(hopOf(wayTo(2), links, reachable)?.tags, []);
  assert.equal(hopOf(wayTo(5), links, reachable), null, 'three tags');
  assert.equal(hopOf(wayTo(6), links, reachable), null, 'the device below is in another namespace');
  links.set(2, linkOf('eth0', { up: false }));
  assert.equal(hopOf(wayTo(4), links, reachable), null, 'the device below is down');
});

test('hop: there is none without a route, a device, an address of Ethernet, or a neighbour to trust', () => {
  const links = new Map([
    [2, linkOf('eth0')],
    [3, linkOf('tun0', { mac: new Uint8Array(0) })],
    [4, linkOf('eth1', { up: false })],
  ]);
  assert.ok(hopOf(wayTo(2), links, reachable));
  assert.equal(hopOf(null, links, reachable), null);
  for (const device of [3, 4, 5]) assert.equal(hopOf(wayTo(device), links, reachable), null, `${device}`);
  for (const [state, usable] of [
    [0, false], // none
    [0x01, false], // incomplete
    [0x02, true],
    [0x04, true],
    [0x08, true],
    [0x10, true],
    [0x20, false], // failed
    [0x40, true],
    [0x80, true],
  ] as const)
    assert.equal(hopOf(wayTo(2), links, { state, mac: MAC }) !== null, usable, `state ${state}`);
  assert.equal(hopOf(wayTo(2), links, { state: 0x40, mac: new Uint8Array(0) }), null);
});

test('hop: the MTU is the least of the devices and the route', () => {
  const links = new Map([[2, linkOf('eth0')]]);
  assert.equal(hopOf(wayTo(2), links, reachable)?.mtu, 1500);
  assert.equal(hopOf(wayTo(2, { mtu: 1400 }), links, reachable)?.mtu, 1400);
  assert.equal(hopOf(wayTo(2, { mtu: 9000 }), links, reachable)?.mtu, 1500);
});

test('hop: the answer of the kernel for a route is read', () => {
  const to = Uint8Array.of(203, 0, 113, 5);
  const rtmsg = (type: string): string => `02200000fe0000${type}00020000 08000f00fe000000 08000100cb007105`;
  const oif = '0800040002000000';
  assert.deepEqual(wayOf(hex(`${rtmsg('01')} ${oif}`), to), { interface: 2, next: to, onLink: true, mtu: null });
  assert.deepEqual(wayOf(hex(`${rtmsg('01')} ${oif} 080005000a000001 0c000880 0800020078050000`), to), {
    interface: 2,
    next: hex('0a000001'),
    onLink: false,
    mtu: 1400,
  });
  // IPv4 by way of an IPv6 neighbour (RTA_VIA)
  const via = '16001200 0a00 fe800000000000000000000000000001 0000';
  assert.deepEqual(wayOf(hex(`${rtmsg('01')} ${oif} ${via}`), to), {
    interface: 2,
    next: hex('fe800000000000000000000000000001'),
    onLink: false,
    mtu: null,
  });
  for (const type of ['02', '03', '06']) assert.equal(wayOf(hex(`${rtmsg(type)} ${oif}`), to), null, type);
  assert.equal(wayOf(hex(rtmsg('01')), to), null, 'no device');
  assert.equal(wayOf(Buffer.alloc(0), to), null);
});

test('hop: events are told apart by interface and address, of both families', () => {
  const events = hex(
    `02000000 0200 02 06 0a000001000000000000000000000000 020000000011 0000
     03000000 0000 0a 00 fe800000000000000000000000000001 000000000000 0000`,
  );
  assert.deepEqual(
    [...neighbourEvents(events)],
    [
      { key: neighbourKey(2, Uint8Array.of(10, 0, 0, 1)), state: 2, mac: MAC },
      { key: neighbourKey(3, hex('fe800000000000000000000000000001')), state: 0, mac: Buffer.alloc(0) },
    ],
  );
});

test('hop: only another MAC, or none to trust any more, moves packets', () => {
  assert.equal(movesHop(reachable, { state: 0x04, mac: Buffer.from(MAC) }), false);
  assert.equal(movesHop(reachable, { state: 0x20, mac: MAC }), true);
  assert.equal(movesHop(reachable, { state: 0x02, mac: hex('020000000012') }), true);
  assert.equal(movesHop({ state: 0, mac: MAC }, { state: 0x01, mac: MAC }), false);
  const hop = hopOf(wayTo(2), new Map([[2, linkOf('eth0')]]), reachable);
  assert.ok(hop && sameHop(hop, { ...hop, mac: Buffer.from(MAC) }));
  for (const other of [{ mtu: 1400 }, { interface: 9 }, { onLink: false }, { tags: [{ protocol: 0x8100, id: 1 }] }])
    assert.equal(sameHop(hop, { ...hop, ...other }), false);
  assert.equal(sameHop(hop, null), false);
  assert.equal(sameHop(null, null), true);
});

test('hop: a neighbour that does not answer is asked for less and less often, a stale one every three seconds', () => {
  const gaps = (neighbour: Neighbour): number[] => {
    let probes = NO_PROBES;
    const times: number[] = [];
    for (let now = 0; now <= 60_000; now += 100) {
      if (!probeDue(probes, neighbour, now)) continue;
      probes = { at: now, count: probes.count + 1 };
      times.push(now);
    }
    return times.slice(0, 8).map((time, at) => time - (times[at - 1] ?? 0));
  };
  for (const state of [0, 0x20])
    assert.deepEqual(gaps({ state, mac: MAC }), [0, 1000, 2000, 4000, 8000, 8000, 8000, 8000]);
  assert.deepEqual(gaps({ state: 0x04, mac: MAC }), [0, 3000, 3000, 3000, 3000, 3000, 3000, 3000]);
  for (const state of [0x01, 0x02, 0x08, 0x10, 0x40, 0x80]) assert.deepEqual(gaps({ state, mac: MAC }), [], `${state}`);
});
