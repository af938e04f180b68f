// SPDX-License-Identifier: Apache-2.0
// What becomes of a frame, by docs/packet-path.md. Changes `world` as the packet path changes its tables.
import { Reason, ServiceFlag } from '../../src/dataplane/abi.gen.js';
import { choose, findService, guard } from './choose.js';
import { firstFragment, laterFragment, remember } from './fragments.js';
import { icmp } from './icmp.js';
import { leaveToNat, send } from './outer.js';
import { isFirst, parse, TCP, UDP } from './parse.js';
import type { ReasonNumber, Verdict, World } from './world.js';

/** `linear`: bytes in the frame's first buffer. */
export function model(world: World, frame: Buffer, linear = frame.length): Verdict {
  const ends = (reason: ReasonNumber, service = 0): Verdict => ({ reason, service, tallies: [], out: frame, open: [] });
  const packet = parse(frame, linear, (address) => world.vips.has(address.toString('latin1')));
  if (typeof packet === 'number') return ends(packet);
  if (packet.protocol !== TCP && packet.protocol !== UDP) return icmp(world, packet);
  if (!isFirst(packet)) return laterFragment(world, packet, frame);
  const service = findService(world, packet.to, packet.toPort, packet.protocol);
  if (service === null) return ends(Reason.NOT_OURS);
  const refused = guard(service, packet.from);
  if (refused !== null) return ends(refused, service.number);
  if ((service.flags & ServiceFlag.NAT) !== 0) {
    if (packet.fragment) remember(world, packet, { service, backend: 0, early: false });
    return leaveToNat(service, packet);
  }
  const own = choose(world, service, packet);
  const choice = packet.fragment ? firstFragment(world, service, packet, own) : own;
  const { backend, tallies } = choice;
  const verdict =
    backend === null
      ? { ...ends(Reason.NO_BACKEND, service.number), of: service.number, tallies }
      : send(world, service, backend, packet, packet.fragment ? null : packet, tallies, own.others);
  return own.begun && verdict.counted ? { ...verdict, connection: verdict.counted.index } : verdict;
}
