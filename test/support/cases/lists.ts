// SPDX-License-Identifier: Apache-2.0
// Services that refuse some packets, or do more than count and forward.
import { Reason, ServiceFlag, ServiceOptions } from '../../../src/dataplane/abi.gen.js';
import { addSources, listNumber } from '../../../src/dataplane/sources.js';
import type { PacketPath } from '../packet-path.js';
import { type PacketSpec, packet } from '../packets.js';
import type { PacketCase } from './table.js';

const VIP = '192.0.2.11';
const DENY = 20;
const ALLOW = 21;
const RATE = 22;

export function prepareLists(path: PacketPath): void {
  path.service(DENY, VIP, 80, 'tcp', 1, 40, ServiceFlag.DENY);
  path.service(ALLOW, VIP, 81, 'tcp', 1, 44, ServiceFlag.ALLOW);
  path.service(RATE, VIP, 82, 'tcp', 1, 48, ServiceFlag.RATE);
  void addSources(path.maps, listNumber(DENY, true), ['203.0.113.0/24', '203.0.114.7/32']);
  void addSources(path.maps, listNumber(ALLOW, false), ['198.51.100.0/24']);
  const options = {
    sourceMask: new Uint8Array(16),
    rateIntervalNs: 3_600_000_000_000n,
    rateBurstNs: 7_200_000_000_000n,
    natMtu: 0,
  };
  const key = new Uint8Array(Uint32Array.of(RATE).buffer);
  path.maps.handle.service_options.set(key, ServiceOptions.encode(options), 0);
}

const tcp = (toPort: number, from: string, more: Partial<PacketSpec> = {}): Buffer =>
  packet({ from, to: VIP, fromPort: 40000, toPort, protocol: 'tcp', ...more });
const B4 = { to: '10.9.0.21', action: 'tx', reason: Reason.FORWARDED } as const;
const limited = tcp(82, '203.0.113.9');

export const lists: readonly PacketCase[] = [
  {
    name: 'a source on the deny list',
    packet: tcp(80, '203.0.113.7'),
    action: 'drop',
    reason: Reason.DENIED,
    service: DENY,
  },
  {
    name: 'one address on the deny list',
    packet: tcp(80, '203.0.114.7'),
    action: 'drop',
    reason: Reason.DENIED,
    service: DENY,
  },
  { name: 'the address beside it', packet: tcp(80, '203.0.114.8'), ...B4 },
  { name: 'a source on the allow list', packet: tcp(81, '198.51.100.200'), ...B4 },
  {
    name: 'a source that is not',
    packet: tcp(81, '198.51.101.1'),
    action: 'drop',
    reason: Reason.NOT_ALLOWED,
    service: ALLOW,
  },
  {
    name: 'the second packet of a burst of two',
    state: (path) => void path.program.run(limited, null),
    packet: limited,
    ...B4,
  },
  {
    name: 'the third packet of a burst of two',
    packet: limited,
    action: 'drop',
    reason: Reason.RATE_LIMITED,
    service: RATE,
  },
  { name: 'another source meanwhile', packet: tcp(82, '203.0.113.10'), ...B4 },
];
