// SPDX-License-Identifier: Apache-2.0
// docs/packet-path.md, "ICMP to a VIP": echo. Errors are in errors.ts; budgets need programs of their own, see packets.test.ts.
import { Reason } from '../../../src/dataplane/abi.gen.js';
import { icmpMessage, ipFrame, tags, withTags } from '../packets.js';
import { CLIENT4, CLIENT6, one, type PacketCase, padded, patched, turnedMacs, VIP4, VIP6 } from './table.js';

type Shape = (whole: Buffer) => Buffer;

function echo(v6: boolean, type: number, from: string, to: string, size: number, ttl: number): Buffer {
  const message = icmpMessage(from, to, type, 0, Buffer.alloc(4 + size, 0x42));
  return ipFrame(from, to, v6 ? 58 : 1, message, { tos: 0xb9, ttl, options: v6 ? 0 : size % 3 });
}

/** A request, and its answer in the same shape. */
function echoCase(name: string, v6: boolean, size: number, shape: Shape = (whole) => whole, ttl = 64): PacketCase {
  const [from, to] = v6 ? [CLIENT6, VIP6] : [CLIENT4, VIP4];
  const request = shape(echo(v6, v6 ? 128 : 8, from, to, size, ttl));
  const answer = shape(echo(v6, v6 ? 129 : 0, to, from, size, 64));
  const out = Buffer.concat([turnedMacs(request), answer.subarray(12)]);
  return one(`IPv${v6 ? 6 : 4} echo ${name}`, Reason.ECHO_ANSWERED, request, { out });
}

const TAGS = tags([0x88a8, 0x2007], [0x8100, 0xe123]);
/** A wrong checksum stays as wrong as it was: in the answer too, this byte is the right one plus 7. */
const wrong =
  (at: number): Shape =>
  (whole) =>
    patched(whole, at, whole.readUInt8(at) + 7);

const echoes = [false, true].flatMap((v6) => [
  ...[0, 1, 56, 1399].map((size) => echoCase(`of ${size} bytes`, v6, size)),
  ...[1, 63, 255].map((ttl) => echoCase(`with TTL ${ttl}`, v6, 30, undefined, ttl)),
  echoCase('behind two tags', v6, 57, (whole) => withTags(whole, TAGS)),
  echoCase('with padding', v6, 3, (whole) => padded(whole, 10)),
  echoCase('with a wrong checksum', v6, 30, wrong(v6 ? 57 : 37)),
]);

const icmp4 = (type: number, code = 0): Buffer =>
  ipFrame(CLIENT4, VIP4, 1, icmpMessage(CLIENT4, VIP4, type, code, Buffer.alloc(28)));
const icmp6 = (type: number, code = 0): Buffer =>
  ipFrame(CLIENT6, VIP6, 58, icmpMessage(CLIENT6, VIP6, type, code, Buffer.alloc(28)));

const others = [
  ...[4, 5, 9, 10, 14, 17, 42].map((type) => one(`ICMP type ${type}`, Reason.NOT_OURS, icmp4(type))),
  ...[0, 5, 127, 129, 133, 134, 135, 136, 137].map((type) => one(`ICMPv6 type ${type}`, Reason.NOT_OURS, icmp6(type))),
  one('an echo request with code 1', Reason.NOT_OURS, icmp4(8, 1)),
  one('an ICMPv6 echo request with code 1', Reason.NOT_OURS, icmp6(128, 1)),
  one('ICMPv6 in IPv4', Reason.NOT_OURS, ipFrame(CLIENT4, VIP4, 58, Buffer.alloc(32, 128))),
  one('ICMP for IPv4 in IPv6', Reason.NOT_OURS, ipFrame(CLIENT6, VIP6, 1, Buffer.alloc(32, 8))),
  one('ICMPv6 of 7 bytes', Reason.MALFORMED, ipFrame(CLIENT6, VIP6, 58, Buffer.alloc(7, 128))),
  one('ICMP without payload', Reason.MALFORMED, ipFrame(CLIENT4, VIP4, 1, Buffer.alloc(0))),
];

export const icmp: readonly PacketCase[] = [...echoes, ...others];
