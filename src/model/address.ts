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

/** An address prefix. `text` is canonical: address, slash, bits. */
export interface Prefix {
  readonly family: 4 | 6;
  readonly text: string;
}

/**
 * Reads an address with or without /BITS; without, it stands for itself alone. Throws 'invalid' for anything else, and when bits behind
 * the prefix are set: that is more often a slip than meant. Quick, for lists of 100,000 of them.
 */
export function parsePrefix(text: string): Prefix {
  const slash = text.indexOf('/');
  const address = slash < 0 ? text : text.slice(0, slash);
  const family = isIP(address);
  const most = family === 6 ? 128 : 32;
  const bits = slash < 0 ? most : Number(text.slice(slash + 1));
  const wellFormed = slash < 0 || /^(0|[1-9]\d{0,2})$/.test(text.slice(slash + 1));
  if (family === 0 || address.includes('%') || !wellFormed || bits > most) {
    throw new FairleadError('invalid', `"${text.slice(0, 60)}" is not an address prefix such as 10.0.0.0/8`);
  }
  const bytes = addressBytes(address);
  const network = bytes.map((byte, at) => byte & (0xff00 >> Math.min(8, Math.max(0, bits - at * 8))));
  const canonical = `${formatAddress(network)}/${bits}`;
  if (network.some((byte, at) => byte !== bytes[at])) {
    throw new FairleadError('invalid', `"${text}" has bits set behind the prefix; write ${canonical}`);
  }
  return { family: family === 6 ? 6 : 4, text: canonical };
}

/** Why a text is no prefix, as a sentence; null when it is one. */
export function whyNotPrefix(text: string): string | null {
  try {
    parsePrefix(text);
    return null;
  } catch (error) {
    if (error instanceof FairleadError) return error.message;
    throw error;
  }
}

/** The bytes of an address whose text is known to be one (net.isIP), in network order. */
export function addressBytes(text: string): Uint8Array {
  if (!text.includes(':')) return Uint8Array.from(text.split('.'), Number);
  const bytes = new Uint8Array(16);
  const put = (groups: readonly string[], start: number): void => {
    let at = start;
    for (const group of groups) {
      if (group.includes('.')) {
        bytes.set(Uint8Array.from(group.split('.'), Number), at);
        at += 4;
      } else {
        const value = Number.parseInt(group, 16);
        bytes[at++] = value >> 8;
        bytes[at++] = value;
      }
    }
  };
  const sizeOf = (groups: readonly string[]): number =>
    groups.reduce((size, group) => size + (group.includes('.') ? 4 : 2), 0);
  const [head = '', tail] = text.split('::');
  const first = head === '' ? [] : head.split(':');
  const last = tail === undefined || tail === '' ? [] : tail.split(':');
  put(first, 0);
  put(last, 16 - sizeOf(last));
  return bytes;
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
  if (bytes.length === 4) return bytes.join('.');
  if (bytes.length !== 16) throw new FairleadError('invalid', `an address has 4 or 16 bytes, got ${bytes.length}`);
  const groups = Array.from({ length: 8 }, (_, i) => ((bytes[2 * i] ?? 0) << 8) | (bytes[2 * i + 1] ?? 0));
  const [start, count] = longestZeroRun(groups);
  const hex = groups.map((group) => group.toString(16));
  if (count < 2) return hex.join(':');
  return `${hex.slice(0, start).join(':')}::${hex.slice(start + count).join(':')}`;
}

function longestZeroRun(groups: readonly number[]): [start: number, count: number] {
  let best: [number, number] = [0, 0];
  for (let i = 0, run = 0; i < groups.length; i++) {
    run = groups[i] === 0 ? run + 1 : 0;
    if (run > best[1]) best = [i - run + 1, run]; // strictly longer: the first of equal runs is shortened
  }
  return best;
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
