// SPDX-License-Identifier: Apache-2.0
// ICMP errors between IPv4 and IPv6 through tc_nat (RFC 7915, 4.2, 4.3, 5.2, 5.3), by packet tables.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { fragmentsOf } from '../support/fragments.js';
import {
  BACKEND,
  BACKEND_PORT,
  becomes,
  begin,
  CLIENT,
  type Ends,
  embedded,
  FAMILIES,
  type Family,
  NEAR_BACKEND,
  NEAR_CLIENT,
  SOURCE,
  TO_BACKEND,
  TO_CLIENT,
  turned,
  VIP,
} from '../support/nat-ends.js';
import { type NatPath, openNatPath, TC } from '../support/nat-path.js';
import { pinTo } from '../support/packet-run.js';
import { checksum, icmpFrame, packet } from '../support/packets.js';

/** Type, code, and the word behind the checksum. */
type Message = readonly [number, number, number];
type Protocol = 'tcp' | 'udp';

/** Many at once: by code, MTU or pointer what it is in the other family. */
const each = (
  of: Readonly<Record<number, number>>,
  came: (key: number) => Message,
  leaves: (value: number) => Message,
): [Message, Message][] => Object.entries(of).map(([key, value]) => [came(Number(key)), leaves(value)]);
const pointer4 = (at: number): Message => [12, 0, at * 2 ** 24];

/** What an error of a family becomes in the other. */
const TABLE: Readonly<Record<Family, readonly (readonly [Message, Message])[]>> = {
  4: [
    ...each(
      { 0: 0, 1: 0, 3: 4, 5: 0, 6: 0, 7: 0, 8: 0, 9: 1, 10: 1, 11: 0, 12: 0, 13: 1, 15: 1 },
      (code) => [3, code, 0],
      (code) => [1, code, 0],
    ),
    [
      [3, 2, 0],
      [4, 1, 6],
    ], // the protocol, which the next header names
    ...each(
      { 0: 1280, 68: 1280, 1259: 1280, 1260: 1280, 1261: 1281, 1400: 1420, 1500: 1520, 65535: 65555 },
      (mtu) => [3, 4, mtu],
      (mtu) => [2, 0, mtu],
    ),
    ...each(
      { 0: 0, 1: 1 },
      (code) => [11, code, 0],
      (code) => [3, code, 0],
    ),
    // Version, type of service, length, life, protocol, addresses.
    ...each(
      { 0: 0, 1: 1, 2: 4, 3: 4, 8: 7, 9: 6, 12: 8, 13: 8, 14: 8, 15: 8, 16: 24, 17: 24, 18: 24, 19: 24 },
      pointer4,
      (at) => [4, 0, at],
    ),
    [
      [12, 2, 2 * 2 ** 24],
      [4, 0, 4],
    ],
  ],
  6: [
    ...each(
      { 0: 1, 1: 10, 2: 1, 3: 1, 4: 3 },
      (code) => [1, code, 0],
      (code) => [3, code, 0],
    ),
    ...each(
      { 0: 1260, 1000: 1260, 1280: 1260, 1281: 1261, 1500: 1480, 9000: 8980, 70000: 65515 },
      (mtu) => [2, 0, mtu],
      (mtu) => [3, 4, mtu],
    ),
    ...each(
      { 0: 0, 1: 1 },
      (code) => [3, code, 0],
      (code) => [11, code, 0],
    ),
    ...each({ 0: 0, 1: 1, 4: 2, 5: 2, 6: 9, 7: 8, 8: 12, 23: 12, 24: 16, 39: 16 }, (at) => [4, 0, at], pointer4),
    [
      [4, 1, 40],
      [3, 2, 0],
    ],
  ],
};
/** What has no counterpart. */
const NONE: Readonly<Record<Family, readonly Message[]>> = {
  4: [[3, 14, 0], [3, 16, 0], [12, 1, 0], [12, 3, 0], ...[4, 5, 6, 7, 10, 11, 20, 21, 255].map(pointer4)],
  6: [
    [1, 5, 0],
    [1, 6, 0],
    [4, 2, 40],
    [4, 0, 2],
    [4, 0, 3],
    [4, 0, 40],
    [4, 0, 0xffffffff],
  ],
};

let path: NatPath;
before(async () => {
  pinTo(0);
  path = await openNatPath();
  for (const family of FAMILIES) {
    path.backend(family, BACKEND[family], family, 1, { port: BACKEND_PORT });
    path.ring(family, family * 1000, new Uint16Array(251).fill(family));
    path.pool(family, [SOURCE[family]]);
  }
  for (const [outside, inside] of [
    [4, 6],
    [6, 4],
  ] as const) {
    path.nat(outside, VIP[outside], 80, 'tcp', inside, outside, inside);
    path.nat(10 + outside, VIP[outside], 80, 'udp', inside, outside, inside);
  }
  path.nat(24, VIP[4], 81, 'tcp', 6, 0, 0);
});
after(() => path?.close());

/** An IP packet of the ends, as it is translated: short ones may be cut. */
const whole = (ends: Ends, protocol: Protocol, payload: number): Buffer => {
  const long = payload + (protocol === 'tcp' ? 40 : 28) > 1260;
  return packet({ ...ends, protocol, payload, df: long }).subarray(14);
};
const headerOf = (ip: Buffer): number => (ip.readUInt8(0) >> 4 === 4 ? 20 : 40);
/** The first bytes of a packet: its header and `size` more. */
const cut = (ip: Buffer, size: number): Buffer => ip.subarray(0, headerOf(ip) + size);

interface Side {
  readonly name: string;
  /** Family and receiver of errors as they come in, and of the packets they quote. */
  readonly came: Ends;
  readonly sent: Ends;
  /** Who an error is from, as it comes and as it leaves. */
  readonly senders: readonly (readonly [string, string])[];
  readonly macs: typeof TO_CLIENT;
  readonly service: number;
}

/** Both ways an error may go about a connection. */
function sides(outside: Family, protocol: Protocol, vipPort = 80): readonly Side[] {
  const inside = outside === 4 ? 6 : 4;
  const ends = begin(path, { outside, inside }, protocol, vipPort);
  const service = (vipPort === 81 ? 20 : protocol === 'udp' ? 10 : 0) + outside;
  const named = (router: string): string => (router.includes(':') ? VIP[outside] : embedded(router));
  const [router, client] = [NEAR_CLIENT[outside], CLIENT[outside]];
  return [
    {
      ...{ name: 'to the client', came: ends.inside, sent: ends.outside, macs: TO_CLIENT, service },
      senders: [
        [NEAR_BACKEND[inside], named(NEAR_BACKEND[inside])],
        [BACKEND[inside], VIP[outside]],
        ...(inside === 6 ? [[embedded('198.51.100.77'), '198.51.100.77'] as const] : []),
      ],
    },
    {
      ...{ name: 'to the backend', came: turned(ends.outside), sent: turned(ends.inside), macs: TO_BACKEND, service },
      senders:
        vipPort === 81
          ? [
              [router, embedded(router)],
              [client, embedded(client)],
            ]
          : [router, client].map((from) => [from, SOURCE[inside]] as const),
    },
  ];
}

const familyOf = (address: string): Family => (address.includes(':') ? 6 : 4);

/** An error about the packet as it was sent, that comes from a sender and is to leave from another. */
function errors(side: Side, [from, seen]: readonly [string, string], came: Message, quote: Buffer) {
  return {
    came: icmpFrame(from, side.came.from, came, quote),
    leaves: (sent: Message, to: Buffer) => icmpFrame(seen, side.sent.from, sent, to, { df: false }),
  };
}

for (const [outside, protocol, vipPort] of [
  [4, 'tcp', 80],
  [4, 'udp', 80],
  [4, 'tcp', 81],
  [6, 'tcp', 80],
  [6, 'udp', 80],
] as const) {
  const kind = `IPv${outside} client, ${protocol}${vipPort === 81 ? ', sources stay' : ''}`;
  for (const [at, way] of ['to the client', 'to the backend'].entries()) {
    test(`nat: ${kind}: errors of the other family ${way}: types, codes, pointers, MTUs, senders`, () => {
      const side = sides(outside, protocol, vipPort)[at] ?? assert.fail();
      const [from, to] = [side.came, side.sent].map((ends) => cut(whole(ends, protocol, 100), 60));
      for (const sender of side.senders)
        for (const [message, wanted] of TABLE[familyOf(side.came.from)]) {
          const { came, leaves } = errors(side, sender, message, from ?? assert.fail());
          becomes(path, came, leaves(wanted, to ?? assert.fail()), side.macs, `${message} from ${sender}`);
        }
      const none = NONE[familyOf(side.came.from)];
      const before = path.outcomes(side.service).untranslatable ?? 0;
      for (const message of none) {
        const { came } = errors(side, side.senders[0] ?? assert.fail(), message, from ?? assert.fail());
        assert.equal(path.run(came).retval, TC.SHOT, `${message}`);
      }
      assert.equal(path.outcomes(side.service).untranslatable, before + none.length);
    });

    test(`nat: ${kind}: errors of the other family ${way}: quotes of every length`, () => {
      const side = sides(outside, protocol, vipPort)[at] ?? assert.fail();
      const [sender = assert.fail()] = side.senders;
      const [message, wanted] =
        familyOf(side.came.from) === 4
          ? ([
              [11, 0, 0],
              [3, 0, 0],
            ] as const)
          : ([
              [3, 0, 0],
              [11, 0, 0],
            ] as const);
      // The most an error may be long in the other family.
      const most = familyOf(side.came.from) === 4 ? 1280 - 88 : 576 - 48;
      const [from, to] = [whole(side.came, protocol, 1400), whole(side.sent, protocol, 1400)];
      for (const size of [
        ...Array.from({ length: 40 }, (_, more) => 8 + more),
        most - 1,
        most,
        most + 1,
        most + 2,
        1199,
      ]) {
        const { came, leaves } = errors(side, sender, message, cut(from, size));
        const quote = Buffer.from(cut(to, Math.min(size, most)));
        // Half a checksum cannot be told and stays.
        if (protocol === 'tcp' && size === 17)
          quote.writeUInt8(cut(from, size).readUInt8(headerOf(from) + 16), headerOf(to) + 16);
        becomes(path, came, leaves(wanted, quote), side.macs, `${size} bytes quoted`);
      }
    });
  }
}

test('nat: between families: a router that does not say what fits: the next of the sizes there are (RFC 1191)', () => {
  const [side = assert.fail()] = sides(6, 'udp');
  for (const [size, mtu] of [
    [1492, 1280],
    [1493, 1512],
    [2003, 2022],
    [4353, 4372],
    [8167, 8186],
    [17915, 17934],
    [32001, 32020],
  ] as const) {
    const [from, to] = [side.came, side.sent].map((ends) => whole(ends, 'udp', size - 28));
    const { came, leaves } = errors(side, [BACKEND[4], VIP[6]], [3, 4, 0], cut(from ?? assert.fail(), 8));
    becomes(path, came, leaves([2, 0, mtu], cut(to ?? assert.fail(), 8)), side.macs, `${size}`);
  }
});

test('nat: between families: a wrong ICMP checksum stays wrong, by the same difference', () => {
  for (const outside of FAMILIES)
    for (const side of sides(outside, 'tcp')) {
      const { came } = errors(
        side,
        side.senders[0] ?? assert.fail(),
        familyOf(side.came.from) === 4 ? [3, 1, 0] : [1, 0, 0],
        whole(side.came, 'tcp', 50),
      );
      const at = 14 + headerOf(came.subarray(14)) + 2;
      const right = Buffer.from(path.run(came).data);
      came.writeUInt16BE(came.readUInt16BE(at) ^ 0x0100, at);
      const wrong = Buffer.from(path.run(came).data);
      const where = 14 + headerOf(right.subarray(14)) + 2;
      const sum = (frame: Buffer): number => ~checksum(frame.subarray(where, where + 2)) & 0xffff;
      assert.equal(Math.abs(sum(wrong) - sum(right)) % 0xffff, 0x0100, side.name);
    }
});

test('nat: between families: extensions behind a quote (RFC 4884) are left out, and padding of the frame', () => {
  for (const outside of FAMILIES)
    for (const side of sides(outside, 'udp')) {
      const v4 = familyOf(side.came.from) === 4;
      const from = whole(side.came, 'udp', 400);
      const [message, wanted] = v4
        ? ([
            [11, 0, 32 * 65536],
            [3, 0, 0],
          ] as const)
        : ([
            [3, 0, 16 * 2 ** 24],
            [11, 0, 0],
          ] as const);
      const extension = Buffer.from('2000dfff00080101000011ff', 'hex');
      const { came, leaves } = errors(
        side,
        side.senders[0] ?? assert.fail(),
        message,
        Buffer.concat([from.subarray(0, 128), extension]),
      );
      const quote = cut(whole(side.sent, 'udp', 400), 128 - headerOf(from));
      becomes(path, Buffer.concat([came, Buffer.alloc(6, 0xee)]), leaves(wanted, quote), side.macs, side.name);
      const { came: short } = errors(
        side,
        side.senders[0] ?? assert.fail(),
        [message[0], 0, v4 ? 65536 : 2 ** 24],
        from,
      );
      assert.equal(path.run(short).retval, TC.SHOT, 'a length that leaves no quote');
    }
});

test('nat: between families: an error that quotes a first fragment quotes one of the other family', () => {
  for (const outside of FAMILIES)
    for (const side of sides(outside, 'udp')) {
      const v4 = familyOf(side.came.from) === 4;
      // Fragments grow by 8 bytes more: what fits is less.
      const [message, wanted] = v4
        ? ([
            [11, 1, 0],
            [3, 1, 0],
          ] as const)
        : ([
            [2, 0, 1500],
            [3, 4, 1472],
          ] as const);
      const [from = assert.fail(), to = assert.fail()] = [side.came, side.sent].map((ends) => {
        const [first] = fragmentsOf(packet({ ...ends, protocol: 'udp', payload: 3000 }), 0x1234);
        return first?.subarray(14);
      });
      const { came, leaves } = errors(side, side.senders[0] ?? assert.fail(), message, from.subarray(0, 100));
      const size = 100 - (v4 ? 20 : 48);
      becomes(path, came, leaves(wanted, to.subarray(0, (v4 ? 48 : 20) + size)), side.macs, side.name);
    }
});
