// SPDX-License-Identifier: Apache-2.0
// Frames as tshark reads them: an implementation of everybody's, with every checksum verified.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Ports whose payload is nobody's business: random bytes. */
const PLAIN = [53, 80, 443, 8080];
const CHECKED = ['ip', 'tcp', 'udp'];

export const FIELDS = [
  'frame.protocols',
  '_ws.malformed',
  'eth.dst',
  'vlan.id',
  'ip.src',
  'ip.dst',
  'ipv6.src',
  'ipv6.dst',
  'ip.ttl',
  'ipv6.hlim',
  'ip.flags.df',
  'ip.dsfield',
  'ipv6.tclass',
  'udp.dstport',
  'icmp.type',
  'icmpv6.type',
  'icmp.mtu',
  'icmpv6.mtu',
  'ip.checksum.status',
  'udp.checksum.status',
  'tcp.checksum.status',
  'icmp.checksum.status',
  'icmpv6.checksum.status',
] as const;

/** All values of each field, the outermost header's first. */
export type Reading = Readonly<Record<(typeof FIELDS)[number], readonly string[]>>;

/** tshark's checksum states. */
export const BAD = '0';
export const GOOD = '1';

/** A capture file (libpcap's own format, link type Ethernet) of these frames. */
function pcap(frames: readonly Uint8Array[]): Buffer {
  const parts = [Buffer.from(Uint32Array.of(0xa1b2c3d4, 0x00040002, 0, 0, 65535, 1).buffer)];
  for (const [at, frame] of frames.entries()) {
    parts.push(Buffer.from(Uint32Array.of(at, 0, frame.length, frame.length).buffer), Buffer.from(frame));
  }
  return Buffer.concat(parts);
}

/** One reading for each frame. tshark 4.0 has no dissector of GUE; that of IP reads variant 1, whose payload is IP of either version. */
export function dissect(frames: readonly Uint8Array[]): Reading[] {
  const folder = mkdtempSync(join(tmpdir(), 'fairlead-tshark-'));
  const file = join(folder, 'frames.pcap');
  try {
    writeFileSync(file, pcap(frames)); // a file: it reads no sockets, and that is what a child gets as input here
    return read(file);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function read(file: string): Reading[] {
  const lines = execFileSync(
    'tshark',
    [
      ...[
        '-r',
        file,
        '-n',
        '-T',
        'fields',
        '-E',
        'separator=|',
        '-E',
        'occurrence=a',
        '-d',
        'udp.port==6080,ip',
        '-d',
        'tcp.port==6080,data',
      ],
      ...PLAIN.flatMap((port) => ['-d', `udp.port==${port},data`, '-d', `tcp.port==${port},data`]),
      ...CHECKED.flatMap((name) => ['-o', `${name}.check_checksum:TRUE`]),
      ...['-o', 'ip.defragment:FALSE', '-o', 'ipv6.defragment:FALSE', '-o', 'tcp.desegment_tcp_streams:FALSE'],
      ...FIELDS.flatMap((name) => ['-e', name]),
    ],
    { encoding: 'utf8', maxBuffer: 1 << 28, stdio: ['ignore', 'pipe', 'pipe'] },
  );
  const rows = lines.split('\n').slice(0, -1);
  return rows.map((row) => {
    const values = row.split('|').map((all) => all.split(',').filter(Boolean));
    return Object.fromEntries(FIELDS.map((name, at) => [name, values[at] ?? []])) as unknown as Reading;
  });
}
