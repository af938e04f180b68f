// SPDX-License-Identifier: Apache-2.0
// docs/packet-path.md, "Fragments": in any order, to one backend. The ring is turned in between, so that only memory explains where they go.
import { Reason, ServiceFlag, Tally } from '../../../src/dataplane/abi.gen.js';
import { addSources, listNumber } from '../../../src/dataplane/sources.js';
import type { PacketPath } from '../packet-path.js';
import { ipFrame, type PacketSpec } from '../packets.js';
import { aim, b4, b6, client, declare, type Member, type More, one, type PacketCase, putMember } from './table.js';

const TWO4 = '192.0.2.35'; // two UDP services: 101 and 102
const ONE4 = '192.0.2.36'; // one UDP service, 103; one of TCP, 104
const ONE6 = '2001:db8::36'; // one UDP service, 105, in GUE over IPv6
const DENY4 = '192.0.2.37'; // one UDP service, 106, with a deny list
const PORT = 47300;
const memberOf = (service: number, slot: number): string => (service === 105 ? b6(service, slot) : b4(service, slot));

export function prepareFragments(path: PacketPath): void {
  const put = (number: number, address: string, more = {}): void => {
    const members: Member[] = [1, 2, 3].map((slot) => ({ address: memberOf(number, slot) }));
    declare(path, { number, address, port: PORT, protocol: 'udp', members, ...more });
  };
  put(101, TWO4);
  put(102, TWO4, { port: PORT + 1 });
  put(103, ONE4, { alone: true });
  put(104, ONE4, { alone: true, protocol: 'tcp' });
  put(105, ONE6, { alone: true, flags: ServiceFlag.GUE });
  put(106, DENY4, { alone: true, flags: ServiceFlag.DENY });
  void addSources(path.maps, listNumber(106, true), ['203.0.113.66/32']);
}

interface Piece {
  readonly to?: string;
  readonly from?: string;
  readonly protocol?: 'tcp' | 'udp';
  readonly port?: number;
}
const PIECE = 32; // bytes of each fragment's payload

/** The fragments of a datagram of four of them, whichever its family. */
function pieces(id: number, { to = TWO4, from, protocol = 'udp', port = PORT }: Piece = {}): Buffer[] {
  const v6 = to.includes(':');
  const spec: Partial<PacketSpec> = {
    protocol,
    payload: PIECE * 4 - 3 - (protocol === 'udp' ? 8 : 20),
    fromPort: 50000,
  };
  const whole = client(to, port, { ...spec, ...(from && { from }) });
  const data = whole.subarray(v6 ? 54 : 34);
  const number = protocol === 'udp' ? 17 : 6;
  const source = from ?? (v6 ? '2001:db8:1::7' : '203.0.113.7');
  return [0, 1, 2, 3].map((at) => {
    const part = data.subarray(at * PIECE, (at + 1) * PIECE);
    const more = at < 3 ? 1 : 0;
    if (!v6) return ipFrame(source, to, number, part, { fragment: (more << 13) | ((at * PIECE) / 8), id });
    const header = Buffer.alloc(8);
    header.writeUInt8(number, 0);
    header.writeUInt16BE((at * PIECE) | more, 2);
    header.writeUInt32BE(id, 4);
    return ipFrame(source, to, 44, Buffer.concat([header, part]));
  });
}

type Step = Buffer | readonly [service: number, slot: number];
/** Packets in a row, and where the ring leads in between. */
const steps =
  (...each: readonly Step[]) =>
  (path: PacketPath): void => {
    for (const step of each) {
      if (Buffer.isBuffer(step)) path.program.run(step, null);
      else aim(path, step[0], step[1]);
    }
  };

const to = (service: number, slot: number, tally: number | null, more: More = {}): More => ({
  to: memberOf(service, slot),
  service,
  ...(service === 105 && { form: 'gue' }),
  tallies: tally === null ? [] : [tally],
  ...more,
});
const { FRAGMENT: LATER, FRAGMENT_EARLY: EARLY } = Tally;
const { FORWARDED, FRAGMENT, MALFORMED, DENIED, NOT_OURS } = Reason;

let id = 100;
/** A client of its own for each story, so that no pair of addresses remembers another's. */
const story = (
  vip: string,
  make: (all: Buffer[], next: Buffer[], own: Piece) => PacketCase[],
  more: Piece = {},
): PacketCase[] => {
  const host = ++id;
  const own: Piece = { to: vip, from: vip.includes(':') ? `2001:db8:5::${host}` : `203.0.114.${host - 50}`, ...more };
  return make(pieces(host, own), pieces(host + 10000, own), own);
};

const inOrder = (vip: string, service: number, more: Piece = {}): PacketCase[] =>
  story(
    vip,
    ([a, b, c, d] = [], _next, _own): PacketCase[] => [
      one(`${vip} ${service}: the first fragment`, FORWARDED, a as Buffer, {
        ...to(service, 1, null),
        state: steps([service, 1]),
      }),
      one(`${vip} ${service}: the second, the ring turned`, FORWARDED, b as Buffer, {
        ...to(service, 1, LATER, { begins: false }),
        state: steps([service, 2]),
      }),
      one(`${vip} ${service}: the fourth`, FORWARDED, d as Buffer, to(service, 1, LATER, { begins: false })),
      one(`${vip} ${service}: the third`, FORWARDED, c as Buffer, to(service, 1, LATER, { begins: false })),
      one(`${vip} ${service}: the third again`, FORWARDED, c as Buffer, to(service, 1, LATER, { begins: false })),
      one(
        `${vip} ${service}: the first again: its flow is remembered`,
        FORWARDED,
        a as Buffer,
        to(service, 1, null, { begins: false }),
      ),
    ],
    more,
  );

const early = (vip: string, service: number, more: Piece = {}): PacketCase[] =>
  story(
    vip,
    ([a, b, c, d] = [], next, own) => [
      one(`${vip} ${service}: the last one first: by the client's row`, FORWARDED, d as Buffer, {
        ...to(service, 1, EARLY, { begins: false }),
        state: steps([service, 1]),
      }),
      one(`${vip} ${service}: the second one after it`, FORWARDED, b as Buffer, {
        ...to(service, 1, LATER),
        state: steps([service, 2]),
      }),
      one(`${vip} ${service}: then the first one, where they went`, FORWARDED, a as Buffer, to(service, 1, null)),
      one(`${vip} ${service}: and what follows`, FORWARDED, c as Buffer, to(service, 1, LATER)),
      one(
        `${vip} ${service}: the flow's record is the ring's`,
        FORWARDED,
        client(vip, PORT, { ...own, protocol: own.protocol ?? 'udp', from: own.from as string, fromPort: 50000 }),
        {
          ...to(service, 2, null, { begins: false }),
        },
      ),
      one(`${vip} ${service}: the next datagram's last one, by its pair`, FORWARDED, next[3] as Buffer, {
        ...to(service, 1, EARLY),
        state: steps([service, 3]),
      }),
      one(
        `${vip} ${service}: the next datagram's first, where its last went`,
        FORWARDED,
        next[0] as Buffer,
        to(service, 1, null),
      ),
      one(
        `${vip} ${service}: that first again, where its flow goes`,
        FORWARDED,
        next[0] as Buffer,
        to(service, 2, null, { begins: false }),
      ),
    ],
    more,
  );

const unknown = story(TWO4, ([, b, c, d] = []) => [
  one('the second one of an unknown datagram, two services', FRAGMENT, b as Buffer),
  one('the third one of an unknown datagram, two services', FRAGMENT, c as Buffer),
  one('the last one of an unknown datagram, two services', FRAGMENT, d as Buffer),
]);

const pair = story(
  TWO4,
  ([a] = [], next) => [
    one('two services: a datagram to the second', FORWARDED, a as Buffer, {
      ...to(102, 2, null),
      state: steps([102, 2]),
    }),
    one('two services: the next one begins at its end', FORWARDED, next[3] as Buffer, {
      ...to(102, 2, EARLY),
      state: steps([102, 3]),
    }),
  ],
  { port: PORT + 1 },
);

const invalid = story(ONE4, ([a, b, c, d] = []) => [
  one('the first, to a backend that will go', FORWARDED, a as Buffer, { ...to(103, 3, null), state: steps([103, 3]) }),
  one('the second, when it has gone: the one service of its VIP', FORWARDED, b as Buffer, {
    ...to(103, 2, EARLY),
    state: (path) => {
      putMember(path, 103, 3, { address: b4(103, 3), valid: false });
      aim(path, 103, 2);
    },
  }),
  one('the third goes after the second', FORWARDED, c as Buffer, { ...to(103, 2, LATER), state: steps([103, 1]) }),
  one('the last, when no backend is left', FRAGMENT, d as Buffer, {
    service: 103,
    state: (path) => {
      for (const slot of [1, 2]) putMember(path, 103, slot, { address: b4(103, slot), valid: false });
    },
  }),
  one('the last, when they are back', FORWARDED, d as Buffer, {
    ...to(103, 2, LATER),
    state: (path) => {
      for (const slot of [1, 2, 3]) putMember(path, 103, slot, { address: b4(103, slot) });
    },
  }),
]);

const denied = [...pieces(7, { to: DENY4, from: '203.0.113.66' })].map((piece, at) =>
  one(`fragment ${at} from the deny list`, DENIED, piece, { service: 106 }),
);
const allowed = story(DENY4, ([a, b] = []) => [
  one('the second fragment of who may', FORWARDED, b as Buffer, to(106, 1, EARLY)),
  one('the first fragment of who may', FORWARDED, a as Buffer, to(106, 1, null)),
]);

const tcp = (offset: number, size: number, more: number): Buffer =>
  ipFrame('203.0.113.7', ONE4, 6, Buffer.alloc(size, 0x50), { fragment: (more << 13) | (offset / 8), id: 9 });
const udp = (offset: number, size: number, more: number): Buffer =>
  ipFrame('203.0.113.7', ONE4, 17, Buffer.alloc(size), { fragment: (more << 13) | (offset / 8), id: 9 });
const malformed = [
  ...[8, 16].map((size) => one(`a first fragment with ${size} bytes of TCP`, MALFORMED, tcp(0, size, 1))),
  ...[8, 16].map((offset) => one(`TCP from byte ${offset} on`, MALFORMED, tcp(offset, 32, 1))),
  one('TCP from byte 24 on', FORWARDED, tcp(24, 32, 1), { ...to(104, 1, EARLY), state: steps([104, 1]) }),
  one('a first fragment with no UDP at all', MALFORMED, udp(0, 0, 1)),
  one('a first fragment with a UDP length of 0', MALFORMED, udp(0, 16, 1)),
  one('an odd size with more to come', MALFORMED, udp(64, 33, 1)),
  one('beyond the longest packet', MALFORMED, udp(65528, 8, 0)),
  one('to the end of the longest packet', FORWARDED, udp(65528, 7, 0), {
    ...to(103, 1, LATER),
    state: steps([103, 1], udp(640, 7, 0)),
  }),
  one('a fragment of SCTP', NOT_OURS, ipFrame('203.0.113.7', ONE4, 132, Buffer.alloc(32), { fragment: 8 })),
];

export const fragments: readonly PacketCase[] = [
  ...unknown,
  ...inOrder(TWO4, 101),
  ...inOrder(ONE4, 103),
  ...inOrder(ONE6, 105),
  ...inOrder(ONE4, 104, { protocol: 'tcp' }),
  ...early(ONE4, 103),
  ...early(ONE6, 105),
  ...pair,
  ...invalid,
  ...denied,
  ...allowed,
  ...malformed,
];
