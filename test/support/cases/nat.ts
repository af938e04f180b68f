// SPDX-License-Identifier: Apache-2.0
// Services in NAT mode: XDP leaves their packets as they came (nat-xdp.test.ts has the ones that do not fit).
import { Reason, ServiceFlag } from '../../../src/dataplane/abi.gen.js';
import type { PacketPath } from '../packet-path.js';
import { frame, ipv4Header } from '../packets.js';
import { b4, b6, CLIENT4, client, declare, one, type PacketCase } from './table.js';

const NAT4 = '192.0.2.70';
const NAT6 = '2001:db8::70';

/** Fills the tables the cases are written for. */
export function prepareNat(path: PacketPath): void {
  declare(path, {
    number: 140,
    address: NAT4,
    port: 80,
    flags: ServiceFlag.NAT,
    members: [{ address: b4(140) }],
    alone: true,
  });
  declare(path, { number: 141, address: NAT6, port: 80, flags: ServiceFlag.NAT, members: [{ address: b6(141) }] });
}

export const nat: readonly PacketCase[] = [
  one('a packet for a service in NAT mode', Reason.NAT, client(NAT4, 80)),
  one('the same over IPv6', Reason.NAT, client(NAT6, 80)),
  one(
    'a fragment for a service in NAT mode',
    Reason.NAT,
    frame(Buffer.concat([ipv4Header(CLIENT4, NAT4, 6, 40, { fragment: 0xb9 }), Buffer.alloc(40)])),
  ),
];
