// SPDX-License-Identifier: Apache-2.0
// What the features of the packet path cost, each on one flow: frames of 80 bytes like those of all cases.

import { addressField } from '../src/controlplane/kernel-state.js';
import { KeyKind, QuicKey, QuicLengths, ServiceFlag, ServiceOptions } from '../src/dataplane/abi.gen.js';
import { writeService } from '../src/dataplane/services.js';
import { addSources, listNumber } from '../src/dataplane/sources.js';
import type { PacketPath } from '../test/support/packet-path.js';
import { checksum, frame, ipv4Header, type PacketSpec, packet, TCP } from '../test/support/packets.js';

export interface Feature {
  readonly name: string;
  readonly frame: Buffer;
  /** ServiceFlag bits of the services the case is about. */
  readonly flags: number;
  /** Bytes the frame grows by. */
  readonly grown: number;
  readonly prepare?: (path: PacketPath) => Promise<void>;
}

const VIP = '192.0.2.10';
const [TCP_SERVICE, UDP_SERVICE] = [1, 2];
/** micro.ts fills it with backends that are reached by IPv6. */
const IPV6_POOL = 2;
const TCP4: PacketSpec = { from: '10.1.0.2', to: VIP, fromPort: 40000, toPort: 80, protocol: 'tcp', payload: 26 };
const tcp4 = packet(TCP4);
const udp4 = packet({ ...TCP4, protocol: 'udp', payload: 38 });
const u32 = (value: number): Uint8Array => new Uint8Array(Uint32Array.of(value).buffer);

/** 100,000 prefixes of 24 bits; the client is on none of them. */
const LIST = Array.from({ length: 100_000 }, (_, at) => `${11 + (at >> 16)}.${(at >> 8) & 255}.${at & 255}.0/24`);

const quicShort = Buffer.from(udp4);
quicShort.set([0x40, 0x00, 0xaa, 0x01], 42); // config 0, server ID aa01

const tagged = Buffer.concat([tcp4.subarray(0, 12), Buffer.of(0x81, 0, 0, 7), tcp4.subarray(12, 76)]);
tagged.writeUInt16BE(62, 20); // the packet without its last four bytes

/** ICMP "fragmentation needed" about an answer of the flow. */
function icmpError(): Buffer {
  const quote = Buffer.concat([ipv4Header(VIP, '10.1.0.2', 6, 1400), Buffer.of(0, 80, 0x9c, 0x40), Buffer.alloc(14)]);
  const message = Buffer.concat([Buffer.of(3, 4, 0, 0, 0, 0, 5, 0), quote]);
  message.writeUInt16BE(checksum(message), 2);
  return frame(Buffer.concat([ipv4Header('198.51.100.9', VIP, 1, message.length), message]));
}

const later = frame(Buffer.concat([ipv4Header('10.1.0.2', VIP, 17, 46, { fragment: 0xb9 }), Buffer.alloc(46)]));

const options = (path: PacketPath, number: number): void =>
  path.maps.handle.service_options.set(
    u32(number),
    ServiceOptions.encode({
      sourceMask: new Uint8Array(16).fill(255),
      rateIntervalNs: 1n,
      rateBurstNs: 1_000_000_000n,
      natMtu: 0,
    }),
    0,
  );

export const FEATURES: readonly Feature[] = [
  { name: 'gue4', frame: tcp4, flags: ServiceFlag.GUE, grown: 28 },
  {
    name: 'gue6', // with a checksum, derived from the inner one
    frame: tcp4,
    flags: ServiceFlag.GUE,
    grown: 48,
    prepare: async (path) => path.service(TCP_SERVICE, VIP, 80, 'tcp', IPV6_POOL, 0, ServiceFlag.GUE),
  },
  { name: 'l2', frame: tcp4, flags: ServiceFlag.L2, grown: 0 },
  { name: 'vlan', frame: tagged, flags: 0, grown: 16 },
  {
    name: 'deny_100k',
    frame: tcp4,
    flags: ServiceFlag.DENY,
    grown: 20,
    prepare: ({ maps }) => addSources(maps, listNumber(TCP_SERVICE, true), LIST),
  },
  {
    name: 'allow_100k',
    frame: tcp4,
    flags: ServiceFlag.ALLOW,
    grown: 20,
    prepare: ({ maps }) => addSources(maps, listNumber(TCP_SERVICE, false), [...LIST, '10.1.0.0/24']),
  },
  {
    name: 'rate_limit',
    frame: tcp4,
    flags: ServiceFlag.RATE,
    grown: 20,
    prepare: async (path) => options(path, TCP_SERVICE),
  },
  {
    name: 'source_known', // the flow decides, after the long way
    frame: tcp4,
    flags: ServiceFlag.SOURCE,
    grown: 20,
    prepare: async (path) => options(path, TCP_SERVICE),
  },
  {
    name: 'source_ring', // as on a miss: the ring decides for each packet
    frame: tcp4,
    flags: ServiceFlag.SOURCE | ServiceFlag.STATELESS,
    grown: 20,
    prepare: async (path) => options(path, TCP_SERVICE),
  },
  {
    name: 'quic_short',
    frame: quicShort,
    flags: ServiceFlag.QUIC,
    grown: 20,
    prepare: async ({ maps }) => {
      const length = Uint8Array.of(2, 0, 0, 0, 0, 0, 0, 0);
      maps.handle.quic_lengths.set(u32(1), QuicLengths.encode({ length }), 0);
      const id = Uint8Array.of(0xaa, 1, ...new Uint8Array(14));
      maps.handle.quic_servers.set(QuicKey.encode({ pool: 1, config: 0, length: 2, id }), u32(3), 0);
    },
  },
  {
    name: 'icmp_error',
    frame: icmpError(),
    flags: 0,
    grown: 20,
    prepare: async ({ program }) => void program.run(packet({ ...TCP4, flags: TCP.SYN }), null),
  },
  {
    name: 'fragment',
    frame: later,
    flags: 0,
    grown: 20,
    prepare: async ({ maps }) => {
      const key = { address: addressField(VIP), port: 0, protocol: 17, family: 4, kind: KeyKind.FRAGMENTS };
      writeService(maps, key, { number: UDP_SERVICE, pool: 1, countersStart: 16, flags: 0 });
    },
  },
];
