// SPDX-License-Identifier: Apache-2.0
// Child of agent.test.ts, in a network namespace of its own where listeners answer with SYN cookies: the ACK that ends a handshake is kept from
// its listener, and comes to the agent with a list of owners. Prints what the agent counted, by family: for that ACK, and for one with another cookie.
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { agentResults, loadAgent } from '../../src/agent/program.js';
import { ownersList } from '../model/outer.js';
import { frame, ipv4Header } from '../support/packets.js';

const KEY = new Uint8Array(16);
const ip = (line: string): void => void execFileSync('ip', line.split(' '));

ip('link set lo up');
writeFileSync('/proc/sys/net/ipv4/tcp_syncookies', '2');
const directory = mkdtempSync(join(tmpdir(), 'fairlead-cookie-'));
const object = await loadAgent(KEY, ['10.9.0.10/32'], null);
const [agent, counted] = [object.program('xdp_agent'), object.map('agent_results')];
const tc = object.program('tc_agent');
const said: Record<number, string[]> = {};

for (const [family, host] of [
  [4, '127.0.0.1'],
  [6, '::1'],
] as const) {
  const server = createServer();
  server.listen(0, host);
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const rule = `tcp dport ${port} tcp flags & (syn | ack) == ack drop`;
  const rules = `table inet t${family} {\nchain in {\ntype filter hook input priority 0\n${rule}\n}\n}\n`;
  execFileSync('nft', ['-f', '-'], { input: rules });
  const file = join(directory, `${family}.pcap`);
  const tcpdump = spawn('tcpdump', ['-i', 'lo', '-c', '3', '-U', '-Z', 'root', '-w', file, `tcp port ${port}`], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  await once(tcpdump.stderr, 'data'); // it listens
  const client = connect(port, host);
  await once(client, 'connect');
  await once(tcpdump, 'exit');
  const packet = lastPacket(readFileSync(file)).subarray(14);
  said[family] = [await meets(packet), await meets(withCookie(packet, family))];
  client.destroy();
  server.close();
}
rmSync(directory, { recursive: true });
process.stdout.write(JSON.stringify(said));
process.exit(0);

/** pcap: a header of 24 bytes, then 16 before each packet, its bytes as the third word. */
function lastPacket(file: Buffer): Buffer {
  let last: Buffer = Buffer.alloc(0);
  for (let at = 24; at < file.length; ) {
    const size = file.readUInt32LE(at + 8);
    last = file.subarray(at + 16, at + 16 + size);
    at += 16 + size;
  }
  return last;
}

function withCookie(packet: Buffer, family: 4 | 6): Buffer {
  const other = Buffer.from(packet);
  const acknowledged = (family === 4 ? 20 : 40) + 8;
  other.writeUInt32BE((other.readUInt32BE(acknowledged) + 0x01010101) >>> 0, acknowledged);
  return other;
}

async function meets(inner: Buffer): Promise<string> {
  const v6 = (inner[0] ?? 0) >> 4 === 6;
  const [from, to] = v6
    ? [inner.subarray(8, 24), inner.subarray(24, 40)]
    : [inner.subarray(12, 16), inner.subarray(16, 20)];
  const ports = v6 ? 40 : 20;
  const list = ownersList(
    new Uint32Array(KEY.buffer),
    { from, to, fromPort: inner.readUInt16BE(ports), toPort: inner.readUInt16BE(ports + 2), v6 },
    [Buffer.of(10, 9, 0, 22)],
  );
  const size = 8 + list.length + inner.length;
  const udp = Buffer.of(0xc0, 1, 6080 >> 8, 6080 & 255, size >> 8, size & 255, 0, 0);
  const input = frame(Buffer.concat([ipv4Header('10.9.0.10', '10.9.0.21', 17, size), udp, list, inner]));
  const earlier = agentResults(counted);
  if (Buffer.from(agent.run(input, null).data).equals(input)) tc.run(input, null);
  return [...agentResults(counted)]
    .filter(([name, packets]) => packets !== earlier.get(name))
    .map(([name, packets]) => `${name} ${packets - (earlier.get(name) ?? 0)}`)
    .join(', ');
}
