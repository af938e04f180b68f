// SPDX-License-Identifier: Apache-2.0
import { readFileSync } from 'node:fs';
import { isIPv4, isIPv6 } from 'node:net';
import { readConfig } from '../controlplane/config-file.js';
import { absolute, interfaceList, path, type Rule, scalar, show } from '../controlplane/config-rules.js';
import type { InterfaceConfig } from '../dataplane/interfaces.js';
import { parseAddress, whyNotUnicast } from '../model/address.js';
import { messageOf } from '../model/errors.js';
import { canonicalPrefixes } from '../model/prefix.js';

/** What the agent is told about its machine. */
export interface AgentConfig {
  readonly interfaces: readonly InterfaceConfig[]; // at least one, names unique
  readonly balancers: readonly string[]; // canonical prefixes, at least one; only what they send is taken out of its tunnel
  readonly key: Uint8Array; // 16 bytes: what the balancers sign their lists of owners with
  readonly vips: readonly string[]; // canonical addresses
  readonly bpffs: string; // the pins go to <bpffs>/fairlead-agent
  readonly listen: string | null; // of the metrics: 10.0.0.2:7081, [::1]:7081
}

export const defaultAgentConfigPath = '/etc/fairlead/agent.yaml';

/** As many prefixes and addresses as the tables take, of each family. */
export const AGENT_LIMIT = 1024;

/** A configuration to begin with. */
export const exampleAgentConfig = `interfaces:
  - { name: eth0, xdp: auto }
balancers: [ 192.0.2.1/32 ]
key: "00112233445566778899aabbccddeeff"   # what "fairlead agent key" prints on a balancer
vips: [ 198.51.100.1 ]
`;

/** 16 bytes as 32 hex digits. What was given instead is not shown: it may be a key with a slip in it. */
const hexKey: Rule<Uint8Array | null> = {
  read(value, refuse) {
    const key = keyOf(value);
    if (key === undefined) refuse(`got ${described(value)}, wanted 32 hex digits in quotes`);
    return key;
  },
  fromText: (text) => text,
  fallback: () => null,
};

/** The same from a file, which may end with a line break. */
const hexKeyFile: Rule<Uint8Array | null> = {
  read(value, refuse) {
    const file = absolute(value);
    if (file === undefined) {
      refuse(`got ${show(value)}, wanted an absolute path`);
      return undefined;
    }
    try {
      const text = readFileSync(file, 'utf8').trim();
      const key = keyOf(text);
      if (key === undefined) refuse(`"${file}" holds ${described(text)}, wanted 32 hex digits`);
      return key;
    } catch (error) {
      refuse(messageOf(error));
      return undefined;
    }
  },
  fromText: (text) => text,
  fallback: () => null,
};

const keys = {
  interfaces: interfaceList,
  balancers: list('an address prefix such as 192.0.2.0/24', 1, readPrefix),
  key: hexKey,
  keyFile: hexKeyFile,
  vips: list('an address such as 198.51.100.1', 0, readVip),
  bpffs: path('/sys/fs/bpf'),
  'metrics.listen': scalar<string | null>(
    'ADDRESS:PORT, as 127.0.0.1:7081 or "[::1]:7081"',
    (value) => (isEndpoint(value) ? value : undefined),
    () => null,
  ),
};

/** Reads the agent's configuration, the default file for null; see readConfig for what is thrown. */
export function loadAgentConfig(file: string | null, defaultPath: string = defaultAgentConfigPath): AgentConfig {
  const kind = { rules: keys, begin, whole };
  const values = readConfig(kind, { path: file, env: {}, flags: {} }, defaultPath);
  const { interfaces, balancers, vips, bpffs } = values;
  const key = values.key ?? values.keyFile ?? new Uint8Array(16); // one of them is there: see `whole`
  return { interfaces, balancers, key, vips, bpffs, listen: values['metrics.listen'] };
}

function begin(file: string): string {
  const example = exampleAgentConfig.trimEnd().replaceAll('\n', '\n    ');
  return `there is no configuration, so no interface is touched; to begin, write ${file} with the interface, the balancers' addresses and their key:\n\n    ${example}`;
}

function whole(given: ReadonlyMap<string, unknown>): readonly string[] {
  const problems: string[] = [];
  if (!given.has('interfaces'))
    problems.push('interfaces: missing; wanted at least one, as in "interfaces: [{ name: eth0 }]"');
  if (!given.has('balancers'))
    problems.push('balancers: missing; wanted the prefixes that tunnels come from, as in "balancers: [192.0.2.0/24]"');
  if (given.has('key') === given.has('keyFile'))
    problems.push(
      given.has('key')
        ? 'keyFile: wanted this or "key", not both'
        : 'key: missing; wanted what "fairlead agent key" prints on a balancer, here or in a file that keyFile names',
    );
  return problems;
}

/** A list of texts, each read by `read`, which answers the canonical one or says why it is none. No two are alike. */
function list(
  wanted: string,
  least: number,
  read: (text: string) => { readonly text: string } | { readonly why: string },
): Rule<readonly string[]> {
  /** Takes one into `found`, or says why not. */
  const take = (value: unknown, found: Set<string>): string | null => {
    if (typeof value !== 'string') return `got ${show(value)}, wanted ${wanted}`;
    const one = read(value);
    if ('why' in one) return one.why;
    if (found.has(one.text)) return `${show(value)} is in the list already`;
    found.add(one.text);
    return null;
  };
  return {
    read(value, refuse) {
      if (!Array.isArray(value) || value.length < least) {
        refuse(`got ${show(value)}, wanted a list of ${least > 0 ? 'at least one, each ' : ''}${wanted}`);
        return undefined;
      }
      const found = new Set<string>();
      for (const [at, each] of value.entries()) {
        const why = take(each, found);
        if (why !== null) refuse(why, [at]);
      }
      for (const family of [4, 6]) {
        const count = [...found].filter((text) => text.includes(':') === (family === 6)).length;
        if (count > AGENT_LIMIT) refuse(`got ${count} of IPv${family}, wanted at most ${AGENT_LIMIT}`);
      }
      return [...found];
    },
    fromText: (text) => text.split(','),
    fallback: () => [],
  };
}

function readPrefix(given: string): { text: string } | { why: string } {
  let why = '';
  const [text] = canonicalPrefixes([given], (_, reason) => {
    why = reason;
    return false;
  });
  return text === undefined || why !== '' ? { why } : { text };
}

function readVip(given: string): { text: string } | { why: string } {
  const why = whyNotUnicast(given);
  return why === null ? { text: parseAddress(given).text } : { why };
}

function keyOf(value: unknown): Uint8Array | undefined {
  return typeof value === 'string' && /^[0-9a-f]{32}$/i.test(value)
    ? new Uint8Array(Buffer.from(value, 'hex'))
    : undefined;
}

function described(value: unknown): string {
  if (typeof value === 'string') return `${value.length} characters`;
  return Array.isArray(value) ? 'a list' : `a ${typeof value}`;
}

function isEndpoint(value: unknown): value is string {
  const [, host = '', port = ''] = /^(.*):(\d{1,5})$/.exec(String(value)) ?? [];
  const isHost = isIPv4(host) || (host.startsWith('[') && host.endsWith(']') && isIPv6(host.slice(1, -1)));
  return typeof value === 'string' && isHost && Number(port) <= 65_535;
}
