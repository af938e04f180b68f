// SPDX-License-Identifier: Apache-2.0
// tc_nat by packet tables: what it makes of each packet is built anew from its new ends, checksums and all.
import assert from 'node:assert/strict';
import { after, before, beforeEach, test } from 'node:test';
import { ServiceFlag, ServiceOptions } from '../../src/dataplane/abi.gen.js';
import { NatState } from '../../src/dataplane/nat-abi.gen.js';
import { formatAddress } from '../../src/model/address.js';
import { fragmentsOf } from '../support/fragments.js';
import { type NatPath, openNatPath, TC } from '../support/nat-path.js';
import { NEXT_HOP_MAC, SOURCE_MAC } from '../support/packet-path.js';
import { pinTo } from '../support/packet-run.js';
import { type PacketSpec, packet, TCP } from '../support/packets.js';

type Family = 4 | 6;
const CLIENT = { 4: '203.0.113.7', 6: '2001:db8:1::7' } as const;
const VIP = { 4: '192.0.2.10', 6: '2001:db8::10' } as const;
const BACKEND = { 4: '10.9.0.21', 6: 'fd00:9::21' } as const;
const SOURCE = { 4: '10.9.0.10', 6: 'fd00:9::10' } as const;
const POOL = { 4: 1, 6: 2 } as const;
const ROUTER_MAC = Buffer.from('020000000002', 'hex');
const OWN_MAC = Buffer.from('020000000001', 'hex');

let path: NatPath;
let clientPort = 20_000;

before(() => pinTo(0));
beforeEach(async () => {
  path?.close();
  path = await openNatPath();
  for (const family of [4, 6] as const) {
    path.backend(family, BACKEND[family], POOL[family], 1, { port: 8080 });
    path.ring(POOL[family], family * 1000, new Uint16Array(251).fill(family));
    path.pool(POOL[family], [SOURCE[family]]);
    path.nat(family, VIP[family], 80, 'tcp', POOL[family], POOL[family]);
    path.nat(10 + family, VIP[family], 80, 'udp', POOL[family], POOL[family]);
    path.nat(20 + family, VIP[family], 81, 'tcp', POOL[family], 0);
  }
});
after(() => path?.close());

/** The frame with other MACs. */
const macs = (frame: Buffer, to: Uint8Array, from: Uint8Array): Buffer => Buffer.concat([to, from, frame.subarray(12)]);
const portOf = (bytes: { readonly sourcePort: number }): number => bytes.sourcePort;

interface Talk {
  readonly family: Family;
  readonly protocol: 'tcp' | 'udp';
  readonly vipPort: number;
  readonly client: number;
  readonly source: string;
  readonly sourcePort: number;
}

/** Client's packet, and what is to leave for the backend. */
function request(talk: Talk, more: Partial<PacketSpec> = {}): [Buffer, Buffer] {
  const { family, protocol, vipPort, client, source, sourcePort } = talk;
  const came = { ...more, protocol, from: CLIENT[family], to: VIP[family], fromPort: client, toPort: vipPort };
  const sent = { ...more, protocol, from: source, to: BACKEND[family], fromPort: sourcePort, toPort: 8080 };
  return [packet(came), macs(packet(sent), NEXT_HOP_MAC, SOURCE_MAC)];
}

/** Backend's packet, and what is to leave for the client. */
function reply(talk: Talk, more: Partial<PacketSpec> = {}): [Buffer, Buffer] {
  const { family, protocol, vipPort, client, source, sourcePort } = talk;
  const came = { ...more, protocol, from: BACKEND[family], to: source, fromPort: 8080, toPort: sourcePort };
  const sent = { ...more, protocol, from: VIP[family], to: CLIENT[family], fromPort: vipPort, toPort: client };
  return [packet(came), macs(packet(sent), ROUTER_MAC, OWN_MAC)];
}

function becomes([came, wanted]: readonly [Buffer, Buffer], what: string): void {
  const run = path.run(came);
  assert.equal(run.retval, TC.REDIRECT, what);
  assert.equal(Buffer.from(run.data).toString('hex'), wanted.toString('hex'), what);
}

/** Begins a connection, and says who its client is to the backend. */
function begin(family: Family, protocol: 'tcp' | 'udp', vipPort = 80): Talk {
  const client = clientPort++;
  const before = path.connections().length;
  const first = packet({
    protocol,
    from: CLIENT[family],
    to: VIP[family],
    fromPort: client,
    toPort: vipPort,
    flags: TCP.SYN,
  });
  const run = path.run(first);
  assert.equal(run.retval, TC.REDIRECT);
  const now = path.connections();
  assert.equal(now.length, before + 1);
  const nat = now.find((each) => each.clientPort === client) ?? assert.fail();
  const source = formatAddress(nat.source.subarray(0, family === 4 ? 4 : 16));
  const talk = { family, protocol, vipPort, client, source, sourcePort: portOf(nat) };
  const [, sent] = request(talk, { flags: TCP.SYN });
  assert.equal(Buffer.from(run.data).toString('hex'), sent.toString('hex'), 'the first packet');
  return talk;
}

const MORE: readonly Partial<PacketSpec>[] = [
  { payload: 0 },
  { payload: 1 },
  { payload: 33 },
  { payload: 1400 },
  { payload: 7, trafficClass: 0xb8 | 3 },
  { payload: 7, df: false },
];

for (const family of [4, 6] as const) {
  for (const protocol of ['tcp', 'udp'] as const)
    test(`nat: IPv${family} ${protocol}: both directions, addresses, ports and checksums`, () => {
      const talk = begin(family, protocol);
      assert.equal(talk.source, SOURCE[family]);
      for (const more of MORE) {
        becomes(request(talk, more), `request ${JSON.stringify(more)}`);
        becomes(reply(talk, more), `reply ${JSON.stringify(more)}`);
      }
      const service = protocol === 'tcp' ? family : 10 + family;
      assert.deepEqual(path.outcomes(service), { forwarded: 1 + MORE.length, returned: MORE.length, begun: 1 });
    });

  test(`nat: IPv${family}: with sources that stay the backend sees the client`, () => {
    const talk = begin(family, 'tcp', 81);
    assert.deepEqual([talk.source, talk.sourcePort], [CLIENT[family], talk.client]);
    for (const more of MORE) {
      becomes(request(talk, more), 'request');
      becomes(reply(talk, more), 'reply');
    }
  });
}

test('nat: UDP without a checksum has none afterwards; one that would become 0 becomes 0xffff', () => {
  const talk = begin(4, 'udp');
  becomes(request(talk, { payload: 9, unsummed: true }), 'none');
  // Two bytes of payload run through all values, so that one of them makes the sum 0.
  let zeros = 0;
  for (let word = 0; word < 65536; word++) {
    const data = Buffer.of(word >> 8, word & 255);
    const [came, sent] = request(talk, { data });
    const check = sent.readUInt16BE(14 + 20 + 6);
    if (check !== 0 && check !== 0xffff) continue;
    zeros++;
    sent.writeUInt16BE(0xffff, 14 + 20 + 6);
    becomes([came, sent], `payload ${word}`);
  }
  assert.ok(zeros > 0);
});

test('nat: IPv4 options stay', () => {
  const talk = begin(4, 'tcp');
  becomes(request(talk, { options: 2, payload: 5 }), 'request');
  becomes(reply(talk, { options: 1, payload: 5 }), 'reply');
});

test('nat: a wrong checksum stays wrong', () => {
  const talk = begin(4, 'tcp');
  const [came, sent] = request(talk, { payload: 4 });
  for (const frame of [came, sent]) frame.writeUInt16BE((frame.readUInt16BE(50) + 0x1111) % 0xffff, 50);
  becomes([came, sent], 'request');
});

for (const family of [4, 6] as const)
  test(`nat: IPv${family}: all fragments of a datagram go where its first one goes, in both directions`, () => {
    const talk = begin(family, 'udp');
    let id = 7;
    for (const way of [request, reply]) {
      const [came, sent] = way(talk, { payload: 4000, df: false }).map((each) => fragmentsOf(each, ++id)) as [
        Buffer[],
        Buffer[],
      ];
      // The same id on both sides.
      const wanted = fragmentsOf(way(talk, { payload: 4000, df: false })[1], id - 1);
      assert.equal(sent.length, 3);
      for (const [at, part] of came.entries()) becomes([part, wanted[at] ?? assert.fail()], `fragment ${at}`);
    }
    // A later one before the first of its datagram: where the last datagram between these addresses went.
    const shuffled = fragmentsOf(request(talk, { payload: 4000, df: false })[0], 99).reverse();
    const there = fragmentsOf(request(talk, { payload: 4000, df: false })[1], 99).reverse();
    for (const [at, part] of shuffled.entries()) becomes([part, there[at] ?? assert.fail()], `late ${at}`);
  });

test('nat: a fragment of nothing known is not touched', () => {
  const [, later] = fragmentsOf(
    packet({ protocol: 'udp', from: CLIENT[4], to: VIP[4], fromPort: 1, toPort: 80, payload: 3000, df: false }),
    5,
  );
  const run = path.run(later ?? assert.fail());
  assert.equal(run.retval >>> 0, TC.UNSPEC);
});

test('nat: TCP of no connection is dropped and counted, and begins none', () => {
  for (const flags of [TCP.ACK, TCP.FIN | TCP.ACK, TCP.RST, TCP.SYN | TCP.ACK]) {
    const came = packet({ protocol: 'tcp', from: CLIENT[4], to: VIP[4], fromPort: 9, toPort: 80, flags });
    assert.equal(path.run(came).retval, TC.SHOT);
  }
  assert.deepEqual(path.outcomes(4), { unknown: 4 });
  assert.deepEqual(path.connections(), []);
});

test('nat: what is not ours is not touched', () => {
  const talk = begin(4, 'tcp');
  for (const spec of [
    { from: CLIENT[4], to: VIP[4], fromPort: 5, toPort: 99 },
    { from: CLIENT[4], to: '192.0.2.11', fromPort: 5, toPort: 80 },
    { from: BACKEND[4], to: SOURCE[4], fromPort: 8080, toPort: talk.sourcePort ^ 1 },
    { from: BACKEND[4], to: SOURCE[4], fromPort: 8081, toPort: talk.sourcePort },
    { from: '10.9.0.22', to: SOURCE[4], fromPort: 8080, toPort: talk.sourcePort },
  ]) {
    const came = packet({ ...spec, protocol: 'tcp', flags: TCP.SYN });
    const run = path.run(came);
    assert.equal(run.retval >>> 0, TC.UNSPEC);
    assert.equal(Buffer.from(run.data).toString('hex'), came.toString('hex'));
  }
});

test('nat: states of TCP', () => {
  const state = () => path.connections()[0]?.state;
  const talk = begin(4, 'tcp');
  const ask = (flags: number) => becomes(request(talk, { flags }), 'request');
  const tell = (flags: number) => becomes(reply(talk, { flags }), 'reply');
  assert.equal(state(), NatState.NEW);
  ask(TCP.SYN);
  tell(TCP.SYN | TCP.ACK);
  assert.equal(state(), NatState.NEW);
  ask(TCP.ACK);
  assert.equal(state(), NatState.ESTABLISHED);
  tell(TCP.FIN | TCP.ACK);
  assert.equal(state(), NatState.CLOSING);
  tell(TCP.FIN | TCP.ACK);
  ask(TCP.ACK);
  assert.equal(state(), NatState.CLOSING);
  ask(TCP.FIN | TCP.ACK);
  assert.equal(state(), NatState.CLOSED);
  tell(TCP.ACK);
  assert.equal(state(), NatState.CLOSED);
  const other = begin(4, 'tcp');
  becomes(reply(other, { flags: TCP.RST }), 'reset');
  assert.deepEqual(
    path
      .connections()
      .map((each) => each.state)
      .sort(),
    [NatState.CLOSED, NatState.CLOSED],
  );
});

test('nat: a SYN on the ports of a finished connection begins another, with the same source where the backend is', () => {
  const talk = begin(4, 'tcp');
  becomes(request(talk), 'request');
  becomes(reply(talk, { flags: TCP.RST }), 'reset');
  becomes(request(talk, { flags: TCP.SYN }), 'another one');
  const [now, ...more] = path.connections();
  assert.ok(now?.state === NatState.NEW && more.length === 0);
  assert.deepEqual([...new Uint32Array(now.packets.slice().buffer)], [1, 0], 'counted from the beginning');
  becomes(reply(talk, { flags: TCP.SYN | TCP.ACK }), 'its reply');
  becomes(request(talk, { flags: TCP.RST }), 'reset');
  path.backend(5, '10.9.0.22', POOL[4], 2, { port: 8080 });
  path.ring(POOL[4], 4000, new Uint16Array(251).fill(5));
  assert.equal(path.run(request(talk, { flags: TCP.SYN })[0]).retval, TC.REDIRECT);
  const [other, ...others] = path.connections();
  assert.deepEqual([other?.backend, other?.state, others.length], [5, NatState.NEW, 0]);
  assert.notEqual(other?.sourcePort, talk.sourcePort);
  assert.equal(path.run(reply(talk)[0]).retval >>> 0, TC.UNSPEC, 'the old one is over');
  assert.equal(path.outcomes(4).begun, 3);
});

test('nat: without a port left a connection is refused and counted; what is there goes on', () => {
  path.pool(9, ['10.9.0.99'], [5001, 5002]);
  path.nat(30, VIP[4], 90, 'tcp', POOL[4], 9);
  const talks = [begin(4, 'tcp', 90), begin(4, 'tcp', 90)];
  assert.deepEqual(
    talks.map((talk) => [talk.source, talk.sourcePort]),
    [
      ['10.9.0.99', 5001],
      ['10.9.0.99', 5002],
    ],
  );
  const late = packet({ protocol: 'tcp', from: CLIENT[4], to: VIP[4], fromPort: 7, toPort: 90, flags: TCP.SYN });
  for (let turn = 0; turn < 3; turn++) assert.equal(path.run(late).retval, TC.SHOT);
  assert.deepEqual(path.outcomes(30), { forwarded: 2, begun: 2, ports: 3 });
  for (const talk of talks) becomes(request(talk), 'request');
});

test('nat: with the table full a connection is refused and counted; what is there goes on', () => {
  const talks = Array.from({ length: 1000 }, () => begin(4, 'udp'));
  let refused = 0;
  for (let port = 1; port <= 100; port++) {
    const run = path.run(packet({ protocol: 'udp', from: CLIENT[4], to: VIP[4], fromPort: port, toPort: 80 }));
    if (run.retval === TC.SHOT) refused++;
  }
  assert.equal(path.outcomes(14).full, refused);
  assert.ok(refused >= 76, `${refused}`);
  for (const talk of talks) becomes(request(talk), 'request');
});

test('nat: over the budget of new flows a connection is refused and counted', async () => {
  path.close();
  path = await openNatPath(1024, {}, { newFlowsPerSecond: 1 });
  path.backend(4, BACKEND[4], 1, 1, { port: 8080 });
  path.ring(1, 0, new Uint16Array(251).fill(4));
  path.pool(1, [SOURCE[4]]);
  path.nat(4, VIP[4], 80, 'tcp', 1, 1);
  for (let port = 1; port <= 20; port++)
    path.run(packet({ protocol: 'tcp', from: CLIENT[4], to: VIP[4], fromPort: port, toPort: 80, flags: TCP.SYN }));
  const { begun = 0, budget = 0 } = path.outcomes(4);
  assert.ok(begun >= 1 && begun <= 3 && begun + budget === 20, `${begun} ${budget}`);
});

test('nat: a backend that takes nothing more: TCP is dropped, datagrams and SYNs find another', () => {
  const tcp = begin(4, 'tcp');
  const udp = begin(4, 'udp');
  path.backend(4, BACKEND[4], POOL[4], 1, { port: 8080, valid: false });
  path.backend(5, '10.9.0.22', POOL[4], 2, { port: 9090 });
  path.ring(POOL[4], 4000, new Uint16Array(251).fill(5));
  assert.equal(path.run(request(tcp)[0]).retval, TC.SHOT);
  assert.equal(path.outcomes(4).no_backend, 1);
  assert.equal(path.run(request(tcp, { flags: TCP.SYN })[0]).retval, TC.REDIRECT);
  assert.deepEqual(
    path.connections().flatMap((each) => (each.protocol === 6 ? [each.backend] : [])),
    [5],
  );
  assert.equal(path.run(request(udp)[0]).retval, TC.REDIRECT);
  assert.deepEqual(
    path
      .connections()
      .filter(({ protocol }) => protocol === 17)
      .map(({ backend, backendPort }) => [backend, backendPort]),
    [[5, 9090]],
  );
});

test('nat: a backend that is down keeps its TCP connections; datagrams and SYNs find another', () => {
  const tcp = begin(4, 'tcp');
  const udp = begin(4, 'udp');
  path.backend(4, BACKEND[4], POOL[4], 1, { port: 8080, down: true });
  path.backend(5, '10.9.0.25', POOL[4], 2, { port: 8080 });
  path.ring(POOL[4], 4000, new Uint16Array(251).fill(5));
  const backends = (protocol: number): number[] =>
    path.connections().flatMap((each) => (each.protocol === protocol ? [each.backend] : []));
  assert.equal(path.run(request(tcp)[0]).retval, TC.REDIRECT);
  assert.deepEqual(backends(6), [4]);
  assert.equal(path.run(request(udp)[0]).retval, TC.REDIRECT);
  assert.deepEqual(backends(17), [5]);
  assert.equal(path.run(request(tcp, { flags: TCP.SYN })[0]).retval, TC.REDIRECT);
  assert.deepEqual(backends(6), [5]);
});

test('nat: affinity to the source, also where no service wanted it when the program was loaded', async () => {
  path.close();
  path = await openNatPath(1024, {}, { features: ServiceFlag.NAT });
  for (const number of [1, 2, 3, 4]) path.backend(number, `10.9.0.2${number}`, 1, number);
  path.ring(
    1,
    0,
    Uint16Array.from({ length: 251 }, (_, row) => 1 + (row % 4)),
  );
  path.pool(1, [SOURCE[4]]);
  path.nat(4, VIP[4], 80, 'tcp', 1, 1);
  path.service(4, VIP[4], 80, 'tcp', 1, 64, ServiceFlag.NAT | ServiceFlag.SOURCE);
  const sourceMask = Uint8Array.from({ length: 16 }, (_, at) => (at < 4 ? 255 : 0));
  const options = ServiceOptions.encode({ sourceMask, rateIntervalNs: 0n, rateBurstNs: 0n, natMtu: 0 });
  path.maps.handle.service_options.set(Uint8Array.of(4, 0, 0, 0), options, 0);
  for (let port = 1; port <= 32; port++)
    path.run(packet({ protocol: 'tcp', from: CLIENT[4], to: VIP[4], fromPort: port, toPort: 80, flags: TCP.SYN }));
  assert.equal(path.connections().length, 32);
  assert.equal(new Set(path.connections().map(({ backend }) => backend)).size, 1);
});

test('nat: silent connections end by themselves; their ids and ports are given out again', async () => {
  path.close();
  path = await openNatPath(1024, { udpNew: 1, tcpNew: 1 });
  path.backend(4, BACKEND[4], 1, 1, { port: 8080 });
  path.ring(1, 0, new Uint16Array(251).fill(4));
  path.pool(1, ['10.9.0.99'], [5001, 5002]);
  path.nat(14, VIP[4], 80, 'udp', 1, 1);
  path.sweep();
  for (let turn = 0; turn < 2; turn++) {
    const talks = [begin(4, 'udp'), begin(4, 'udp')];
    assert.deepEqual(talks.map(({ sourcePort }) => sourcePort).sort(), [5001, 5002]);
    for (const deadline = Date.now() + 5000; path.tables.counts[3] !== 2 * (turn + 1); ) {
      assert.ok(Date.now() < deadline, `${path.connections().length} are there`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    assert.deepEqual(path.connections(), []);
    assert.equal(path.run(reply(talks[0] ?? assert.fail())[0]).retval >>> 0, TC.UNSPEC);
  }
});
