// SPDX-License-Identifier: Apache-2.0
// What the fuzz found, each as a case of its own: what the text wants, by name, beside what the model makes of it.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { ServiceFlag } from '../../src/dataplane/abi.gen.js';
import { agentKey } from '../../src/dataplane/program.js';
import { REASON_NAMES } from '../../src/dataplane/reasons.js';
import { stableRows } from '../../src/dataplane/tables.js';
import { parseAddress } from '../../src/model/address.js';
import { fragmentHeader, icmp, ip, udp } from '../fuzz/build.js';
import { runSteps, type Tried } from '../fuzz/run.js';
import { quicId } from '../fuzz/setup.js';
import { model } from '../model/model.js';
import { type ModelBackend, type ModelPool, type ModelService, serviceId, type World } from '../model/world.js';
import { openPacketPath, type PacketPath, TEST_CONFIG } from '../support/packet-path.js';
import { pinTo } from '../support/packet-run.js';
import { frame } from '../support/packets.js';

const bytes = (text: string): Buffer => Buffer.from(parseAddress(text).bytes);
const VIP4 = bytes('192.0.2.1');
const VIP6 = bytes('2001:db8::1');
const CLIENT4 = bytes('203.0.113.77');
const CLIENT6 = bytes('2001:db8:1::7');

const BACKENDS = 7;

/** One pool of seven backends; UDP to port 443 of both VIPs with these flags. */
function worldWith(flags: number): World {
  const backends = new Map<number, ModelBackend>();
  const quicServers = new Map<string, number>();
  for (let number = 1; number <= BACKENDS; number++) {
    backends.set(number, {
      number,
      pool: 1,
      slot: number,
      address: bytes(`10.9.1.${number}`),
      valid: true,
      down: false,
      onLink: true,
      nextHopMac: Buffer.of(2, 0, 0, 9, 0, number),
      sourceMac: Buffer.of(2, 0, 0, 1, 0, 1),
      sameInterface: true,
      mtu: 1500,
      tags: Buffer.alloc(0),
    });
    quicServers.set(`2:${quicId(number, 2, 4).toString('hex')}`, number);
  }
  const ring = stableRows(Uint16Array.from({ length: 251 }, (_, row) => 1 + (row % BACKENDS)));
  const pool: ModelPool = { number: 1, ring, quicLengths: [0, 0, 4, 0, 0, 0, 0], quicServers };
  const services = [VIP4, VIP6].map(
    (address, at): ModelService => ({
      number: at + 1,
      address,
      port: 443,
      protocol: 17,
      pool: 1,
      countersStart: 8 * at,
      flags,
      sourceBits: 24,
      allow: [],
      deny: [],
      natMtu: 0,
    }),
  );
  return {
    ringKey: new Uint32Array(Uint8Array.from(TEST_CONFIG.ringKey).buffer),
    agentKey: new Uint32Array(Uint8Array.from(agentKey(TEST_CONFIG.ringKey)).buffer),
    tunnelSource: Buffer.from(TEST_CONFIG.tunnelSource),
    tunnelSource6: Buffer.from(TEST_CONFIG.tunnelSource6),
    tunnelMtu: TEST_CONFIG.tunnelMtu,
    guePort: 6080,
    splits: false,
    services: new Map(services.map((one) => [serviceId(one.address, 443, 17), one])),
    vips: new Map(services.map((one) => [one.address.toString('latin1'), [one]])),
    pools: new Map([[1, pool]]),
    backends,
    flows: new Map(),
    datagrams: new Map(),
    pairs: new Map(),
  };
}

let path: PacketPath;
before(async () => {
  pinTo(0);
  path = await openPacketPath();
});
after(() => path?.close());

/** Runs the packets through both; gives the reason of each, and the next hop's last byte: the backend. */
async function both(flags: number, packets: readonly Buffer[]): Promise<[reason: string, backend: number][]> {
  const steps = packets.map((packet) => frame(packet)).map((whole) => ({ frame: whole, linear: whole.length }));
  const tried: Tried = { frames: 0, stalls: 0, reasons: [] };
  assert.equal(await runSteps(path, worldWith(flags), [...steps, 'forget'], tried), null);
  const world = worldWith(flags);
  return steps.map((step) => {
    const { reason, out } = model(world, step.frame);
    return [REASON_NAMES[reason] ?? '', reason === 0 ? (out?.[5] ?? 0) : 0];
  });
}

const FLOW = [CLIENT4, VIP4, 40000, 443] as const;
const early4 = (from: Buffer): Buffer => ip(from, VIP4, 17, Buffer.alloc(16), { id: from[3] ?? 0, fragment: 3 });

test('an early fragment of a service with affinity to the source goes where its prefix goes', async () => {
  const [[, first] = [], ...others] = await both(ServiceFlag.SOURCE, [
    ip(CLIENT4, VIP4, 17, udp(...FLOW, Buffer.alloc(8))),
    ...[1, 2, 3, 4, 5].map((host) => early4(bytes(`203.0.113.${host}`))),
  ]);
  assert.ok(first);
  assert.deepEqual(others, Array(5).fill(['forwarded', first]));
});

test('a connection ID that is not in the UDP datagram, but behind it in its IP packet, names nobody', async () => {
  const id = (server: number): Buffer => Buffer.concat([Buffer.of(0x40, 2 << 5), quicId(server, 2, 4)]);
  const servers = [1, 2, 3, 4, 5, 6, 7];
  const inside = servers.map((server) => ip(CLIENT4, VIP4, 17, udp(...FLOW, id(server))));
  const behind = inside.map((packet) => {
    const cut = Buffer.from(packet);
    cut.writeUInt16BE(8 + 3, 24);
    return cut;
  });
  const routed = await both(ServiceFlag.QUIC, inside);
  assert.deepEqual(
    routed,
    servers.map((server) => ['forwarded', server]),
  );
  const reached = await both(ServiceFlag.QUIC, behind);
  assert.equal(new Set(reached.map(([, backend]) => backend)).size, 1, 'all by their flow');
});

/** An ICMPv6 error about the first fragment of an answer, of which `shown` bytes are quoted. */
function aboutFragment(shown: number): Buffer {
  const answer = udp(VIP6, CLIENT6, 443, 40000, Buffer.alloc(1200));
  const first = Buffer.concat([fragmentHeader(17, 0, true, 7), answer.subarray(0, 1200)]);
  const rest = Buffer.concat([Buffer.alloc(4), ip(VIP6, CLIENT6, 44, first).subarray(0, shown)]);
  return ip(CLIENT6, VIP6, 58, icmp(CLIENT6, VIP6, 2, 0, rest));
}

test('an ICMP error about the first fragment of an answer is carried, wherever its quote is cut', async () => {
  const known = ip(CLIENT6, VIP6, 17, udp(CLIENT6, VIP6, 40000, 443, Buffer.alloc(8)));
  const reasons = await both(0, [known, ...[51, 52, 55, 56, 57, 100, 101, 1000].map(aboutFragment)]);
  assert.deepEqual(
    reasons.map(([reason]) => reason),
    ['forwarded', 'malformed', ...Array<string>(7).fill('forwarded')],
  );
});

test('an ICMP error about a tunnel packet is malformed where its quote ends before the inner ports', async () => {
  const answer = ip(VIP4, CLIENT4, 17, udp(VIP4, CLIENT4, 443, 40000, Buffer.alloc(8)));
  const tunnel = ip(bytes('10.0.0.1'), bytes('10.0.0.2'), 4, answer);
  const about = (shown: number): Buffer =>
    ip(CLIENT4, VIP4, 1, icmp(CLIENT4, VIP4, 3, 4, Buffer.concat([Buffer.alloc(4), tunnel.subarray(0, shown)])));
  const known = ip(CLIENT4, VIP4, 17, udp(...FLOW, Buffer.alloc(8)));
  const reasons = await both(0, [known, ...[20, 39, 40, 43, 44, 60].map(about)]);
  assert.deepEqual(
    reasons.map(([reason]) => reason),
    ['forwarded', 'malformed', 'malformed', 'malformed', 'malformed', 'forwarded', 'forwarded'],
  );
});

test('a fragment whose size is wrong is malformed, whatever headers follow', async () => {
  const options = Buffer.alloc(7 * 8 + 2); // seven of 8 bytes, and two more: no multiple of 8
  for (let at = 0; at < 7; at++) options[at * 8] = 60;
  const packet = (size: number): Buffer =>
    ip(CLIENT6, VIP6, 44, Buffer.concat([fragmentHeader(60, 0, true, 7), options.subarray(0, size)]));
  const reasons = await both(0, [options.length, 7 * 8].map(packet));
  assert.deepEqual(
    reasons.map(([reason]) => reason),
    ['malformed', 'extension'],
  );
});
