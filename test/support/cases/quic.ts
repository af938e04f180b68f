// SPDX-License-Identifier: Apache-2.0
// docs/packet-path.md, "Choice", affinity: quic-cid. The ring leads to member 1; IDs name members 2 to 4.
import { QuicKey, QuicLengths, Reason, ServiceFlag, Tally } from '../../../src/dataplane/abi.gen.js';
import type { PacketPath } from '../packet-path.js';
import {
  after,
  aim,
  b4,
  b6,
  backendNumber,
  client,
  declare,
  one,
  type PacketCase,
  padded,
  patched,
  putMember,
  u32,
} from './table.js';

const V4 = '192.0.2.39';
const V6 = '2001:db8::39';
const [QUIC4, QUIC6, FREE] = [120, 121, 122] as const; // FREE has no flow memory
const MEMBERS = [1, 2, 3, 4];
/** Bytes of server ID by config rotation codepoint. */
const LENGTHS = [4, 8, 0, 15, 1, 0, 2, 0];
const V1 = [0, 0, 0, 1];
const V2 = [0x6b, 0x33, 0x43, 0xcf];

const serverId = (config: number, slot: number): Buffer => Buffer.alloc(LENGTHS[config] ?? 0, config * 16 + slot);

export function prepareQuic(path: PacketPath): void {
  for (const [number, address, flags, to] of [
    [QUIC4, V4, ServiceFlag.QUIC, b4],
    [QUIC6, V6, ServiceFlag.QUIC | ServiceFlag.GUE, b6],
    [FREE, V4, ServiceFlag.QUIC | ServiceFlag.STATELESS, b4],
  ] as const) {
    const members = MEMBERS.map((slot) => ({ address: to(number, slot) }));
    declare(path, { number, address, port: number === FREE ? 444 : 443, protocol: 'udp', members, flags });
    path.maps.handle.quic_lengths.set(u32(number), QuicLengths.encode({ length: Uint8Array.from(LENGTHS) }), 0);
    for (const [config, length] of LENGTHS.entries()) {
      for (const slot of length ? MEMBERS : []) {
        const id = Uint8Array.from({ length: 16 }, (_, at) => serverId(config, slot)[at] ?? 0);
        const key = QuicKey.encode({ pool: number, config, length, id });
        path.maps.handle.quic_servers.set(key, u32(backendNumber(number, slot)), 0);
      }
    }
  }
}

/** A connection ID that names a server; `rest` bytes are its nonce. */
const cid = (config: number, slot: number, rest = 3): Buffer =>
  Buffer.concat([Buffer.of((config << 5) | 0x0a), serverId(config, slot), Buffer.alloc(rest, 0xcc)]);
const short = (id: Uint8Array): Buffer => Buffer.concat([Buffer.of(0x43), id]);
const long = (first: number, version: readonly number[], id: Uint8Array, size = id.length): Buffer =>
  Buffer.concat([Buffer.of(first, ...version, size), id, Buffer.of(4, 1, 2, 3, 4, 0x55)]);

const { QUIC_ROUTED: ROUTED, QUIC_INITIAL: INITIAL, QUIC_UNKNOWN: UNKNOWN } = Tally;
let lastPort = 9000;
function sent(name: string, data: Uint8Array, slot: number, tally: number, service: number = QUIC4): PacketCase {
  const fromPort = ++lastPort;
  const packet = client(service === QUIC6 ? V6 : V4, service === FREE ? 444 : 443, { protocol: 'udp', fromPort, data });
  const to = service === QUIC6 ? { to: b6(service, slot), form: 'gue' as const } : { to: b4(service, slot) };
  const begins = service !== FREE;
  return one(`QUIC ${service}: ${name}`, Reason.FORWARDED, packet, { ...to, service, tallies: [tally], begins });
}

const table = [QUIC4, QUIC6, FREE].flatMap((service) => [
  ...[0, 1, 3, 4, 6].flatMap((config) => [
    sent(`short header, config ${config}`, short(cid(config, 2)), 2, ROUTED, service),
    sent(`short header, config ${config}, no more than the ID`, short(cid(config, 3, 0)), 3, ROUTED, service),
    sent(
      `short header, config ${config}, one byte too short`,
      short(cid(config, 3, 0).subarray(0, -1)),
      1,
      UNKNOWN,
      service,
    ),
    sent(`Handshake, config ${config}`, long(0xe0, V1, cid(config, 4)), 4, ROUTED, service),
    sent(
      `Handshake, config ${config}, an ID one byte too short`,
      long(0xe0, V1, cid(config, 4), LENGTHS[config] ?? 0),
      1,
      UNKNOWN,
      service,
    ),
    sent(`Handshake, config ${config}, no more than the ID`, long(0xe0, V1, cid(config, 4, 0)), 4, ROUTED, service),
    sent(
      `an ID nobody has, config ${config}`,
      short(Buffer.concat([Buffer.of(config << 5), Buffer.alloc(15, 0xf7)])),
      1,
      UNKNOWN,
      service,
    ),
  ]),
  ...[2, 5, 7].map((config) =>
    sent(`codepoint ${config} is not in use`, short(Buffer.alloc(16, config << 5)), 1, UNKNOWN, service),
  ),
  sent('version 1 Initial', long(0xc0, V1, cid(0, 2)), 1, INITIAL, service),
  sent('version 1 0-RTT', long(0xd0, V1, cid(0, 2)), 1, INITIAL, service),
  sent('version 1 Handshake', long(0xe0, V1, cid(0, 2)), 2, ROUTED, service),
  sent('version 1 Retry', long(0xf0, V1, cid(0, 2)), 2, ROUTED, service),
  sent('version 2 Retry', long(0xc0, V2, cid(0, 2)), 2, ROUTED, service),
  sent('version 2 Initial', long(0xd0, V2, cid(0, 2)), 1, INITIAL, service),
  sent('version 2 0-RTT', long(0xe0, V2, cid(0, 2)), 1, INITIAL, service),
  sent('version 2 Handshake', long(0xf0, V2, cid(0, 2)), 2, ROUTED, service),
  sent('version negotiation', long(0xe0, [0, 0, 0, 0], cid(0, 2)), 1, UNKNOWN, service),
  sent('version 3', long(0xe0, [0, 0, 0, 3], cid(0, 2)), 1, UNKNOWN, service),
  sent('an ID of 20 bytes', long(0xe0, V1, cid(0, 2, 15)), 2, ROUTED, service),
  sent('an ID of 21 bytes', long(0xe0, V1, cid(0, 2, 16)), 1, UNKNOWN, service),
  sent('an ID of no bytes', long(0xe0, V1, Buffer.alloc(0)), 1, UNKNOWN, service),
  sent(
    'an ID that ends behind the packet',
    Buffer.concat([Buffer.of(0xe0, ...V1, 10), cid(0, 2, 4)]),
    1,
    UNKNOWN,
    service,
  ),
  sent('a long header of 5 bytes', Buffer.of(0xe0, ...V1), 1, UNKNOWN, service),
  sent('one byte', Buffer.of(0x40), 1, UNKNOWN, service),
  sent('no byte', Buffer.alloc(0), 1, UNKNOWN, service),
]);

const flow = (data: Uint8Array, fromPort: number): Buffer => client(V4, 443, { protocol: 'udp', fromPort, data });
const told = (slot: number, tally: number) => ({
  to: b4(QUIC4, slot),
  service: QUIC4,
  tallies: [tally],
  begins: false,
});
const { FORWARDED } = Reason;
const other = short(Buffer.alloc(16, 0xe0));
const cut = patched(flow(short(cid(0, 2)), 8101), 38, 0, 8 + 4);
const padding = padded(patched(flow(short(cid(0, 2).subarray(0, 4)), 8102), 40, 0, 0), 9);

const turned: PacketCase[] = [
  one('QUIC: a flow by the ring, turned by an ID', FORWARDED, flow(short(cid(0, 3)), 8000), {
    ...told(3, ROUTED),
    state: after(flow(long(0xc0, V1, cid(0, 2)), 8000)),
  }),
  one('QUIC: its record is turned: an unknown ID follows', FORWARDED, flow(other, 8000), told(3, UNKNOWN)),
  one('QUIC: and an Initial too', FORWARDED, flow(long(0xc0, V1, cid(0, 2)), 8000), told(3, INITIAL)),
  one('QUIC: a record begun by an ID', FORWARDED, flow(other, 8001), {
    ...told(4, UNKNOWN),
    state: after(flow(short(cid(1, 4)), 8001)),
  }),
  one('QUIC: a record outlives a change of the ring', FORWARDED, flow(other, 8002), {
    ...told(1, UNKNOWN),
    state: (path) => {
      after(flow(other, 8002))(path);
      aim(path, QUIC4, 2);
    },
  }),
  one('QUIC: the server takes no packets: the ring', FORWARDED, flow(short(cid(0, 4)), 8003), {
    ...told(1, UNKNOWN),
    begins: true,
    state: (path) => {
      aim(path, QUIC4, 1);
      putMember(path, QUIC4, 4, { address: b4(QUIC4, 4), valid: false });
    },
  }),
  one('QUIC: the server is back, the flow turns to it', FORWARDED, flow(short(cid(0, 4)), 8003), {
    ...told(4, ROUTED),
    state: (path) => putMember(path, QUIC4, 4, { address: b4(QUIC4, 4) }),
  }),
  one('QUIC: an ID that goes on behind the datagram', FORWARDED, cut, { ...told(1, UNKNOWN), begins: true }),
  one('QUIC: an ID that goes on in the padding', FORWARDED, padding, { ...told(1, UNKNOWN), begins: true }),
];

export const quic: readonly PacketCase[] = [...table, ...turned];
