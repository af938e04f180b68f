// SPDX-License-Identifier: Apache-2.0
// What goes wrong with a frame on its way here.
import type { Random } from './random.js';

const SOME_LENGTHS = [-8, -4, -1, 1, 4, 8, 40];

/** In front of an IP packet: MACs, up to three tags, the type. Behind it, at times, padding. */
export function framed(random: Random, packet: Buffer): Buffer {
  const tags = random.once(8) ? random.pick([1, 1, 2, 2, 3]) : 0;
  const head: Buffer[] = [Buffer.from('020000000001020000000002', 'hex')];
  for (let tag = 0; tag < tags; tag++) {
    head.push(random.pick([Buffer.of(0x81, 0), Buffer.of(0x88, 0xa8)]), random.bytes(2));
  }
  head.push(Buffer.from((packet[0] ?? 0) >> 4 === 6 ? '86dd' : '0800', 'hex'), packet);
  if (random.once(12)) head.push(Buffer.alloc(1 + random.below(46), 0xee));
  return Buffer.concat(head);
}

/** Where the IP packet begins in a frame that `framed` made. */
function ipStart(frame: Buffer): number {
  let at = 12;
  while (at + 4 <= frame.length && [0x8100, 0x88a8].includes(frame.readUInt16BE(at))) at += 4;
  return at + 2;
}

/** One to three faults. The frame is a copy. */
export function mutated(random: Random, original: Buffer): Buffer {
  const frame = Buffer.from(original);
  for (let faults = 1 + random.below(3); faults > 0; faults--) {
    const ip = ipStart(frame);
    const kind = random.below(6);
    const v6 = (frame[ip] ?? 0) >> 4 === 6;
    // Behind the MACs, within the longest headers.
    const at = 12 + random.below(Math.max(1, Math.min(frame.length - 12, random.pick([60, 60, 100, 200]))));
    if (kind === 0) frame[at] = (frame[at] ?? 0) ^ (1 << random.below(8));
    else if (kind === 1) frame[at] = random.below(256);
    else if (kind === 2) frame[at] = random.below(16) * 16 + random.below(8);
    else if (kind === 3 && frame.length >= ip + 6) {
      const field = ip + (v6 ? 4 : 2);
      frame.writeUInt16BE((frame.readUInt16BE(field) + random.pick(SOME_LENGTHS)) & 0xffff, field);
    } else if (kind === 4) {
      const field = ip + (v6 ? 40 : 20) + 4; // UDP's length
      if (frame.length >= field + 2) {
        frame.writeUInt16BE((frame.readUInt16BE(field) + random.pick(SOME_LENGTHS)) & 0xffff, field);
      }
    } else if (kind === 5 && frame.length > 14) return frame.subarray(0, 14 + random.below(frame.length - 13));
  }
  return frame;
}
