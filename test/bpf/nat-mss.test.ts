// SPDX-License-Identifier: Apache-2.0
// The segment size that SYNs ask for, by packet tables: each packet is built anew with the lower one, checksums and all.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { NatLimit } from '../../src/dataplane/nat-abi.gen.js';
import { type NatPath, openNatPath, TC } from '../support/nat-path.js';
import { NEXT_HOP_MAC, SOURCE_MAC } from '../support/packet-path.js';
import { pinTo } from '../support/packet-run.js';
import { type PacketSpec, packet, TCP } from '../support/packets.js';
import { chosenSeed, randomFrom } from '../unit/random.js';

type Family = 4 | 6;
const CLIENT = { 4: '203.0.113.7', 6: '2001:db8:1::7' } as const;
const VIP = { 4: '192.0.2.10', 6: '2001:db8::10' } as const;
const BACKEND = { 4: '10.9.0.21', 6: 'fd00:9::21' } as const;
const SOURCE = { 4: '10.9.0.10', 6: 'fd00:9::10' } as const;
const TO_CLIENT = [Buffer.from('020000000002', 'hex'), Buffer.from('020000000001', 'hex')] as const;
const MOST = 1200;
const WAY = 1400; // MTU of the ways to the backends

let path: NatPath;
let ports = 30_000;
before(async () => {
  pinTo(0);
  path = await openNatPath();
  for (const family of [4, 6] as const) {
    path.backend(family, BACKEND[family], family, 1, { port: 8080, mtu: WAY });
    path.ring(family, family * 1000, new Uint16Array(251).fill(family));
    path.pool(family, [SOURCE[family]]);
    path.nat(family, VIP[family], 80, 'tcp', family, family, 0, MOST);
    path.nat(10 + family, VIP[family], 81, 'tcp', family, family, 0, NatLimit.MSS_AUTO);
    path.nat(20 + family, VIP[family], 82, 'tcp', family, family);
    path.egress(family === 4 ? '10.20.0.0/16' : 'fd00:20::/32', family + MOST * 65536);
  }
  path.nat(34, VIP[4], 83, 'tcp', 6, 4, 6, NatLimit.MSS_AUTO);
  path.nat(36, VIP[6], 83, 'tcp', 4, 6, 4, NatLimit.MSS_AUTO);
});
after(() => path?.close());

const mss = (value: number): number[] => [2, 4, value >> 8, value & 255];
/** Options in whole words, filled up with the end of the list. */
const options = (...bytes: readonly number[]): Buffer =>
  Buffer.concat([Buffer.from(bytes)], Math.ceil(bytes.length / 4) * 4);

/** The same options with an MSS that is no more than `most`: the list as RFC 9293 (3.1) has it, read in the plainest way. */
function lowered(list: Buffer, most: number): Buffer {
  const out = Buffer.from(list);
  for (let at = 0; at < out.length; ) {
    const kind = out.readUInt8(at);
    if (kind === 0) break;
    if (kind === 1) {
      at++;
      continue;
    }
    if (at + 4 > out.length) break; // no room for an MSS
    const size = out.readUInt8(at + 1);
    if (kind === 2 && size === 4) {
      out.writeUInt16BE(Math.min(most, out.readUInt16BE(at + 2)), at + 2);
      break;
    }
    if (size < 2) break;
    at += size;
  }
  return out;
}

/** A handshake's first two packets: what becomes of each option list. `inside`: the backend's family. */
function shake(outside: Family, inside: Family, port: number, list: Buffer, wanted: Buffer, what: string): void {
  const client = ports++;
  const syn: PacketSpec = {
    protocol: 'tcp',
    from: CLIENT[outside],
    to: VIP[outside],
    fromPort: client,
    toPort: port,
    flags: TCP.SYN,
    tcpOptions: list,
  };
  const run = path.run(packet(syn));
  assert.equal(run.retval, TC.REDIRECT, what);
  const { sourcePort } = path.connections().find((each) => each.clientPort === client) ?? assert.fail();
  const sent: PacketSpec = {
    ...syn,
    from: SOURCE[inside],
    to: BACKEND[inside],
    fromPort: sourcePort,
    toPort: 8080,
    tcpOptions: wanted,
  };
  same(run.data, packet({ ...sent }), [NEXT_HOP_MAC, SOURCE_MAC], inside !== outside, `${what}: SYN`);
  const answer: PacketSpec = {
    ...sent,
    from: sent.to,
    to: sent.from,
    fromPort: 8080,
    toPort: sourcePort,
    flags: TCP.SYN | TCP.ACK,
    tcpOptions: list,
  };
  const back = path.run(packet(answer));
  assert.equal(back.retval, TC.REDIRECT, what);
  const given: PacketSpec = {
    ...syn,
    from: VIP[outside],
    to: CLIENT[outside],
    fromPort: port,
    toPort: client,
    flags: TCP.SYN | TCP.ACK,
    tcpOptions: wanted,
  };
  same(back.data, packet(given), TO_CLIENT, inside !== outside, `${what}: SYN-ACK`);
}

/** Equal, from the transport header on where the other one was made anew. */
function same(
  got: Uint8Array,
  wanted: Buffer,
  macs: readonly [Uint8Array, Uint8Array],
  translated: boolean,
  what: string,
): void {
  const from = translated ? (wanted.readUInt16BE(12) === 0x0800 ? 34 : 54) : 0;
  const whole = Buffer.concat([...macs, wanted.subarray(12)]);
  assert.equal(Buffer.from(got).subarray(from).toString('hex'), whole.subarray(from).toString('hex'), what);
}

const LISTS: readonly [name: string, list: Buffer][] = [
  ['as Linux sends it', options(...mss(1460), 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 7)],
  ['alone', options(...mss(1460))],
  ['the most there is', options(...mss(65535))],
  ['one more than allowed', options(...mss(MOST + 1))],
  ['what is allowed', options(...mss(MOST))],
  ['less than that', options(...mss(536))],
  ['behind one NOP: across two words', options(1, ...mss(1460), 1)],
  ['behind two', options(1, 1, ...mss(1460))],
  ['behind three', options(1, 1, 1, ...mss(0xfffe))],
  ['behind the window scale', options(3, 3, 7, ...mss(1460))],
  [
    'behind a time stamp and at the very end',
    options(8, 10, 1, 2, 3, 4, 0, 0, 0, 0, ...Array(26).fill(1), ...mss(1460)),
  ],
  ['none at all', options()],
  ['none among others', options(4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0)],
  ['behind the end of the list', options(0, ...mss(1460))],
  ['cut off', options(1, 2, 4, 5)],
  ['of a wrong size', options(2, 6, 5, 0xb4, 1, 1)],
  ['behind one without a size', options(254, 0, ...mss(1460))],
  ['behind one that is longer than the header', options(254, 60, ...mss(1460))],
];

for (const family of [4, 6] as const) {
  test(`nat: IPv${family}: an MSS is lowered in both directions, wherever it is, and never raised or added`, () => {
    for (const [name, list] of LISTS) shake(family, family, 80, list, lowered(list, MOST), name);
    // So that the reference cannot leave everything as it was.
    assert.equal(LISTS.filter(([, list]) => !lowered(list, MOST).equals(list)).length, 9);
  });

  test(`nat: IPv${family}: a service that does not ask for it has its SYNs as they came`, () => {
    for (const [name, list] of LISTS) shake(family, family, 82, list, list, name);
  });

  test(`nat: IPv${family}: auto is what fits the way to the backend`, () => {
    const most = WAY - (family === 4 ? 40 : 60);
    for (const [name, list] of LISTS) shake(family, family, 81, list, lowered(list, most), name);
  });

  test(`nat: IPv${family} to the other family: auto is what fits the longer header`, () => {
    const inside = family === 4 ? 6 : 4;
    const most = WAY - (inside === 4 ? 40 : 60);
    for (const [name, list] of LISTS) shake(family, inside, 83, list, lowered(list, most), name);
  });

  test(`nat: IPv${family}: options of what is no SYN stay`, () => {
    const client = ports++;
    const to: PacketSpec = { protocol: 'tcp', from: CLIENT[family], to: VIP[family], fromPort: client, toPort: 80 };
    path.run(packet({ ...to, flags: TCP.SYN }));
    const { sourcePort } = path.connections().find((each) => each.clientPort === client) ?? assert.fail();
    const tcpOptions = options(...mss(1460));
    const sent = packet({
      ...to,
      from: SOURCE[family],
      to: BACKEND[family],
      fromPort: sourcePort,
      toPort: 8080,
      tcpOptions,
    });
    same(path.run(packet({ ...to, tcpOptions })).data, sent, [NEXT_HOP_MAC, SOURCE_MAC], false, 'ACK');
  });

  test(`nat: IPv${family}: what leaves by egress, and its answers`, () => {
    const [from, to] = family === 4 ? ['10.20.0.7', '198.51.100.9'] : ['fd00:20::7', '2001:db8:9::9'];
    for (const [name, list] of LISTS) {
      const fromPort = ports++;
      const syn: PacketSpec = { protocol: 'tcp', from, to, fromPort, toPort: 443, flags: TCP.SYN, tcpOptions: list };
      const out = path.leave(packet(syn));
      assert.equal(out.retval >>> 0, TC.UNSPEC, name);
      const { sourcePort } = path.connections().find((each) => each.clientPort === fromPort) ?? assert.fail();
      const sent: PacketSpec = { ...syn, from: SOURCE[family], fromPort: sourcePort, tcpOptions: lowered(list, MOST) };
      assert.equal(Buffer.from(out.data).toString('hex'), packet(sent).toString('hex'), `${name}: SYN`);
      const flags = TCP.SYN | TCP.ACK;
      const back = path.run(
        packet({ ...sent, from: to, to: SOURCE[family], fromPort: 443, toPort: sourcePort, flags, tcpOptions: list }),
      );
      const given = packet({
        ...syn,
        from: to,
        to: from,
        fromPort: 443,
        toPort: fromPort,
        flags,
        tcpOptions: lowered(list, MOST),
      });
      assert.equal(Buffer.from(back.data).toString('hex'), given.toString('hex'), `${name}: SYN-ACK`);
    }
  });
}

test('nat: an MSS among options of chance', (t) => {
  const seed = chosenSeed();
  t.diagnostic(`seed ${seed}`);
  const random = randomFrom(seed);
  const below = (count: number): number => Math.floor(random() * count);
  let changed = 0;
  for (let turn = 0; turn < 400; turn++) {
    const parts: number[] = [];
    while (parts.length < 40 && below(8) > 0) {
      const filling = Array.from({ length: below(9) }, () => below(256));
      const some = [[1], mss(below(65536)), [3 + below(250), filling.length + 2, ...filling], [below(256)], [0]];
      parts.push(...(some[below(some.length)] ?? []));
    }
    const list = options(...parts.slice(0, 40));
    const family = turn % 2 ? 6 : 4;
    const wanted = lowered(list, MOST);
    if (!wanted.equals(list)) changed++;
    shake(family, family, 80, list, wanted, `seed ${seed}, options ${list.toString('hex')}`);
  }
  t.diagnostic(`${changed} lowered`);
  assert.ok(changed > 50);
});
