// SPDX-License-Identifier: Apache-2.0
// ICMP errors about packets of flows: from who got them, or from a router on the way.
import type { Random } from '../fuzz/random.js';
import { frame, icmpMessage, ipv4Header, ipv6Header } from '../support/packets.js';
import { endsOf, type Flow, hopsOf, otherSide, type Packet } from './flow.js';
import { type Family, macsOf, ROUTER, type WorldName } from './world.js';

/** Type, code, and the word behind the checksum. Without what would change a kernel's own idea of the path. */
const ERRORS: Readonly<Record<Family, readonly (readonly [type: number, code: number, word: number])[]>> = {
  4: [
    ...[0, 1, 2, 3, 9, 10, 13].map((code) => [3, code, 0] as const),
    ...[[3, 4, 1_400] as const, [11, 0, 0] as const, [11, 1, 0] as const, [12, 0, 0x14000000] as const],
  ],
  6: [
    ...[0, 1, 3, 4].map((code) => [1, code, 0] as const),
    ...[[2, 0, 1_400] as const, [3, 0, 0] as const, [3, 1, 0] as const, [4, 0, 40] as const, [4, 1, 6] as const],
  ],
};

/** An error sent by the side that packets of `1 - way` have arrived at; null: none has. */
export function errorOf(random: Random, id: number, flow: Flow, way: 0 | 1): Packet | null {
  const { family, near } = flow;
  const side = way === 0 ? near : otherSide(near);
  // A connection that is over may be forgotten.
  if (flow.protocol === 'tcp' && (flow.tcp === 'closed' || (flow.tcp === 'asked' && way === 0))) return null;
  if (flow.last.size < 2 || !['fairlead', 'nftables'].every((world) => flow.last.has(`${world} ${side}`))) return null;
  const [type, code, rest] = random.pick(ERRORS[family]);
  const byRouter = random.once(2);
  const share = random.pick([0, 9 + random.below(3), random.below(40), 600]);
  const ttl = 2 + random.below(250);
  const tos = random.below(256);
  return {
    ...{ id, flow, way, begins: false, stray: false },
    what: `error by ${byRouter ? 'router' : 'end'}`,
    frames(world: WorldName) {
      const about = flow.last.get(`${world} ${side}`);
      const ends = endsOf(flow, way, world);
      if (!about || !ends) return [];
      const header = family === 6 ? 40 : (about.readUInt8(0) & 15) * 4;
      const quote = about.subarray(0, Math.min(about.length, header + 8 + share));
      const from = byRouter ? ROUTER[side][family] : ends.from.address;
      const word = Buffer.alloc(4);
      word.writeUInt32BE(rest, 0);
      const message = icmpMessage(from, ends.to.address, type, code, Buffer.concat([word, quote]));
      const hops = ttl + hopsOf(world, flow) - hopsOf('fairlead', flow);
      const ip =
        family === 6
          ? ipv6Header(from, ends.to.address, 58, message.length, { trafficClass: tos, flowLabel: id, hopLimit: hops })
          : ipv4Header(from, ends.to.address, 1, message.length, { tos, ttl: hops, id, df: false });
      return [frame(Buffer.concat([ip, message]), macsOf(side))];
    },
  };
}
