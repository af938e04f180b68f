// SPDX-License-Identifier: Apache-2.0
import { isIP } from 'node:net';
import { IPv6 } from 'ip-num';
import { FairleadError } from './errors.js';

/** An IP address. `bytes` is in network order, 4 or 16 of them; `text` is canonical (RFC 5952 for IPv6). */
export interface Address {
  readonly family: 4 | 6;
  readonly bytes: Uint8Array;
  readonly text: string;
}

/**
 * Reads the text of one IPv4 or IPv6 address, strictly: four decimal octets without leading zeros, or RFC 4291 text.
 * Throws 'invalid' for anything else, and for zone ids and v4-mapped IPv6, which name something other than an address on the wire.
 */
export function parseAddress(text: string): Address {
  const family = isIP(text);
  if (family === 0 || text.includes('%')) {
    throw new FairleadError('invalid', `"${text.slice(0, 60)}" is not an IPv4 or IPv6 address`);
  }
  const bytes = family === 4 ? Uint8Array.from(text.split('.'), Number) : toBytes(new IPv6(text).getValue());
  if (family === 6 && isMapped(bytes)) {
    throw new FairleadError(
      'invalid',
      `"${text}" is IPv4 mapped into IPv6; write it as ${formatAddress(bytes.subarray(12))}`,
    );
  }
  return { family: family === 4 ? 4 : 6, bytes, text: formatAddress(bytes) };
}

/** The family of a canonical address text. */
export function familyOf(text: string): 4 | 6 {
  return text.includes(':') ? 6 : 4;
}

/** Why a VIP or a backend cannot have this address, as the end of a sentence; null when it can. */
export function whyNotUnicast(text: string): string | null {
  let address: Address;
  try {
    address = parseAddress(text);
  } catch (error) {
    if (error instanceof FairleadError) return error.message;
    throw error;
  }
  const kind = specialKind(address);
  return kind === null ? null : `${text} is ${kind} address; use a unicast one`;
}

/** The canonical text of 4 or 16 bytes in network order; IPv6 as RFC 5952 section 4 says. Throws 'invalid' for another length. */
export function formatAddress(bytes: Uint8Array): string {
  if (bytes.length === 4) return `${bytes[0]}.${bytes[1]}.${bytes[2]}.${bytes[3]}`;
  if (bytes.length !== 16) throw new FairleadError('invalid', `an address has 4 or 16 bytes, got ${bytes.length}`);
  const group = (i: number): number => ((bytes[2 * i] ?? 0) << 8) | (bytes[2 * i + 1] ?? 0);
  let start = 8;
  let count = 1; // one group of zeros is not shortened
  for (let i = 0, run = 0; i < 8; i++) {
    run = group(i) === 0 ? run + 1 : 0;
    if (run <= count) continue; // strictly longer: the first of equal runs is shortened
    start = i - run + 1;
    count = run;
  }
  let text = '';
  for (let i = 0; i < 8; i++) {
    if (i === start) text += '::';
    if (i < start || i >= start + count)
      text += i === 0 || i === start + count ? group(i).toString(16) : `:${group(i).toString(16)}`;
  }
  return text;
}

function toBytes(value: bigint): Uint8Array {
  const bytes = new Uint8Array(16);
  let rest = value;
  for (let i = 15; i >= 0; i--, rest >>= 8n) bytes[i] = Number(rest & 0xffn);
  return bytes;
}

function isMapped(bytes: Uint8Array): boolean {
  return bytes.subarray(0, 10).every((b) => b === 0) && bytes[10] === 0xff && bytes[11] === 0xff;
}

function specialKind({ family, bytes }: Address): string | null {
  const [first = 0] = bytes;
  const last = bytes[bytes.length - 1];
  if (family === 4) {
    if (first === 0) return 'an unspecified';
    if (first === 127) return 'a loopback';
    if (first >= 224 && first < 240) return 'a multicast';
    return bytes.every((b) => b === 255) ? 'a broadcast' : null;
  }
  if (first === 0xff) return 'a multicast';
  if (!bytes.subarray(0, 15).every((b) => b === 0)) return null;
  if (last === 0) return 'an unspecified';
  return last === 1 ? 'a loopback' : null;
}
