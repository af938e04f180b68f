// SPDX-License-Identifier: Apache-2.0
// Address prefixes, by the 100,000: read from character codes into numbers, without an object for each.
import { formatAddress } from './address.js';

/** Bytes of the address read last, in network order; the first 4 for IPv4. */
const bytes = new Uint8Array(16);
const DOT = 46;
const COLON = 58;
const ZERO = 48;

/** The number in the digits from `start` to `end`, without a leading zero; -1 when it is none or beyond `most`. */
function decimal(text: string, start: number, end: number, most: number): number {
  if (end <= start || end - start > 3 || (end - start > 1 && text.charCodeAt(start) === ZERO)) return -1;
  let value = 0;
  for (let at = start; at < end; at++) {
    const digit = text.charCodeAt(at) - ZERO;
    if (digit < 0 || digit > 9) return -1;
    value = value * 10 + digit;
  }
  return value <= most ? value : -1;
}

/** Reads dotted decimals between `start` and `end` into `bytes` from `into` on. */
function readIpv4(text: string, start: number, end: number, into = 0): boolean {
  let from = start;
  for (let part = 0; part < 4; part++) {
    let stop = from;
    while (stop < end && text.charCodeAt(stop) !== DOT) stop++;
    const value = decimal(text, from, stop, 255);
    if (value < 0 || part < 3 !== stop < end) return false;
    bytes[into + part] = value;
    from = stop + 1;
  }
  return true;
}

function hexDigit(code: number): number {
  if (code >= ZERO && code <= ZERO + 9) return code - ZERO;
  const letter = (code | 32) - 97;
  return letter >= 0 && letter < 6 ? letter + 10 : -1;
}

/** RFC 4291 section 2.2, without a zone. */
function readIpv6(text: string, end: number): boolean {
  let size = 0; // bytes read
  let gap = -1; // byte that "::" stands before
  let at = 0;
  if (text.charCodeAt(0) === COLON) {
    if (text.charCodeAt(1) !== COLON) return false;
    gap = 0;
    at = 2;
  }
  while (at < end) {
    const start = at;
    let value = 0;
    for (let digit = hexDigit(text.charCodeAt(at)); digit >= 0 && at < end; digit = hexDigit(text.charCodeAt(++at)))
      value = value * 16 + digit;
    if (text.charCodeAt(at) === DOT) {
      if (size > 12 || !readIpv4(text, start, end, size)) return false;
      size += 4;
      break;
    }
    if (at === start || at - start > 4 || size === 16) return false;
    bytes[size++] = value >> 8;
    bytes[size++] = value;
    if (at === end) break;
    if (text.charCodeAt(at++) !== COLON || at === end) return false;
    if (text.charCodeAt(at) !== COLON) continue;
    if (gap >= 0) return false;
    gap = size;
    at++;
  }
  if (gap < 0) return size === 16;
  if (size > 14) return false;
  bytes.copyWithin(16 - (size - gap), gap, size);
  bytes.fill(0, gap, 16 - (size - gap));
  return true;
}

/** Why the text read last is none; a sentence for the operator. */
let why = '';

/** Reads into `bytes`; the bits of the prefix, or -1 and the reason in `why`. */
function read(text: string): number {
  const slash = text.indexOf('/');
  const end = slash < 0 ? text.length : slash;
  const v6 = text.includes(':');
  const most = v6 ? 128 : 32;
  const bits = slash < 0 ? most : decimal(text, slash + 1, text.length, most);
  if (bits < 0 || !(v6 ? readIpv6(text, end) : readIpv4(text, 0, end))) {
    why = `"${text.slice(0, 60)}" is not an address prefix such as ${v6 ? '2001:db8::/32' : '10.0.0.0/8'}`;
    return -1;
  }
  for (let at = bits >> 3, mask = 0xff >> (bits & 7); at < most / 8; at++, mask = 0xff) {
    if (((bytes[at] ?? 0) & mask) === 0) continue;
    why = `"${text}" has bits set behind the prefix; write ${masked(bits, most / 8)}`;
    return -1;
  }
  return bits;
}

const masked = (bits: number, size: number): string =>
  `${formatAddress(bytes.slice(0, size).map((byte, at) => byte & (0xff00 >> Math.min(8, Math.max(0, bits - at * 8)))))}/${bits}`;

/**
 * Reads addresses with or without /BITS (without, one stands for itself alone) and answers their canonical text: address, slash, bits.
 * Bits set behind the prefix are refused: that is more often a slip than meant. `refuse` is told of each that is no prefix, whose
 * place in the answer is undefined; once it answers false the rest is not looked at.
 */
export function canonicalPrefixes(
  texts: readonly (string | undefined)[],
  refuse: (at: number, why: string) => boolean,
): (string | undefined)[] {
  const canonical = new Array<string | undefined>(texts.length).fill(undefined);
  for (const [at, text] of texts.entries()) {
    if (text === undefined) continue;
    const bits = read(text);
    if (bits < 0) {
      if (!refuse(at, why)) break;
    } else if (text.includes(':')) canonical[at] = `${formatAddress(bytes)}/${bits}`;
    else canonical[at] = text.includes('/') ? text : `${text}/${bits}`; // IPv4 is written in one way only
  }
  return canonical;
}

/** Writes the address of a canonical prefix, 4 or 16 bytes, at `at`; answers its bits. */
export function writePrefix(prefix: string, into: Uint8Array, at: number): number {
  const slash = prefix.indexOf('/');
  const v6 = prefix.includes(':');
  if (v6) readIpv6(prefix, slash);
  else readIpv4(prefix, 0, slash);
  for (let byte = 0; byte < (v6 ? 16 : 4); byte++) into[at + byte] = bytes[byte] ?? 0;
  return decimal(prefix, slash + 1, prefix.length, 128);
}
