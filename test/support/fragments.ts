// SPDX-License-Identifier: Apache-2.0
// IP fragments, made byte by byte.
import { checksum } from './packets.js';

/** A frame's packet, without IPv4 options or extension headers, in fragments of at most `size` bytes of payload, a multiple of 8. */
export function fragmentsOf(whole: Buffer, id: number, size = 1400): Buffer[] {
  const v6 = whole.readUInt16BE(12) === 0x86dd;
  const head = v6 ? 40 : 20;
  const header = whole.subarray(14, 14 + head);
  const payload = whole.subarray(14 + head);
  const parts: Buffer[] = [];
  for (let at = 0; at < payload.length; at += size) {
    const part = payload.subarray(at, at + size);
    const more = at + size < payload.length ? 1 : 0;
    const own = Buffer.from(header);
    if (v6) {
      const extension = Buffer.of(own.readUInt8(6), 0, 0, 0, 0, 0, 0, 0);
      extension.writeUInt16BE(at | more, 2);
      extension.writeUInt32BE(id, 4);
      own.writeUInt8(44, 6);
      own.writeUInt16BE(8 + part.length, 4);
      parts.push(Buffer.concat([whole.subarray(0, 14), own, extension, part]));
      continue;
    }
    own.writeUInt16BE(head + part.length, 2);
    own.writeUInt16BE(id, 4);
    own.writeUInt16BE((more << 13) | (at / 8), 6);
    own.writeUInt16BE(0, 10);
    own.writeUInt16BE(checksum(own), 10);
    parts.push(Buffer.concat([whole.subarray(0, 14), own, part]));
  }
  return parts;
}
