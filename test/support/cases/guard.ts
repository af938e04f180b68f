// SPDX-License-Identifier: Apache-2.0
// docs/packet-path.md, step 8: lists in both families, their order, and a rate with a burst.
import { Reason, ServiceFlag } from '../../../src/dataplane/abi.gen.js';
import { addSources, listNumber } from '../../../src/dataplane/sources.js';
import type { PacketPath } from '../packet-path.js';
import { b4, b6, client, declare, one, type PacketCase, setOptions } from './table.js';

const V4 = '192.0.2.33';
const V6 = '2001:db8::33';
const { DENY, ALLOW, RATE } = ServiceFlag;
const [BOTH4, BOTH6, ALL4, NONE6] = [94, 95, 96, 97] as const;
const portOf = (service: number): number => 47000 + service;
const BURST = 4;
const HOUR = 3_600_000_000_000n;

export function prepareGuard(path: PacketPath): void {
  const put = (number: number, address: string, flags: number): void => {
    const member = { address: address === V6 ? b6(number) : b4(number) };
    declare(path, { number, address, port: portOf(number), flags, members: [member] });
  };
  put(BOTH4, V4, DENY | ALLOW);
  put(BOTH6, V6, DENY | ALLOW);
  put(ALL4, V4, DENY | ALLOW | RATE);
  put(NONE6, V6, ALLOW); // its allow list is empty
  for (const number of [BOTH4, ALL4]) {
    void addSources(path.maps, listNumber(number, false), ['198.51.0.0/16', '203.0.113.128/25']);
    void addSources(path.maps, listNumber(number, true), ['198.51.100.0/24', '203.0.113.200/32', '192.0.2.0/24']);
  }
  void addSources(path.maps, listNumber(BOTH6, false), ['2001:db8:1::/48', '2001:db8:2::1/128']);
  void addSources(path.maps, listNumber(BOTH6, true), ['2001:db8:1:ffff::/64']);
  setOptions(path, ALL4, { rateIntervalNs: HOUR, rateBurstNs: HOUR * BigInt(BURST) });
}

function from(source: string, service: number, reason: number): PacketCase {
  const packet = client(service === BOTH6 || service === NONE6 ? V6 : V4, portOf(service), { from: source });
  const to = service === BOTH6 ? b6(service) : b4(service);
  return one(
    `service ${service} from ${source}`,
    reason,
    packet,
    reason === Reason.FORWARDED ? { service, to } : { service },
  );
}

const { FORWARDED, DENIED, NOT_ALLOWED, RATE_LIMITED } = Reason;
const named = (name: string, it: PacketCase): PacketCase => ({ ...it, name });

export const guard: readonly PacketCase[] = [
  from('198.51.99.255', BOTH4, FORWARDED),
  from('198.51.100.0', BOTH4, DENIED),
  from('198.51.100.255', BOTH4, DENIED),
  from('198.51.101.0', BOTH4, FORWARDED),
  from('203.0.113.127', BOTH4, NOT_ALLOWED),
  from('203.0.113.128', BOTH4, FORWARDED),
  from('203.0.113.199', BOTH4, FORWARDED),
  from('203.0.113.200', BOTH4, DENIED),
  named('on the deny list only', from('192.0.2.77', BOTH4, DENIED)),
  from('2001:db8:1::1', BOTH6, FORWARDED),
  from('2001:db8:1:fffe:ffff:ffff:ffff:ffff', BOTH6, FORWARDED),
  from('2001:db8:1:ffff::1', BOTH6, DENIED),
  from('2001:db8:2::1', BOTH6, FORWARDED),
  from('2001:db8:2::2', BOTH6, NOT_ALLOWED),
  named('an empty allow list', from('2001:db8:1::1', NONE6, NOT_ALLOWED)),
  // What is refused uses nothing up, and each source has its own.
  ...[1, 2, 3, 4].flatMap((count) => [
    named(`packet ${count} of a burst of four`, from('203.0.113.150', ALL4, FORWARDED)),
    named(`denied between packets of a burst, ${count}`, from('203.0.113.200', ALL4, DENIED)),
  ]),
  ...[5, 6].map((count) => named(`packet ${count} of a burst of four`, from('203.0.113.150', ALL4, RATE_LIMITED))),
  named('another source after the burst', from('203.0.113.151', ALL4, FORWARDED)),
  named('the denied source still is', from('203.0.113.200', ALL4, DENIED)),
];
