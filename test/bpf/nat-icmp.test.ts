// SPDX-License-Identifier: Apache-2.0
// ICMP errors through tc_nat, with quotes of every length: what is to leave quotes what the receiver had sent.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { formatAddress, parseAddress } from '../../src/model/address.js';
import { type NatPath, openNatPath, TC } from '../support/nat-path.js';
import { NEXT_HOP_MAC, SOURCE_MAC } from '../support/packet-path.js';
import { pinTo } from '../support/packet-run.js';
import { checksum, frame, ipv4Header, ipv6Header, packet, TCP } from '../support/packets.js';

type Family = 4 | 6;
const CLIENT = { 4: '203.0.113.7', 6: '2001:db8:1::7' } as const;
const VIP = { 4: '192.0.2.10', 6: '2001:db8::10' } as const;
const BACKEND = { 4: '10.9.0.21', 6: 'fd00:9::21' } as const;
const SOURCE = { 4: '10.9.0.10', 6: 'fd00:9::10' } as const;
const NEAR_BACKEND = { 4: '10.8.0.1', 6: 'fd00:8::1' } as const;
const NEAR_CLIENT = { 4: '203.0.113.1', 6: '2001:db8:1::1' } as const;
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
const TOWARDS_CLIENT = [Buffer.from('020000000002', 'hex'), Buffer.from('020000000001', 'hex')] as const;
const TOWARDS_BACKEND = [NEXT_HOP_MAC, SOURCE_MAC] as const;

let path: NatPath;
let ports = 30_000;
before(async () => {
  pinTo(0);
  path = await openNatPath();
  for (const family of [4, 6] as const) {
    path.backend(family, BACKEND[family], family, 1, { port: 8080 });
    path.ring(family, family * 1000, new Uint16Array(251).fill(family));
    path.pool(family, [SOURCE[family]]);
    path.nat(family, VIP[family], 80, 'tcp', family, family);
    path.nat(10 + family, VIP[family], 80, 'udp', family, family);
    path.nat(20 + family, VIP[family], 81, 'tcp', family, 0);
  }
});
after(() => path?.close());

function icmp(
  family: Family,
  from: string,
  to: string,
  [type, code, rest]: readonly [number, number, number],
  quote: Buffer,
): Buffer {
  const body = Buffer.concat([Buffer.of(type, code, 0, 0, 0, 0, 0, 0), quote]);
  body.writeUInt32BE(rest, 4);
  if (family === 4) {
    body.writeUInt16BE(checksum(body), 2);
    return frame(Buffer.concat([ipv4Header(from, to, 1, body.length), body]));
  }
  const pseudo = Buffer.alloc(8);
  pseudo.writeUInt32BE(body.length, 0);
  pseudo.writeUInt8(58, 7);
  body.writeUInt16BE(checksum(Buffer.concat([parseAddress(from).bytes, parseAddress(to).bytes, pseudo, body])), 2);
  return frame(Buffer.concat([ipv6Header(from, to, 58, body.length), body]));
}

interface Ends {
  readonly from: string;
  readonly to: string;
  readonly fromPort: number;
  readonly toPort: number;
}

/** A connection: the packets of each way on each side of the node. */
function connection(family: Family, protocol: 'tcp' | 'udp', vipPort = 80) {
  const client = ports++;
  const outside: Ends = { from: CLIENT[family], to: VIP[family], fromPort: client, toPort: vipPort };
  assert.equal(path.run(packet({ ...outside, protocol, flags: TCP.SYN })).retval, TC.REDIRECT);
  const nat = path.connections().find((each) => each.clientPort === client) ?? assert.fail();
  const source = formatAddress(nat.source.subarray(0, family === 4 ? 4 : 16));
  const inside: Ends = { from: source, to: BACKEND[family], fromPort: nat.sourcePort, toPort: 8080 };
  const turned = ({ from, to, fromPort, toPort }: Ends): Ends => ({
    from: to,
    to: from,
    fromPort: toPort,
    toPort: fromPort,
  });
  const bytes = (ends: Ends): Buffer => packet({ ...ends, protocol, payload: 11 }).subarray(14);
  return {
    source,
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

function becomes(came: Buffer, wanted: Buffer, macs: readonly [Uint8Array, Uint8Array], what: string): void {
  const run = path.run(came);
  assert.equal(run.retval, TC.REDIRECT, what);
  assert.equal(
    Buffer.from(run.data).toString('hex'),
    Buffer.concat([...macs, wanted.subarray(12)]).toString('hex'),
    what,
  );
}

for (const family of [4, 6] as const)
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
                icmp(family, from, source, error, request.inside.subarray(0, size)),
                icmp(family, seen, CLIENT[family], error, quoted(request.inside, request.outside, size)),
                TOWARDS_CLIENT,
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
                icmp(family, from, VIP[family], error, reply.outside.subarray(0, size)),
                icmp(family, seen, BACKEND[family], error, quoted(reply.outside, reply.inside, size)),
                TOWARDS_BACKEND,
                `${error} from ${from}, ${size} bytes quoted`,
              );
          }
      });

      test(`nat: ${kind}: an error about nothing of ours, or that quotes too little, is not touched`, () => {
        const { source, request } = connection(family, protocol, vipPort);
        const stranger = Buffer.from(request.inside);
        stranger.writeUInt16BE(7, least - 8);
        const [error] = ERRORS[family];
        const inputs = [icmp(family, NEAR_BACKEND[family], source, error, stranger)];
        for (let size = 0; size < least; size++)
          inputs.push(icmp(family, NEAR_BACKEND[family], source, error, request.inside.subarray(0, size)));
        inputs.push(icmp(family, NEAR_BACKEND[family], source, family === 4 ? [8, 0, 0] : [128, 0, 0], request.inside));
        for (const input of inputs) {
          const run = path.run(input);
          assert.equal(run.retval >>> 0, TC.UNSPEC);
          assert.equal(Buffer.from(run.data).toString('hex'), input.toString('hex'));
        }
      });
    }
