// SPDX-License-Identifier: Apache-2.0
// Two namespaces: a sender of datagrams without DF that is the balancer's next hop too, and sees what comes out of it.
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Reason } from '../../src/dataplane/abi.gen.js';
import { native } from '../../src/dataplane/native.js';
import { objectPath } from '../../src/dataplane/program.js';
import { namespacePath, run, tied } from '../../src/lab/netns.js';
import { checksum } from '../support/packets.js';
import { type SplitCounts, WRAPS } from '../support/split-node.js';

const LB = 'split-lb';
const PEER = 'split-peer';
const COUNT = 250; // datagrams of one size to one service
const FRAME_MAX = 1514;

const start = (namespace: string, command: readonly string[]): ChildProcess => {
  const child = spawn('setpriv', [...tied, 'nsenter', `--net=${namespacePath(namespace)}`, ...command]);
  child.stderr?.on('data', (text) => process.stderr.write(text));
  return child;
};

async function said(child: ChildProcess, stream: 'stdout' | 'stderr', text: string): Promise<void> {
  let all = '';
  const signal = AbortSignal.timeout(20_000);
  while (!all.includes(text))
    all += String((await once(child[stream] as NodeJS.ReadableStream, 'data', { signal }))[0]);
}

async function setUp(t: TestContext): Promise<string> {
  const removed = () => run('sh', ['-c', `for n in ${LB} ${PEER}; do ip netns del $n 2>/dev/null; done; true`]);
  await removed();
  t.after(removed);
  const lines = [
    `netns add ${LB}`,
    `netns add ${PEER}`,
    `link add lb netns ${LB} type veth peer name peer netns ${PEER}`,
    `-n ${LB} link set lb up`,
    `-n ${LB} addr add 10.9.0.10/24 dev lb`,
    `-n ${PEER} link set peer up`,
    `-n ${PEER} addr add 10.9.0.1/24 dev peer`,
    `-n ${PEER} route add 192.0.2.0/24 via 10.9.0.10`,
  ];
  for (const line of lines) await run('ip', line.split(' '));
  await run('nsenter', [
    `--net=${namespacePath(PEER)}`,
    'sh',
    '-ec',
    'ethtool -K peer tx off >/dev/null; echo 1 > /proc/sys/net/ipv4/ip_no_pmtu_disc',
  ]);
  const [peer] = JSON.parse(await run('ip', ['-n', PEER, '-j', 'link', 'show', 'peer'])) as { address: string }[];
  const pass = native.openObject(objectPath('xdp_pass'));
  await pass.load();
  const link = await native.attachXdp(pass.program('xdp_pass'), 'peer', namespacePath(PEER), 'native');
  t.after(() => {
    link.close();
    pass.close();
  });
  return peer?.address ?? '';
}

/** Number, then bytes that differ from place to place. */
const payloadOf = (number: number, size: number): Buffer => {
  const data = Buffer.from(Array.from({ length: size }, (_, at) => (at * 7 + (at >> 8) + number) & 0xff));
  data.writeUInt32BE(number);
  return data;
};

const SENDER = `
const socket = require('dgram').createSocket('udp4');
const [port, count, size] = process.argv.slice(1).map(Number);
socket.bind(5000, async () => {
  for (let number = 0; number < count; number++) {
    const data = Buffer.from(Array.from({ length: size }, (_, at) => (at * 7 + (at >> 8) + number) & 0xff));
    data.writeUInt32BE(number);
    await new Promise((done) => socket.send(data, port, '192.0.2.10', done));
    if (number % 10 === 9) await new Promise((done) => setTimeout(done, 3));
  }
  socket.close();
});`;

const send = (port: number, size: number, count: number): Promise<string> =>
  run('nsenter', [`--net=${namespacePath(PEER)}`, process.execPath, '-e', SENDER, `${port}`, `${count}`, `${size}`]);

/** The frames of a capture file (pcap, the machine's byte order). */
function* framesOf(file: string): Generator<Buffer> {
  const data = readFileSync(file);
  for (let at = 24; at < data.length; at += 16 + data.readUInt32LE(at + 8)) {
    assert.equal(data.readUInt32LE(at + 8), data.readUInt32LE(at + 12), 'captured whole');
    yield data.subarray(at + 16, at + 16 + data.readUInt32LE(at + 8));
  }
}

/** The packet inside a frame to a backend, and which service's it is. The outer headers must be right. */
function unwrap(frame: Buffer): { wrap: number; inner: Buffer } {
  const v6 = frame.readUInt16BE(12) === 0x86dd;
  const ip = frame.subarray(14);
  if (!v6 && ip.readUInt32BE(16) === 0xc000020a) return { wrap: 4, inner: ip }; // to the VIP itself: L2
  const header = v6 ? 40 : 20;
  const size = v6 ? ip.readUInt16BE(4) + 40 : ip.readUInt16BE(2);
  assert.equal(size, ip.length, 'no byte more or less than the outer header says');
  if (!v6) assert.equal(checksum(ip.subarray(0, 20)), 0);
  const gue = ip[v6 ? 6 : 9] === 17;
  if (gue && v6) {
    const pseudo = Buffer.concat([ip.subarray(8, 40), Buffer.of(0, 0, 0, 17, 0, 0), ip.subarray(4, 6)]);
    assert.equal(checksum(Buffer.concat([pseudo, ip.subarray(40)])), 0, 'outer UDP checksum');
  }
  if (gue) assert.equal(ip.readUInt16BE(header + 4), size - header);
  return { wrap: (v6 ? 2 : 0) + (gue ? 1 : 0), inner: ip.subarray(header + (gue ? 8 : 0)) };
}

/** Puts fragments together; a datagram with its UDP header when it is whole. */
function reassembler(): { add(packet: Buffer): Buffer | null; left(): number } {
  const parts = new Map<number, { have: number; size: number; data: Buffer }>();
  return {
    left: () => parts.size,
    add(packet) {
      assert.equal(checksum(packet.subarray(0, 20)), 0, 'inner header checksum');
      assert.equal(packet.readUInt16BE(2), packet.length);
      const id = packet.readUInt16BE(4);
      const fragment = packet.readUInt16BE(6);
      const offset = (fragment & 0x1fff) * 8;
      const datagram = parts.get(id) ?? { have: 0, size: -1, data: Buffer.alloc(4096) };
      parts.set(id, datagram);
      packet.copy(datagram.data, offset, 20);
      datagram.have += packet.length - 20;
      if (!(fragment & 0x2000)) datagram.size = offset + packet.length - 20;
      if (datagram.have !== datagram.size) return null;
      parts.delete(id);
      return datagram.data.subarray(0, datagram.size);
    },
  };
}

interface Seen {
  readonly whole: Map<string, number>; // by "service/size of the datagram"
  readonly frames: number[]; // by service
  readonly largest: number;
}

/** What came out: every datagram must be what was sent, checksum and bytes. */
function check(file: string): Seen {
  const reassemblers = WRAPS.map(reassembler);
  const seen = { whole: new Map<string, number>(), frames: WRAPS.map(() => 0), largest: 0 };
  for (const frame of framesOf(file)) {
    const out = unwrap(frame);
    seen.largest = Math.max(seen.largest, frame.length);
    seen.frames[out.wrap] = (seen.frames[out.wrap] ?? 0) + 1;
    const datagram = reassemblers[out.wrap]?.add(out.inner);
    if (!datagram) continue;
    assert.equal(datagram.readUInt16BE(2), WRAPS[out.wrap]?.port);
    const pseudo = Buffer.concat([out.inner.subarray(12, 20), Buffer.of(0, 17), datagram.subarray(4, 6)]);
    assert.equal(checksum(Buffer.concat([pseudo, datagram])), 0, 'UDP checksum');
    const payload = datagram.subarray(8);
    assert.ok(payload.equals(payloadOf(payload.readUInt32BE(0), payload.length)), 'the payload that was sent');
    const key = `${out.wrap}/${payload.length}`;
    seen.whole.set(key, (seen.whole.get(key) ?? 0) + 1);
  }
  for (const one of reassemblers) assert.equal(one.left(), 0, 'no datagram is left in part');
  return seen;
}

/** Waits until the file has not grown for 300 ms; at most 10 s. */
async function settled(file: string): Promise<void> {
  for (let size = -1, tries = 0; tries < 33 && size !== statSync(file).size; tries++) {
    size = statSync(file).size;
    await new Promise((done) => setTimeout(done, 300));
  }
}

/** Sends while the balancer runs in this mode; what came out and what it counted. */
async function through(
  t: TestContext,
  mode: 'native' | 'generic',
  work: () => Promise<void>,
): Promise<{ file: string; counts: SplitCounts }> {
  const directory = mkdtempSync(join(tmpdir(), 'split-'));
  t.after(() => rmSync(directory, { recursive: true }));
  const file = join(directory, 'out.pcap');
  const mac = await setUp(t);
  const script = fileURLToPath(new URL('../support/split-node.js', import.meta.url));
  const node = start(LB, [process.execPath, script, mode, mac]);
  await said(node, 'stdout', 'ready');
  const options = ['-i', 'peer', '-Q', 'in', '-n', '-U', '--immediate-mode', '-B', '32768', '-w', file];
  const capture = start(PEER, [
    'tcpdump',
    ...options,
    'dst host 10.9.1.1 or dst host fd00:9:1::1 or dst host 192.0.2.10',
  ]);
  await said(capture, 'stderr', 'listening on');
  await work();
  await settled(file);
  capture.kill('SIGINT');
  await once(capture, 'close');
  let output = '';
  node.stdout?.on('data', (text) => {
    output += text;
  });
  node.stdin?.end();
  await once(node, 'close');
  return { file, counts: JSON.parse(output) as SplitCounts };
}

const SIZES = [1472, 2972]; // one packet of 1500 bytes; three fragments, two of 1500 bytes

test('split: IPv4 without DF that does not fit arrives whole, in frames that fit', { timeout: 120_000 }, async (t) => {
  const { file, counts } = await through(t, 'native', async () => {
    for (const { port } of WRAPS) for (const size of SIZES) await send(port, size, COUNT);
  });
  const { whole, frames, largest } = check(file);
  for (const [at, { name }] of WRAPS.entries()) {
    for (const size of SIZES) assert.equal(whole.get(`${at}/${size}`), COUNT, `${name}, ${size} bytes`);
    assert.equal(frames[at], COUNT * (2 + 5), `${name}: frames`);
    assert.equal(counts.packets[at], COUNT * (1 + 3), `${name}: each packet counted once`);
    assert.equal(counts.bytes[at], COUNT * (1500 + 2 * 1500 + 40), `${name}: its bytes before the split`);
  }
  assert.ok(largest <= FRAME_MAX, `a frame of ${largest} bytes`);
  assert.equal(counts.outcomes[Reason.SPLIT], WRAPS.length * COUNT * 3);
  assert.equal(counts.outcomes[Reason.TOO_BIG_ANSWERED], 0);
});

test('split: generic XDP answers instead, and the sender makes its packets smaller', { timeout: 60_000 }, async (t) => {
  const { file, counts } = await through(t, 'generic', async () => {
    for (const { port } of WRAPS) await send(port, 1472, 50);
  });
  const { whole } = check(file);
  assert.equal(counts.outcomes[Reason.SPLIT], 0);
  assert.ok((counts.outcomes[Reason.TOO_BIG_ANSWERED] ?? 0) > 0);
  assert.equal(whole.get('3/1472'), 50);
});
