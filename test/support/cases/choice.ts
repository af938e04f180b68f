// SPDX-License-Identifier: Apache-2.0
// docs/packet-path.md, "Choice": any-port and stateless services, and affinity to the source.
import { Reason, ServiceFlag } from '../../../src/dataplane/abi.gen.js';
import { parseAddress } from '../../../src/model/address.js';
import { sipHash13 } from '../../../src/ring/index.js';
import { type PacketPath, TEST_CONFIG } from '../packet-path.js';
import { type PacketSpec, TCP } from '../packets.js';
import { aim, b4, b6, client, declare, memberOf, one, type PacketCase, setOptions, spread } from './table.js';

const V4 = '192.0.2.38';
const V6 = '2001:db8::38';
const [ANY4, EXACT4, ANY6, SOURCE4, SOURCE6, STATELESS4, PLAIN4] = [110, 111, 112, 113, 114, 115, 116] as const;
const MEMBERS = 5;
const PORT = 47200;
const MASKS = { [SOURCE4]: 20, [SOURCE6]: 56 } as const;

export function prepareChoice(path: PacketPath): void {
  const put = (number: number, address: string, port: number, more = {}): void => {
    const to = address === V6 ? b6 : b4;
    const members = Array.from({ length: MEMBERS }, (_, at) => ({ address: to(number, at + 1) }));
    declare(path, { number, address, port, members, ...more });
    spread(path, number, MEMBERS);
  };
  put(ANY4, V4, 0);
  put(EXACT4, V4, 443);
  put(ANY6, V6, 0, { protocol: 'udp' });
  put(SOURCE4, V4, PORT, { flags: ServiceFlag.SOURCE });
  put(SOURCE6, V6, PORT, { flags: ServiceFlag.SOURCE });
  put(STATELESS4, V4, PORT + 1, { flags: ServiceFlag.STATELESS });
  put(PLAIN4, V4, PORT + 2);
  for (const service of [SOURCE4, SOURCE6] as const) {
    const sourceMask = Uint8Array.from({ length: 16 }, (_, at) => masked(0xff, MASKS[service], at));
    setOptions(path, service, { sourceMask });
  }
}

/** What a prefix of `bits` leaves of byte `at` of an address. */
const masked = (byte: number, bits: number, at: number): number =>
  byte & (0xff00 >> Math.min(8, Math.max(0, bits - at * 8))) & 0xff;

/** The member whose row a packet hashes to: the bytes are those docs/packet-path.md names. */
function ringMember(spec: PacketSpec): number {
  const ports = Buffer.alloc(5);
  ports.writeUInt16BE(spec.fromPort, 0);
  ports.writeUInt16BE(spec.toPort, 2);
  ports.writeUInt8(spec.protocol === 'tcp' ? 6 : 17, 4);
  const key = Buffer.concat([parseAddress(spec.from).bytes, parseAddress(spec.to).bytes, ports]);
  return memberOf(sipHash13(TEST_CONFIG.ringKey, key), MEMBERS);
}
const sourceMember = (from: string, bits: number): number =>
  memberOf(
    sipHash13(
      TEST_CONFIG.ringKey,
      parseAddress(from).bytes.map((byte, at) => masked(byte, bits, at)),
    ),
    MEMBERS,
  );

const specOf = (to: string, toPort: number, more: Partial<PacketSpec> = {}): PacketSpec => ({
  from: to === V6 ? '2001:db8:1::7' : '203.0.113.7',
  to,
  fromPort: 40000,
  toPort,
  protocol: 'tcp',
  ...more,
});
function byRing(name: string, service: number, spec: PacketSpec): PacketCase {
  const to = (spec.to === V6 ? b6 : b4)(service, ringMember(spec));
  return one(name, Reason.FORWARDED, client(spec.to, spec.toPort, spec), { to, service });
}

const UDP = { protocol: 'udp' } as const;
const anyPort = [
  ...[1, 80, 444, 65535, 0].map((port) => byRing(`any port: TCP to port ${port}`, ANY4, specOf(V4, port))),
  ...[0, 53, 443, 65535].map((port) => byRing(`any port: UDP to port ${port}`, ANY6, specOf(V6, port, UDP))),
  byRing('any port: the exact service comes first', EXACT4, specOf(V4, 443)),
  one('any port: of another protocol', Reason.NOT_OURS, client(V4, 80, UDP)),
  one('any port: of another protocol, IPv6', Reason.NOT_OURS, client(V6, 80)),
  ...Array.from({ length: 12 }, (_, at) =>
    byRing(`the ring, flow ${at}`, PLAIN4, specOf(V4, PORT + 2, { fromPort: 1000 + at, flags: TCP.SYN })),
  ),
];

const SOURCES4 = [
  '203.0.112.0',
  '203.0.113.7',
  '203.0.127.255',
  '203.0.128.0',
  '198.51.100.1',
  '10.0.15.255',
  '10.0.16.0',
];
const SOURCES6 = [
  '2001:db8:1::1',
  '2001:db8:1:ff::9',
  '2001:db8:1:100::',
  '2001:db8:2::1',
  '2001:db8:3::1',
  '2001:db8:4::1',
];
const source = ([SOURCE4, SOURCE6] as const).flatMap((service) =>
  (service === SOURCE4 ? SOURCES4 : SOURCES6).flatMap((from) =>
    [1, 2, 3].map((fromPort) => {
      const [vip, to] = service === SOURCE4 ? [V4, b4] : [V6, b6];
      const packet = client(vip, PORT, { from, fromPort, flags: TCP.SYN });
      const more = { to: to(service, sourceMember(from, MASKS[service])), service, begins: true };
      return one(`affinity to the source ${from}, port ${fromPort}`, Reason.FORWARDED, packet, more);
    }),
  ),
);

const lone = { fromPort: 999 };
const stateless: PacketCase[] = [
  ...[1, 2, 3, 4].map((fromPort) => ({
    ...byRing(`stateless: flow ${fromPort}`, STATELESS4, specOf(V4, PORT + 1, { fromPort, flags: TCP.SYN })),
    begins: false,
  })),
  ...[3, 5, 1].map((slot) =>
    one(`stateless: the ring alone decides, ${slot}`, Reason.FORWARDED, client(V4, PORT + 1, lone), {
      to: b4(STATELESS4, slot),
      service: STATELESS4,
      begins: false,
      state: (path) => aim(path, STATELESS4, slot),
    }),
  ),
];

export const choice: readonly PacketCase[] = [...anyPort, ...source, ...stateless];
