// SPDX-License-Identifier: Apache-2.0
// The options of `services put` beyond where it listens and who answers.
import { InvalidArgumentError, Option } from 'commander';
import { integerOf } from './help.js';

const repeated = (text: string, before: readonly string[] | undefined): readonly string[] => [...(before ?? []), text];

function rateLimit(text: string): { packetsPerSecond: number; burst?: number } {
  const [rate = '', burst, ...more] = text.split(':');
  if (more.length > 0) throw new InvalidArgumentError('wanted PACKETS or PACKETS:BURST');
  const number = (part: string): number => integerOf(part, 1, 10_000_000);
  return { packetsPerSecond: number(rate), ...(burst !== undefined && { burst: number(burst) }) };
}

export const serviceOptions: readonly Option[] = [
  new Option('--forwarding <how>', 'how packets reach a backend').choices(['ipip', 'gue', 'l2']),
  new Option('--affinity <what>', 'what keeps clients with a backend').choices(['flow', 'source', 'quic-cid']),
  new Option('--affinity-prefix <bits>', "with affinity source: bits of the client's address").argParser(
    (text: string) => integerOf(text, 1, 128),
  ),
  new Option('--no-flow-memory', 'remember no flow: the ring alone decides'),
  new Option('--allow <prefix>', 'a source that may send; once for each').argParser(repeated),
  new Option('--deny <prefix>', 'a source that may not send; once for each').argParser(repeated),
  new Option('--rate-limit <packets[:burst]>', 'packets per second and source').argParser(rateLimit),
];

/** The fields of a service that its options set. */
export function serviceBody(options: Record<string, unknown>): Record<string, unknown> {
  const { address, port, protocol, pool, forwarding, affinity, affinityPrefix, allow, deny, rateLimit, flowMemory } =
    options;
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
    allow,
    deny,
    rateLimit,
  };
}
