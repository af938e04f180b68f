// SPDX-License-Identifier: Apache-2.0
// The key nat.egress: which private sources leave by which interface with which addresses.
import { isIPv6 } from 'node:net';
import { familyOf, parseAddress } from '../model/address.js';
import { MSS_MAX, MSS_MIN, type MssClamp } from '../model/objects.js';
import { canonicalPrefixes } from '../model/prefix.js';
import { type Refuse, type Rule, show, textOf } from './config-rules.js';

/** Sources in `from` (canonical prefixes) that leave by `interface` are translated to one of `to`, all of one family. */
export interface EgressConfig {
  readonly from: readonly string[];
  readonly interface: string;
  readonly to: readonly string[];
  /** As in Service. */
  readonly mss?: MssClamp;
}

const WANTED = '{ from: [10.0.0.0/8], interface: eth0, to: [192.0.2.1] }';
const ADDRESSES_MAX = 16; // NAT_POOL_SIZE

/** A list, empty when left out; not from the environment. */
export const egressList: Rule<readonly EgressConfig[]> = {
  read(value, refuse) {
    if (!Array.isArray(value)) {
      refuse(`got ${show(value)}, wanted a list of ${WANTED}`);
      return undefined;
    }
    const read = value.flatMap((item, at) => readEgress(item, at, refuse) ?? []);
    for (const [at, { from, interface: name }] of read.entries()) {
      const twin = read.findIndex(
        (other, i) => i < at && other.interface !== name && other.from.some((each) => from.includes(each)),
      );
      if (twin >= 0) refuse(`has a prefix that entry ${twin} sends out of another interface`, [at, 'from']);
    }
    return read;
  },
  fromText: (text) => JSON.parse(text),
  fallback: () => [],
};

function readEgress(item: unknown, at: number, refuse: Refuse): EgressConfig | undefined {
  if (typeof item !== 'object' || item === null || Array.isArray(item)) {
    refuse(`got ${show(item)}, wanted ${WANTED}`, [at]);
    return undefined;
  }
  const { from, interface: name, to, mss, ...others }: Record<string, unknown> = { ...item };
  for (const other of Object.keys(others)) refuse('unknown key; known: from, interface, to, mss', [at, other], 'key');
  const goodName = textOf(name, /^(?!\.{1,2}$)[^\s/:]{1,15}$/);
  if (goodName === undefined) refuse(`got ${show(name)}, wanted the name of an interface, as eth0`, [at, 'interface']);
  const goodFrom = readPrefixes(from, (why) => refuse(why, [at, 'from']));
  const goodTo = readAddresses(to, (why) => refuse(why, [at, 'to']));
  const goodMss = mss === undefined || mss === 'auto' || isMss(mss);
  if (!goodMss) refuse(`got ${show(mss)}, wanted "auto" or ${MSS_MIN} to ${MSS_MAX} bytes`, [at, 'mss']);
  if (goodName === undefined || goodFrom === undefined || goodTo === undefined) return undefined;
  if (goodFrom.some((prefix) => familyOf(prefix) !== familyOf(goodTo[0] ?? ''))) {
    refuse('from and to are of two families', [at, 'from']);
    return undefined;
  }
  return { from: goodFrom, interface: goodName, to: goodTo, ...(mss !== undefined && { mss: mss as MssClamp }) };
}

const isMss = (value: unknown): boolean =>
  Number.isInteger(value) && Number(value) >= MSS_MIN && Number(value) <= MSS_MAX;

function readPrefixes(value: unknown, refuse: (why: string) => void): readonly string[] | undefined {
  if (!Array.isArray(value) || value.length === 0 || value.some((each) => typeof each !== 'string')) {
    refuse(`got ${show(value)}, wanted a list of prefixes such as [10.0.0.0/8]`);
    return undefined;
  }
  let wrong: string | null = null;
  const read = canonicalPrefixes(value as string[], (_, why) => {
    wrong ??= why;
    return true;
  });
  if (wrong !== null) refuse(wrong);
  return wrong === null ? read.flatMap((each) => each ?? []) : undefined;
}

function readAddresses(value: unknown, refuse: (why: string) => void): readonly string[] | undefined {
  if (!Array.isArray(value) || value.length === 0 || value.length > ADDRESSES_MAX) {
    refuse(`got ${show(value)}, wanted a list of 1 to ${ADDRESSES_MAX} addresses`);
    return undefined;
  }
  const read: string[] = [];
  for (const each of value) {
    try {
      read.push(parseAddress(String(each)).text);
    } catch {
      refuse(`got ${show(each)}, wanted an address such as 192.0.2.1`);
      return undefined;
    }
  }
  if (new Set(read).size !== read.length) refuse('has an address twice');
  else if (read.some((each) => isIPv6(each) !== isIPv6(read[0] ?? ''))) refuse('has addresses of two families');
  else return read;
  return undefined;
}
