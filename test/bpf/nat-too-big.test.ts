// SPDX-License-Identifier: Apache-2.0
// What does not fit the way on from tc_nat: its sender is told what would.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { after, before, test } from 'node:test';
import { native } from '../../src/dataplane/native.js';
import { fragmentsOf } from '../support/fragments.js';
import {
  BACK,
  BACKEND,
  BACKEND_PORT,
  becomes,
  begin,
  type Ends,
  FAMILIES,
  type Family,
  SOURCE,
  turned,
  VIP,
} from '../support/nat-ends.js';
import { type NatPath, openNatPath, skbContext, TC } from '../support/nat-path.js';
import { pinTo } from '../support/packet-run.js';
import { checksum, icmpFrame, packet } from '../support/packets.js';

/** The client's side, an interface of this run alone, and its IP bytes at most. */
const OUT = `nx-${process.pid}`;
const MTU = 1400;
/** Of the way to backends. */
const BACKEND_MTU = 1450;
let path: NatPath;

before(async () => {
  pinTo(0);
  execFileSync('ip', ['link', 'add', OUT, 'mtu', `${MTU}`, 'type', 'veth', 'peer', 'name', `${OUT}-peer`]);
  path = await openNatPath(1024, {}, { icmpPerSecond: 1_000_000 });
  for (const family of FAMILIES) {
    path.backend(family, BACKEND[family], family, 1, { port: BACKEND_PORT, mtu: BACKEND_MTU });
    path.ring(family, family * 1000, new Uint16Array(251).fill(family));
    path.pool(family, [SOURCE[family]]);
    path.nat(family, VIP[family], 80, 'tcp', family, family);
    path.nat(10 + family, VIP[family], 80, 'udp', family, family);
    const other = family === 4 ? 6 : 4;
    path.nat(20 + family, VIP[family], 81, 'tcp', other, family, other);
    path.nat(30 + family, VIP[family], 81, 'udp', other, family, other);
  }
});
after(() => {
  path?.close();
  execFileSync('ip', ['link', 'delete', OUT]);
});

const other = (family: Family): Family => (family === 4 ? 6 : 4);

/** Connections that came in by the client's side: the ends of a request outside, and of its reply inside. */
function connection(
  outside: Family,
  inside: Family,
  protocol: 'tcp' | 'udp',
): { request: Ends; reply: Ends; service: number } {
  const port = outside === inside ? 80 : 81;
  const ends = begin(path, { outside, inside }, protocol, port);
  const came = path.run(packet({ ...ends.outside, protocol }), skbContext({ interface: native.interfaceIndex(OUT) }));
  assert.equal(came.retval, TC.REDIRECT);
  return {
    request: ends.outside,
    reply: turned(ends.inside),
    service: (port === 81 ? 20 : 0) + (protocol === 'udp' ? 10 : 0) + outside,
  };
}

/** The answer to a frame that does not fit: from its destination, with the sizes of RFC 1812 and RFC 4443. */
function answer(came: Buffer, { from, to }: Ends, mtu: number): Buffer {
  const v6 = from.includes(':');
  const quote = came.subarray(14, 14 + (v6 ? 1232 : 548));
  return icmpFrame(to, from, v6 ? [2, 0, mtu] : [3, 4, mtu], quote);
}

for (const outside of FAMILIES)
  for (const inside of FAMILIES)
    for (const protocol of ['tcp', 'udp'] as const) {
      const head = (family: Family): number => (family === 4 ? 20 : 40) + (protocol === 'tcp' ? 20 : 8);
      // What a packet is longer by in the client's family.
      const grows = (outside === 6 ? 20 : 0) - (inside === 6 ? 20 : 0);

      test(`nat: IPv${outside} client, IPv${inside} backend, ${protocol}: a reply that fits goes on, one that does not is answered`, () => {
        const { reply, service } = connection(outside, inside, protocol);
        const most = MTU - grows;
        const sized = (size: number): Buffer => packet({ ...reply, protocol, payload: size - head(inside) });
        const before = path.outcomes(service).too_big ?? 0;
        for (const size of [most - 1, most]) assert.equal(path.run(sized(size)).retval, TC.REDIRECT, `${size}`);
        const { returned } = path.outcomes(service);
        for (const size of [most + 1, most + 2, 3000]) {
          const came = sized(size);
          becomes(path, came, answer(came, reply, most), BACK, `${size}`);
        }
        assert.equal(path.outcomes(service).returned, returned);
        assert.equal(path.outcomes(service).too_big, before + 3);
      });

      test(`nat: IPv${outside} client, IPv${inside} backend, ${protocol}: a request that does not fit is answered`, () => {
        const { request } = connection(outside, inside, protocol);
        const most = BACKEND_MTU + grows;
        const sized = (size: number): Buffer => packet({ ...request, protocol, payload: size - head(outside) });
        assert.equal(path.run(sized(most)).retval, TC.REDIRECT);
        const came = sized(most + 1);
        becomes(path, came, answer(came, request, most), BACK, `${most + 1}`);
      });
    }

test('nat: a reply that came in where it leaves fits as it is', () => {
  const { reply } = connection(4, 4, 'tcp');
  const by = skbContext({ interface: native.interfaceIndex(OUT) });
  assert.equal(path.run(packet({ ...reply, protocol: 'tcp', payload: 1460 }), by).retval, TC.REDIRECT);
});

/** TCP with this many bytes of options, of no operation; its checksum is of the packet without. */
function withOptions(ends: Ends, options: number, payload: number): Buffer {
  const data = Buffer.concat([Buffer.alloc(options, 1), Buffer.alloc(payload, 0x5a)]);
  const frame = packet({ ...ends, protocol: 'tcp', data });
  frame.writeUInt8((5 + options / 4) << 4, 14 + (ends.from.includes(':') ? 40 : 20) + 12);
  return frame;
}

for (const family of FAMILIES)
  test(`nat: IPv${family}: a super-packet is as long as its longest piece, TCP options and all`, () => {
    const { request, reply } = connection(family, family, 'tcp');
    const head = (family === 4 ? 20 : 40) + 20;
    for (const [ends, most] of [
      [reply, MTU],
      [request, BACKEND_MTU],
    ] as const)
      for (const options of [0, 12, 40]) {
        const came = withOptions(ends, options, 3000);
        const run = (gsoSize: number) => path.run(came, skbContext({ gsoSize }));
        assert.equal(run(most - head - options).retval, TC.REDIRECT, `${options} bytes of options`);
        const told = Buffer.from(run(most - head - options + 1).data);
        const icmp = told.subarray(14 + head - 20);
        assert.deepEqual(
          [icmp.readUInt8(0), icmp.readUInt8(1), icmp.readUInt32BE(4)],
          family === 4 ? [3, 4, most] : [2, 0, most],
        );
      }
  });

for (const family of FAMILIES)
  test(`nat: IPv${family}: a checksum that the NIC is to finish: the answer is right once it has`, () => {
    const { reply } = connection(family, family, 'tcp');
    const came = packet({ ...reply, protocol: 'tcp', payload: 3000 });
    const [head, quote] = family === 4 ? [20, 548] : [40, 1232];
    // As GRO leaves it: the sum of the pseudo header alone.
    const tcp = 14 + head;
    const pseudo = Buffer.concat([
      came.subarray(14 + (family === 4 ? 12 : 8), tcp),
      Buffer.of(0, 6, (came.length - tcp) >> 8, (came.length - tcp) & 255),
    ]);
    came.writeUInt16BE(~checksum(pseudo) & 0xffff, tcp + 16);
    for (const context of [skbContext({}), skbContext({ gsoSize: 1440 })]) {
      const told = Buffer.from(path.run(came, context).data);
      const icmp = told.subarray(14 + head);
      assert.equal(icmp.length, 8 + quote);
      const quoted = icmp.subarray(8 + head);
      quoted.writeUInt16BE(checksum(quoted), 16); // what the NIC does
      const covered =
        family === 4
          ? icmp
          : Buffer.concat([
              told.subarray(14 + 8, 14 + 40),
              Buffer.of(0, 58, icmp.length >> 8, icmp.length & 255),
              icmp,
            ]);
      assert.equal(checksum(covered), 0);
    }
  });

test('nat: a first fragment that does not fit is answered, a later one is not', () => {
  for (const outside of FAMILIES) {
    const inside = other(outside);
    const { reply, service } = connection(outside, inside, 'udp');
    const [first = assert.fail(), later = assert.fail()] = fragmentsOf(
      packet({ ...reply, protocol: 'udp', payload: 4000 }),
      3,
      1448,
    );
    const most = outside === 6 ? MTU - 28 : MTU + 28;
    const before = path.outcomes(service).too_big ?? 0;
    becomes(path, first, answer(first, reply, most), BACK, 'first');
    assert.notEqual(path.run(later).retval, TC.REDIRECT);
    const [fits = assert.fail()] = fragmentsOf(
      packet({ ...reply, protocol: 'udp', payload: 4000 }),
      4,
      outside === 6 ? 1352 : 1376,
    );
    assert.equal(path.run(fits).retval, TC.REDIRECT);
    assert.ok((path.outcomes(service).too_big ?? 0) > before);
  }
});

test('nat: over the budget of ICMP a packet that does not fit is dropped', async () => {
  const narrow = await openNatPath(64, {}, { icmpPerSecond: 1 });
  narrow.backend(4, BACKEND[4], 4, 1, { port: BACKEND_PORT, mtu: 1300 });
  narrow.ring(4, 4000, new Uint16Array(251).fill(4));
  narrow.pool(4, [SOURCE[4]]);
  narrow.nat(4, VIP[4], 80, 'tcp', 4, 4);
  const { outside } = begin(narrow, { outside: 4, inside: 4 }, 'tcp');
  const actions = [1, 2, 3].map(() => narrow.run(packet({ ...outside, protocol: 'tcp', payload: 1400 })).retval);
  assert.ok(actions.includes(TC.SHOT) && actions.includes(TC.REDIRECT), `${actions}`);
  assert.equal(narrow.outcomes(4).too_big, 3);
  narrow.close();
});
