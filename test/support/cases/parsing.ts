// SPDX-License-Identifier: Apache-2.0
// docs/packet-path.md, "What becomes of a packet", steps 1 to 6: extension headers, padding, and frames cut anywhere.
import { Reason, ServiceFlag } from '../../../src/dataplane/abi.gen.js';
import type { PacketPath } from '../packet-path.js';
import { ipFrame, tags, withTags } from '../packets.js';
import { b4, b6, CLIENT6, client, declare, type More, one, type PacketCase, padded, VIP4, VIP6 } from './table.js';

const V6 = '2001:db8::34';
const PLAIN = 98;
const GUE = 99;
const UDP = 100;
const portOf = (service: number): number => 47000 + service;

export function prepareParsing(path: PacketPath): void {
  const put = (number: number, to: string, more = {}): void =>
    declare(path, { number, address: V6, port: portOf(number), members: [{ address: to }], ...more });
  put(PLAIN, b4(PLAIN));
  put(GUE, b6(GUE), { flags: ServiceFlag.GUE });
  put(UDP, b6(UDP), { flags: ServiceFlag.GUE, protocol: 'udp' });
}

interface Header {
  readonly type: number;
  readonly bytes: Buffer; // its first is written by `chain`
}

const HOP = 0;
const ROUTING = 43;
const FRAGMENT = 44;
const AUTH = 51;
const OPTIONS = 60;

/** An extension header of `size` bytes; `left` segments of a route. */
function header(type: number, size = 8, left = 0): Header {
  const bytes = Buffer.alloc(size, type === FRAGMENT ? 0 : 1);
  bytes.writeUInt8(type === AUTH ? size / 4 - 2 : size / 8 - 1, 1);
  if (type === ROUTING) bytes.writeUInt8(left, 3);
  if (type === FRAGMENT) bytes.set([0, 0, 0, 0, 0, 0, 77], 1);
  return { type, bytes };
}

/** IPv6 to V6 with these headers in front of what `whole` carries. */
function chain(headers: readonly Header[], whole: Buffer, last = whole.readUInt8(20), to = V6): Buffer {
  const types = [...headers.map(({ type }) => type), last];
  const parts = headers.map(({ bytes }, at) => Buffer.concat([Buffer.of(types[at + 1] ?? last), bytes.subarray(1)]));
  return ipFrame(CLIENT6, to, types[0] ?? last, Buffer.concat([...parts, whole.subarray(54)]));
}

let fromPort = 26000;
const plain = (): Buffer => client(V6, portOf(PLAIN), { fromPort: ++fromPort, payload: 5 });
const to98: More = { to: b4(PLAIN), service: PLAIN };
const to99: More = { to: b6(GUE), service: GUE, form: 'gue' };
const to100: More = { to: b6(UDP), service: UDP, form: 'gue' };
const { FORWARDED, EXTENSION, MALFORMED, NOT_OURS, TRUNCATED, RUNT, NOT_IP } = Reason;

const EACH: Readonly<Record<string, readonly Header[]>> = {
  'hop-by-hop': [header(HOP)],
  'hop-by-hop of 24 bytes': [header(HOP, 24)],
  'a route that is at its end': [header(ROUTING, 24)],
  'destination options': [header(OPTIONS, 16)],
  'AH of 12 bytes': [header(AUTH, 12)],
  'AH of 24 bytes': [header(AUTH, 24)],
  'an atomic fragment': [header(FRAGMENT)],
  'an atomic fragment behind and before others': [header(HOP), header(FRAGMENT), header(OPTIONS)],
  'hop-by-hop that is not the first': [header(OPTIONS), header(HOP)],
  'six headers': [header(HOP), header(OPTIONS), header(ROUTING), header(FRAGMENT), header(AUTH, 12), header(OPTIONS)],
  'a header of 1,032 bytes': [header(OPTIONS, 1032)],
};

const extensions: PacketCase[] = Object.entries(EACH).flatMap(([name, headers]) => [
  one(name, FORWARDED, chain(headers, plain()), to98),
  one(`${name}, GUE`, FORWARDED, chain(headers, client(V6, portOf(GUE), { fromPort: ++fromPort, payload: 7 })), to99),
  one(
    `${name}, UDP in GUE`,
    FORWARDED,
    chain(headers, client(V6, portOf(UDP), { fromPort: ++fromPort, payload: 3, protocol: 'udp' })),
    to100,
  ),
  one(`${name}, padding`, FORWARDED, padded(chain(headers, plain()), 9), to98),
  one(`${name}, behind tags`, FORWARDED, withTags(chain(headers, plain()), tags([0x88a8, 1], [0x8100, 2])), to98),
  one(`${name}, to an address that is no VIP`, NOT_OURS, chain(headers, plain(), 6, '2001:db8:ffff::1')),
  one(`${name}, no next header`, NOT_OURS, chain(headers, plain(), 59)),
  one(`${name}, ESP`, NOT_OURS, chain(headers, plain(), 50)),
  one(`${name}, to another port`, NOT_OURS, chain(headers, client(V6, 9))),
  one(`${name}, TCP of 19 bytes`, MALFORMED, chain(headers, plain().subarray(0, 73), 6)),
  one(`${name}, nothing behind`, MALFORMED, chain(headers, Buffer.alloc(54), 6)),
  one(`${name}, cut before its end`, TRUNCATED, chain(headers, plain()).subarray(0, -1)),
]);

const seven = Array.from({ length: 7 }, () => header(OPTIONS));
const refused: PacketCase[] = [
  one('seven headers', EXTENSION, chain(seven, plain())),
  one('a seventh header that is a fragment', EXTENSION, chain([...seven.slice(1), header(FRAGMENT)], plain())),
  one('a route with one segment left', EXTENSION, chain([header(ROUTING, 24, 1)], plain())),
  one(
    'a route with segments left, behind others',
    EXTENSION,
    chain([header(HOP), header(OPTIONS), header(ROUTING, 24, 255)], plain()),
  ),
  one('two atomic fragments', MALFORMED, chain([header(FRAGMENT), header(FRAGMENT)], plain())),
  one(
    'a header beyond its packet',
    MALFORMED,
    chain([{ type: HOP, bytes: Buffer.from([0, 9, 0, 0, 0, 0, 0, 0]) }], plain()),
  ),
  one(
    'AH beyond its packet',
    MALFORMED,
    chain([{ type: AUTH, bytes: Buffer.from([0, 250, 0, 0, 0, 0, 0, 0]) }], plain()),
  ),
  one('half an extension header', MALFORMED, ipFrame(CLIENT6, V6, HOP, Buffer.of(6, 0, 0, 0, 0, 0, 0))),
];

/** To plain.ts's services: what a frame says that ends after each of its first bytes. */
const whole4 = client(VIP4, 80, { fromPort: 26999, payload: 8 });
const whole6 = client(VIP6, 80, { fromPort: 26999, payload: 8 });
const tagged = withTags(whole4, tags([0x88a8, 1], [0x8100, 2]));
const cut = (name: string, whole: Buffer, l3: number, header: number): PacketCase[] =>
  Array.from({ length: whole.length - 14 }, (_, at) => 14 + at).map((size) =>
    one(
      `${name} cut to ${size} bytes`,
      size < l3 ? NOT_IP : size < l3 + header ? RUNT : TRUNCATED,
      whole.subarray(0, size),
    ),
  );

export const parsing: readonly PacketCase[] = [
  ...extensions,
  ...refused,
  ...cut('IPv4', whole4, 14, 20),
  ...cut('IPv6', whole6, 14, 40),
  ...cut('IPv4 behind two tags', tagged, 22, 20),
];
