// SPDX-License-Identifier: Apache-2.0
// docs/packet-path.md, "ICMP to a VIP": errors about flows of ours, and about nothing of ours.
import { Reason, ServiceFlag, Tally } from '../../../src/dataplane/abi.gen.js';
import type { PacketPath } from '../packet-path.js';
import { packetOf, pinTo } from '../packet-run.js';
import { type Form, icmpMessage, ipFrame, type PacketSpec, TCP, tags, tunnelled, withTags } from '../packets.js';
import {
  after,
  aim,
  b4,
  b6,
  CLIENT4,
  CLIENT6,
  client,
  declare,
  type More,
  one,
  type PacketCase,
  padded,
  patched,
  putMember,
} from './table.js';

const V4 = '192.0.2.31';
const V6 = '2001:db8::31';
const ROUTER4 = '198.51.100.99';
const ROUTER6 = '2001:db8:99::1';
/** Services, by what reaches their backends; the port is 47000 + the number. */
const [IPIP4, GUE6, STATELESS, UDP4, IPIP6, GUE4] = [70, 71, 72, 74, 75, 76] as const;
const portOf = (service: number): number => 47000 + service;

export function prepareErrors(path: PacketPath): void {
  const put = (number: number, address: string, members: readonly string[], more = {}): void =>
    declare(path, { number, address, port: portOf(number), members: members.map((to) => ({ address: to })), ...more });
  put(IPIP4, V4, [b4(IPIP4), b4(IPIP4, 2)]);
  put(GUE6, V4, [b6(GUE6)], { flags: ServiceFlag.GUE });
  put(STATELESS, V4, [b4(STATELESS), b4(STATELESS, 2)], { flags: ServiceFlag.STATELESS });
  put(UDP4, V4, [b4(UDP4)], { port: 0, protocol: 'udp' });
  put(IPIP6, V6, [b6(IPIP6)]);
  put(GUE4, V6, [b4(GUE4)], { flags: ServiceFlag.GUE });
}

/** What the server sent to the client: a router's error quotes it. */
function answer(service: number, fromPort: number, more: Partial<PacketSpec> = {}): Buffer {
  const v6 = service === IPIP6 || service === GUE4;
  const [from, to] = v6 ? [V6, CLIENT6] : [V4, CLIENT4];
  return packetOf(client(to, fromPort, { from, to, fromPort: portOf(service), payload: 100, ...more }));
}

function error(quote: Buffer, more: { type?: number; code?: number; to?: string; tos?: number } = {}): Buffer {
  const to = more.to ?? (quote.readUInt8(0) >> 4 === 6 ? V6 : V4);
  const v6 = to.includes(':');
  const from = v6 ? ROUTER6 : ROUTER4;
  const rest = Buffer.concat([Buffer.of(0, 0, 5, 0), quote]);
  const message = icmpMessage(from, to, more.type ?? (v6 ? 2 : 3), more.code ?? 0, rest);
  return ipFrame(from, to, v6 ? 58 : 1, message, { tos: more.tos ?? 0 });
}

/** As a router on the way to a server tells of a packet that the server's tunnel or ours has wrapped. */
const wrapped = (inner: Buffer, to: string, form?: Form): Buffer => {
  const [from4, from6] = to.includes(':') ? ['', V6] : [V4, ''];
  return tunnelled(inner, { from4, from6, to, flowLabel: 7, sourcePort: 50000, ...(form && { form }) });
};

function extended(whole: Buffer, type: number, header: Buffer): Buffer {
  const out = Buffer.concat([whole.subarray(0, 40), Buffer.of(6), header.subarray(1), whole.subarray(40)]);
  out.writeUInt8(type, 6);
  out.writeUInt16BE(out.length - 40, 4);
  return out;
}

const TO: Readonly<Record<number, More>> = {
  [IPIP4]: { to: b4(IPIP4) },
  [GUE6]: { to: b6(GUE6), form: 'gue' },
  [STATELESS]: { to: b4(STATELESS) },
  [UDP4]: { to: b4(UDP4) },
  [IPIP6]: { to: b6(IPIP6) },
  [GUE4]: { to: b4(GUE4), form: 'gue' },
};

let lastPort = 20000;
type Quote = (fromPort: number) => Buffer;
/** The flow has sent its first packet; then comes an error. */
function about(
  name: string,
  service: number,
  reason: number,
  quote: Quote,
  more: More = {},
  before?: (path: PacketPath) => void,
): PacketCase {
  const fromPort = ++lastPort;
  const v6 = service === IPIP6 || service === GUE4;
  const protocol = service === UDP4 ? 'udp' : 'tcp';
  const first = client(v6 ? V6 : V4, portOf(service), { fromPort, protocol, flags: TCP.SYN });
  return one(name, reason, quote(fromPort), {
    service,
    ...more,
    state: (path) => {
      if (service !== STATELESS) after(first)(path);
      before?.(path);
    },
  });
}
const carried = (
  name: string,
  service: number,
  quote: Quote,
  more: More = {},
  before?: (path: PacketPath) => void,
): PacketCase =>
  about(
    `an error ${name}`,
    service,
    Reason.FORWARDED,
    quote,
    { ...TO[service], tallies: [Tally.ICMP_ERROR], begins: false, ...more },
    before,
  );
const refused = (
  name: string,
  reason: number,
  quote: Quote,
  service: number = IPIP4,
  more: More = { service: 0 },
): PacketCase => about(`an error ${name}`, service, reason, quote, more);

const TAGS = tags([0x88a8, 0x2007], [0x8100, 0xe123]);
const UDP = { protocol: 'udp' } as const;

const known: PacketCase[] = [
  ...[3, 11, 12].map((type) => carried(`of type ${type}`, IPIP4, (p) => error(answer(IPIP4, p), { type }))),
  ...[1, 2, 3, 4].map((type) => carried(`of ICMPv6 type ${type}`, IPIP6, (p) => error(answer(IPIP6, p), { type }))),
  ...[4, 8, 9].map((size) =>
    carried(`quoting ${size} bytes of IPv4 transport`, IPIP4, (p) => error(answer(IPIP4, p).subarray(0, 20 + size))),
  ),
  ...[4, 8, 9].map((size) =>
    carried(`quoting ${size} bytes of IPv6 transport`, IPIP6, (p) => error(answer(IPIP6, p).subarray(0, 40 + size))),
  ),
  carried('that quotes options', IPIP4, (p) => error(answer(IPIP4, p, { options: 9 }))),
  carried('with TOS and padding', IPIP4, (p) => padded(error(answer(IPIP4, p), { tos: 0xb9 }), 3)),
  carried('behind tags', IPIP4, (p) => withTags(error(answer(IPIP4, p)), TAGS)),
  carried('to GUE over IPv6', GUE6, (p) => error(answer(GUE6, p))),
  carried('of an odd length to GUE over IPv6', GUE6, (p) => error(answer(GUE6, p).subarray(0, 29))),
  carried('to GUE over IPv4', GUE4, (p) => error(answer(GUE4, p))),
  carried('about UDP of an any-port service', UDP4, (p) => error(answer(UDP4, p, UDP))),
  carried('that quotes IPv4 in IPv4', IPIP4, (p) => error(wrapped(answer(IPIP4, p), '10.1.1.1'))),
  carried('that quotes IPv6 in IPv6', IPIP6, (p) => error(wrapped(answer(IPIP6, p), 'fd00:1::1'))),
  carried('that quotes IPv6 in IPv4, to the inner VIP', IPIP6, (p) =>
    error(wrapped(answer(IPIP6, p), '10.1.1.1'), { to: V6 }),
  ),
  carried('that quotes IPv4 in IPv6, to the inner VIP', IPIP4, (p) =>
    error(wrapped(answer(IPIP4, p), 'fd00:1::1'), { to: V4 }),
  ),
  carried('that quotes GUE over IPv4', IPIP4, (p) => error(wrapped(answer(IPIP4, p), '10.1.1.1', 'gue'))),
  carried('that quotes GUE with 4 bytes of the inner transport', IPIP4, (p) =>
    error(wrapped(answer(IPIP4, p), '10.1.1.1', 'gue').subarray(0, 52)),
  ),
  carried('that quotes GUE over IPv6', IPIP6, (p) => error(wrapped(answer(IPIP6, p), 'fd00:1::1', 'gue'))),
  ...[0, 43, 51, 60].map((type) =>
    carried(`that quotes extension header ${type}`, IPIP6, (p) =>
      error(
        extended(
          answer(IPIP6, p),
          type,
          type === 51 ? Buffer.from([0, 1, ...Buffer.alloc(10)]) : Buffer.from([0, 1, ...Buffer.alloc(14)]),
        ),
      ),
    ),
  ),
  carried('that quotes a first fragment', IPIP4, (p) => error(patched(answer(IPIP4, p), 6, 0x20, 0))),
  carried('that quotes an IPv6 first fragment of a cut size', IPIP6, (p) =>
    error(extended(answer(IPIP6, p), 44, Buffer.of(0, 0, 0, 1, 0, 0, 0, 9)).subarray(0, 61)),
  ),
  carried(
    'whose ring row has gone to another',
    IPIP4,
    (p) => error(answer(IPIP4, p)),
    {},
    (path) => aim(path, IPIP4, 2),
  ),
  carried(
    'about a stateless service',
    STATELESS,
    (p) => error(answer(STATELESS, p)),
    {},
    (path) => aim(path, IPIP4, 1),
  ),
  carried(
    'about a stateless service whose ring has changed',
    STATELESS,
    (p) => error(answer(STATELESS, p)),
    { to: b4(STATELESS, 2) },
    (path) => aim(path, STATELESS, 2),
  ),
];

/** The flow has its record where the first packet came in. */
const otherCpu: PacketCase = (() => {
  const fromPort = ++lastPort;
  return one('an error about a flow on another CPU', Reason.FORWARDED, error(answer(IPIP4, fromPort)), {
    to: b4(IPIP4),
    service: IPIP4,
    tallies: [Tally.ICMP_ERROR],
    begins: false,
    state: (path) => {
      pinTo(1);
      after(client(V4, portOf(IPIP4), { fromPort, flags: TCP.SYN }))(path);
      pinTo(0);
    },
  });
})();

const unknown: PacketCase[] = [
  refused('about a flow nobody has', Reason.ICMP_UNKNOWN, (p) => error(answer(IPIP4, p + 20000)), IPIP4, {}),
  refused('about an IPv6 flow nobody has', Reason.ICMP_UNKNOWN, (p) => error(answer(IPIP6, p + 20000)), IPIP6, {}),
  refused(
    'about another client of a known port',
    Reason.ICMP_UNKNOWN,
    (p) => error(answer(IPIP4, p, { to: '203.0.113.8' })),
    IPIP4,
    {},
  ),
  refused('about a port no service has', Reason.ICMP_UNKNOWN, (p) => error(answer(IPIP4, p, { fromPort: 9 }))),
  refused('sent to another VIP than the quoted', Reason.ICMP_UNKNOWN, (p) =>
    error(answer(IPIP4, p), { to: '192.0.2.30' }),
  ),
  refused('sent to a VIP of the other family', Reason.ICMP_UNKNOWN, (p) => error(answer(IPIP4, p), { to: V6 })),
  refused('that quotes the client', Reason.ICMP_UNKNOWN, (p) =>
    error(packetOf(client(V4, portOf(IPIP4), { fromPort: p }))),
  ),
  refused('that quotes a later fragment', Reason.ICMP_UNKNOWN, (p) => error(patched(answer(IPIP4, p), 6, 0, 2))),
  refused(
    'that quotes a later IPv6 fragment',
    Reason.ICMP_UNKNOWN,
    (p) => error(extended(answer(IPIP6, p), 44, Buffer.of(0, 0, 0, 8, 0, 0, 0, 9))),
    IPIP6,
  ),
  refused('that quotes SCTP', Reason.ICMP_UNKNOWN, (p) => error(patched(answer(IPIP4, p), 9, 132))),
  refused('that quotes a tunnel in a tunnel', Reason.ICMP_UNKNOWN, (p) =>
    error(wrapped(wrapped(answer(IPIP4, p), '10.1.1.1'), '10.1.1.2')),
  ),
  refused(
    'that quotes a chain that is cut',
    Reason.ICMP_UNKNOWN,
    (p) => error(extended(answer(IPIP6, p), 60, Buffer.alloc(16, 1)).subarray(0, 45)),
    IPIP6,
  ),
  refused('that quotes 3 bytes of transport', Reason.MALFORMED, (p) => error(answer(IPIP4, p).subarray(0, 23))),
  refused(
    'that quotes 3 bytes of IPv6 transport',
    Reason.MALFORMED,
    (p) => error(answer(IPIP6, p).subarray(0, 43)),
    IPIP6,
  ),
  refused('that quotes 19 bytes', Reason.MALFORMED, (p) => error(answer(IPIP4, p).subarray(0, 19))),
  refused('that quotes 39 bytes of IPv6', Reason.MALFORMED, (p) => error(answer(IPIP6, p).subarray(0, 39)), IPIP6),
  refused('that quotes version 5', Reason.MALFORMED, (p) => error(patched(answer(IPIP4, p), 0, 0x55))),
  refused('that quotes a header of four words', Reason.MALFORMED, (p) => error(patched(answer(IPIP4, p), 0, 0x44))),
  refused('that quotes a tunnel and 3 bytes of the inner transport', Reason.MALFORMED, (p) =>
    error(wrapped(answer(IPIP4, p), '10.1.1.1').subarray(0, 43)),
  ),
  refused('that quotes a tunnel and 19 bytes', Reason.MALFORMED, (p) =>
    error(wrapped(answer(IPIP4, p), '10.1.1.1').subarray(0, 39)),
  ),
  refused('that quotes nothing', Reason.MALFORMED, () => error(Buffer.alloc(0 + 1, 0x45).subarray(0, 1), { to: V4 })),
];

const gone: PacketCase = about(
  'an error about a flow whose backend takes no packets',
  IPIP4,
  Reason.NO_BACKEND,
  (p) => error(answer(IPIP4, p)),
  {},
  (path) => putMember(path, IPIP4, 1, { address: b4(IPIP4), valid: false }),
);
const back: PacketCase = carried('once the backend is back', IPIP4, (p) => error(answer(IPIP4, p)));
const restore = (it: PacketCase): PacketCase => ({
  ...it,
  state: (path) => {
    putMember(path, IPIP4, 1, { address: b4(IPIP4) });
    aim(path, IPIP4, 1);
    it.state?.(path);
  },
});

export const errors: readonly PacketCase[] = [
  ...known.map(restore),
  restore(otherCpu),
  ...unknown,
  restore(gone),
  restore(back),
];
