// SPDX-License-Identifier: Apache-2.0
// Frames in several buffers through tunnels that are wide enough: the program's tunnel.mtu has to be JUMBO_MTU.
import { Reason, ServiceFlag } from '../../../src/dataplane/abi.gen.js';
import type { PacketPath } from '../packet-path.js';
import { type PacketSpec, tags, withTags } from '../packets.js';
import { b4, b6, client, declare, type More, one, type PacketCase, padded } from './table.js';

export const JUMBO_MTU = 9000;
const V4 = '192.0.2.40';
const V6 = '2001:db8::40';

/** A service for each form, outer family and inner family; UDP, for its checksum may be missing. */
const LEGS = [V4, V6].flatMap((vip, at) =>
  [false, true].flatMap((outer6, by) =>
    [false, true].map((gue, of) => ({ vip, outer6, gue, number: 30 + at * 4 + by * 2 + of })),
  ),
);

export function prepareJumbo(path: PacketPath): void {
  for (const { vip, outer6, gue, number } of LEGS) {
    for (const protocol of ['tcp', 'udp'] as const) {
      const service = number + (protocol === 'udp' ? 10 : 0);
      const members = [{ address: outer6 ? b6(service) : b4(service), mtu: JUMBO_MTU }];
      const flags = gue ? ServiceFlag.GUE : 0;
      declare(path, { number: service, address: vip, port: 47000 + number, protocol, flags, members });
    }
  }
}

export const jumbo: readonly PacketCase[] = LEGS.flatMap(({ vip, outer6, gue, number }) => {
  const [v6, fits] = [vip === V6, JUMBO_MTU - (outer6 ? 40 : 20) - (gue ? 8 : 0)];
  const name = `a jumbo frame, ${gue ? 'GUE ' : ''}${v6 ? 6 : 4}in${outer6 ? 6 : 4}`;
  const sent = (what: string, more: Partial<PacketSpec>, shape = (whole: Buffer) => whole): PacketCase => {
    const service = number + (more.protocol === 'udp' ? 10 : 0);
    const packet = shape(client(vip, 47000 + number, { fromPort: 30000 + (more.payload ?? 0), ...more }));
    const way: More = { to: outer6 ? b6(service) : b4(service), service, ...(gue && { form: 'gue' }) };
    return one(`${name}: ${what}`, Reason.FORWARDED, packet, way);
  };
  const headers = (v6 ? 40 : 20) + 20;
  return [
    ...[3460, 3520, 5001, 8191].map((payload) => sent(`TCP with ${payload} bytes`, { payload })),
    sent('as long as fits', { payload: fits - headers }),
    ...[3467, 3500, 5001, 8191, fits - headers + 12].map((payload) =>
      sent(`UDP of ${payload} bytes without a checksum`, { payload, protocol: 'udp', unsummed: true }),
    ),
    sent('padding', { payload: 5000 }, (whole) => padded(whole, 33)),
    sent('behind tags', { payload: 5002 }, (whole) => withTags(whole, tags([0x88a8, 1], [0x8100, 2]))),
  ];
});
