// SPDX-License-Identifier: Apache-2.0
// The options of `services put` beyond where it listens and who answers.
import { InvalidArgumentError, Option } from 'commander';
import { MSS_MAX, MSS_MIN } from '../model/objects.js';
import { integerOf } from './help.js';
import type { Io } from './io.js';
import type { ShownService } from './shapes.js';

const repeated = (text: string, before: readonly string[] | undefined): readonly string[] => [...(before ?? []), text];

function rateLimit(text: string): { packetsPerSecond: number; burst?: number } {
  const [rate = '', burst, ...more] = text.split(':');
  if (more.length > 0) throw new InvalidArgumentError('wanted PACKETS or PACKETS:BURST');
  const number = (part: string): number => integerOf(part, 1, 10_000_000);
  return { packetsPerSecond: number(rate), ...(burst !== undefined && { burst: number(burst) }) };
}

export const serviceOptions: readonly Option[] = [
  new Option('--forwarding <how>', 'how packets reach a backend').choices(['ipip', 'gue', 'l2', 'nat']),
  new Option('--snat <none|auto|address,...>', "with forwarding nat: what becomes of the client's address"),
  new Option('--mss <auto|bytes>', 'with forwarding nat: the segment size a SYN may ask for at most').argParser(
    (text: string) => (text === 'auto' ? text : integerOf(text, MSS_MIN, MSS_MAX)),
  ),
  new Option('--affinity <what>', 'what keeps clients with a backend').choices(['flow', 'source', 'quic-cid']),
  new Option('--affinity-prefix <bits>', "with affinity source: bits of the client's address").argParser(
    (text: string) => integerOf(text, 1, 128),
  ),
  new Option('--no-flow-memory', 'remember no flow: the ring alone decides'),
  new Option('--allow <prefix|@file>', 'a source that may send; once for each, or a file of them').argParser(repeated),
  new Option('--deny <prefix|@file>', 'a source that may not send; once for each, or a file of them').argParser(
    repeated,
  ),
  new Option('--rate-limit <packets[:burst]>', 'packets per second and source').argParser(rateLimit),
];

/** The prefixes given, those of files (@PATH, @- is standard input) in their place: words, and comments from # to the end of a line. */
async function prefixesOf(io: Io, given: unknown): Promise<string[] | undefined> {
  if (given === undefined) return undefined;
  const lists = (given as readonly string[]).map(async (each) => {
    if (!each.startsWith('@')) return [each];
    const text = await io.read(each.slice(1));
    return text
      .replaceAll(/#.*/g, '')
      .split(/\s+/)
      .filter((word) => word !== '');
  });
  return (await Promise.all(lists)).flat();
}

/** The fields of a service that its options set. Throws 'invalid' for a file that cannot be read. */
export async function serviceBody(options: Record<string, unknown>, io: Io): Promise<Record<string, unknown>> {
  const {
    address,
    port,
    protocol,
    pool,
    forwarding,
    affinity,
    affinityPrefix,
    allow,
    deny,
    rateLimit,
    flowMemory,
    snat,
    mss,
  } = options;
  const family = String(address).includes(':') ? 'ipv6' : 'ipv4';
  return {
    address,
    port,
    protocol,
    pool,
    forwarding,
    affinity,
    affinityPrefix: affinityPrefix === undefined ? undefined : { [family]: affinityPrefix },
    flowMemory: flowMemory === false ? false : undefined,
    allow: await prefixesOf(io, allow),
    deny: await prefixesOf(io, deny),
    rateLimit,
    snat: snat === undefined || snat === 'none' || snat === 'auto' ? snat : String(snat).split(','),
    mss,
  };
}

/** What a service has beyond its row in the table: a line for each option that is not at its default. */
export function serviceLines(service: ShownService): readonly string[] {
  const { forwarding, affinity, affinityPrefix, address, flowMemory, allow, deny, rateLimit, snat, mss } = service;
  const bits = affinityPrefix?.[address.includes(':') ? 'ipv6' : 'ipv4'];
  const list = (prefixes: readonly string[] | undefined): string | false =>
    prefixes !== undefined &&
    prefixes.length > 0 &&
    `${prefixes.slice(0, 3).join(', ')}${prefixes.length > 3 ? ` and ${prefixes.length - 3} more` : ''}`;
  const lines: [string, string | false | undefined][] = [
    ['Forwarding', forwarding !== 'ipip' && forwarding],
    ['Source NAT', snat !== undefined && (typeof snat === 'string' ? snat : snat.join(', '))],
    ['MSS', mss !== undefined && `at most ${mss === 'auto' ? 'what fits the ways' : mss}`],
    ['Affinity', affinity !== 'flow' && `${affinity}${bits === undefined ? '' : ` /${bits}`}`],
    ['Flow memory', flowMemory === false && 'none: the ring alone decides'],
    ['Allow', list(allow)],
    ['Deny', list(deny)],
    ['Rate limit', rateLimit && `${rateLimit.packetsPerSecond} packets/s per source, burst ${rateLimit.burst}`],
  ];
  const shown = lines.filter(([, text]) => text);
  return shown.length === 0 ? [] : ['', ...shown.map(([title, text]) => `${title.padEnd(11)}  ${text}`)];
}
