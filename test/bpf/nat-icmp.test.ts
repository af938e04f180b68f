// SPDX-License-Identifier: Apache-2.0
// ICMP errors through tc_nat, with quotes of every length: what is to leave quotes what the receiver had sent.
import { after, before, test } from 'node:test';
import {
  BACKEND,
  BACKEND_PORT,
  becomes,
  begin,
  CLIENT,
  FAMILIES,
  type Family,
  NEAR_BACKEND,
  NEAR_CLIENT,
  SOURCE,
  TO_BACKEND,
  TO_CLIENT,
  turned,
  untouched,
  VIP,
} from '../support/nat-ends.js';
import { type NatPath, openNatPath } from '../support/nat-path.js';
import { pinTo } from '../support/packet-run.js';
import { icmpFrame, packet } from '../support/packets.js';

/** Type, code and the word behind the checksum. */
const ERRORS = {
  4: [
    [3, 4, 1400],
    [3, 1, 0],
    [3, 3, 0],
    [11, 0, 0],
    [12, 0, 0x14000000],
  ],
  6: [
    [2, 0, 1400],
    [1, 0, 0],
    [1, 4, 0],
    [3, 0, 0],
    [4, 0, 40],
  ],
} as const;
let path: NatPath;
before(async () => {
  pinTo(0);
  path = await openNatPath();
  for (const family of FAMILIES) {
    path.backend(family, BACKEND[family], family, 1, { port: BACKEND_PORT });
    path.ring(family, family * 1000, new Uint16Array(251).fill(family));
    path.pool(family, [SOURCE[family]]);
    path.nat(family, VIP[family], 80, 'tcp', family, family);
    path.nat(10 + family, VIP[family], 80, 'udp', family, family);
    path.nat(20 + family, VIP[family], 81, 'tcp', family, 0);
  }
});
after(() => path?.close());

/** A connection: the IP packets of each way on each side of the node. */
function connection(family: Family, protocol: 'tcp' | 'udp', vipPort = 80) {
  const { outside, inside } = begin(path, { outside: family, inside: family }, protocol, vipPort);
  const bytes = (ends: typeof outside): Buffer => packet({ ...ends, protocol, payload: 11 }).subarray(14);
  return {
    source: inside.from,
    request: { outside: bytes(outside), inside: bytes(inside) },
    reply: { outside: bytes(turned(outside)), inside: bytes(turned(inside)) },
  };
}

/** What the first bytes of `from` are to be: those of `to`; half a checksum cannot be told and stays. */
function quoted(from: Buffer, to: Buffer, size: number): Buffer {
  const quote = Buffer.from(to.subarray(0, size));
  const half = ((to[0] ?? 0) >> 4 === 4 ? 20 : 40) + 17;
  if (size === half && to.readUInt8((to[0] ?? 0) >> 4 === 4 ? 9 : 6) === 6) from.copy(quote, size - 1, size - 1, size);
  return quote;
}

for (const family of FAMILIES)
  for (const protocol of ['tcp', 'udp'] as const)
    for (const vipPort of protocol === 'tcp' ? [80, 81] : [80]) {
      const kind = `IPv${family} ${protocol}${vipPort === 81 ? ', sources stay' : ''}`;
      const least = (family === 4 ? 20 : 40) + 8;

      test(`nat: ${kind}: an error on the way to the backend reaches the client, about what it sent`, () => {
        const { source, request } = connection(family, protocol, vipPort);
        for (const error of ERRORS[family])
          for (const [from, seen] of [
            [NEAR_BACKEND[family], NEAR_BACKEND[family]],
            [BACKEND[family], VIP[family]],
          ] as const)
            for (let size = least; size <= request.inside.length; size++)
              becomes(
                path,
                icmpFrame(from, source, error, request.inside.subarray(0, size)),
                icmpFrame(seen, CLIENT[family], error, quoted(request.inside, request.outside, size)),
                TO_CLIENT,
                `${error} from ${from}, ${size} bytes quoted`,
              );
      });

      test(`nat: ${kind}: an error on the way to the client reaches the backend, about what it sent`, () => {
        const { source, reply } = connection(family, protocol, vipPort);
        for (const error of ERRORS[family])
          for (const from of [NEAR_CLIENT[family], CLIENT[family]]) {
            const seen = vipPort === 81 ? from : source;
            for (let size = least; size <= reply.outside.length; size++)
              becomes(
                path,
                icmpFrame(from, VIP[family], error, reply.outside.subarray(0, size)),
                icmpFrame(seen, BACKEND[family], error, quoted(reply.outside, reply.inside, size)),
                TO_BACKEND,
                `${error} from ${from}, ${size} bytes quoted`,
              );
          }
      });

      test(`nat: ${kind}: an error about nothing of ours, or that quotes too little, is not touched`, () => {
        const { source, request } = connection(family, protocol, vipPort);
        const stranger = Buffer.from(request.inside);
        stranger.writeUInt16BE(7, least - 8);
        const [error] = ERRORS[family];
        const inputs = [icmpFrame(NEAR_BACKEND[family], source, error, stranger)];
        for (let size = 0; size < least; size++)
          inputs.push(icmpFrame(NEAR_BACKEND[family], source, error, request.inside.subarray(0, size)));
        inputs.push(icmpFrame(NEAR_BACKEND[family], source, family === 4 ? [8, 0, 0] : [128, 0, 0], request.inside));
        for (const input of inputs) untouched(path, input);
      });
    }
