// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { exampleAgentConfig, loadAgentConfig } from '../../src/agent/config.js';
import { FairleadError } from '../../src/model/errors.js';

const directory = mkdtempSync(join(tmpdir(), 'fairlead-agent-config-'));
after(() => rmSync(directory, { recursive: true }));
const path = join(directory, 'agent.yaml');
const keyFile = join(directory, 'key');
const hex = '00112233445566778899aabbccddeeff';
const key = new Uint8Array(Buffer.from(hex, 'hex'));
const small = `interfaces: [{ name: eth0 }]\nbalancers: [10.0.0.0/24]\nkey: "${hex}"\n`;

function load(text: string) {
  writeFileSync(path, text);
  return loadAgentConfig(path);
}

/** The problems of a refused configuration, without the file's name. */
function problemsOf(text: string): string[] {
  try {
    load(text);
  } catch (error) {
    assert.ok(error instanceof FairleadError);
    assert.equal(error.code, 'invalid');
    assert.doesNotMatch(error.message, /0011/, 'no part of a key is told');
    const [, ...lines] = error.message.split('\n  ');
    return lines.map((line) => line.replace(`${path}:`, '').replaceAll(directory, '').trim());
  }
  return assert.fail('the configuration was accepted');
}

test('agent config: interface, balancers and key are enough, everything else has a default', () => {
  assert.deepEqual(load(small), {
    interfaces: [{ name: 'eth0', xdp: 'auto' }],
    balancers: ['10.0.0.0/24'],
    key,
    vips: [],
    bpffs: '/sys/fs/bpf',
    listen: null,
  });
});

test('agent config: every documented key is taken; addresses become canonical', () => {
  writeFileSync(keyFile, `${hex.toUpperCase()}\n`);
  const config = load(`
interfaces:
  - { name: eth0, xdp: native }
  - { name: eth1, xdp: generic }
balancers: [192.0.2.7, 10.0.0.0/8, "2001:DB8:0::/48", "::/0"]
keyFile: ${keyFile}
vips: [198.51.100.1, "2001:db8:0:0::1"]
bpffs: /run/bpf
metrics: { listen: "[::1]:7081" }
`);
  assert.deepEqual(config, {
    interfaces: [
      { name: 'eth0', xdp: 'native' },
      { name: 'eth1', xdp: 'generic' },
    ],
    balancers: ['192.0.2.7/32', '10.0.0.0/8', '2001:db8::/48', '::/0'],
    key,
    vips: ['198.51.100.1', '2001:db8::1'],
    bpffs: '/run/bpf',
    listen: '[::1]:7081',
  });
});

test('agent config: the example is a configuration', () => {
  assert.deepEqual(load(exampleAgentConfig).vips, ['198.51.100.1']);
});

test('agent config: what is missing is named, all at once', () => {
  const [interfaces, balancers, key, ...rest] = problemsOf('');
  assert.match(interfaces ?? '', /^interfaces: missing; wanted at least one/);
  assert.match(balancers ?? '', /^balancers: missing; wanted the prefixes/);
  assert.match(key ?? '', /^key: missing; wanted what "fairlead agent key" prints/);
  assert.deepEqual(rest, []);
  writeFileSync(keyFile, hex);
  assert.deepEqual(problemsOf(`${small}keyFile: ${keyFile}\n`), ['keyFile: wanted this or "key", not both']);
});

test('agent config: unknown keys and wrong values are named with their line, all at once', () => {
  writeFileSync(keyFile, `${hex}0`);
  const text = `interfaces: [{ name: eth0, xpd: auto }]
balancers: [10.0.0.1/24, 10.1.0.0/16, 10.1.0.0/16, x, 7]
key: "${hex.slice(1)}"
vip: [10.0.0.1]
vips: [10.0.0.256, 127.0.0.1, 192.0.2.1, 192.0.2.1]
metrics: { listen: 7081, path: /x }
bpffs: bpf
keyFile: ${keyFile}
`;
  assert.deepEqual(problemsOf(text), [
    '1:28: interfaces[0].xpd: unknown key; known: name, xdp, tc',
    '2:13: balancers[0]: "10.0.0.1/24" has bits set behind the prefix; write 10.0.0.0/24',
    '2:39: balancers[2]: "10.1.0.0/16" is in the list already',
    '2:52: balancers[3]: "x" is not an address prefix such as 10.0.0.0/8',
    '2:55: balancers[4]: got 7, wanted an address prefix such as 192.0.2.0/24',
    '3:6: key: got 31 characters, wanted 32 hex digits in quotes',
    '4:1: unknown key "vip"; known: interfaces, balancers, key, keyFile, vips, bpffs, metrics',
    '5:8: vips[0]: "10.0.0.256" is not an IPv4 or IPv6 address',
    '5:20: vips[1]: 127.0.0.1 is a loopback address; use a unicast one',
    '5:42: vips[3]: "192.0.2.1" is in the list already',
    '6:20: metrics.listen: got 7081, wanted ADDRESS:PORT, as 127.0.0.1:7081 or "[::1]:7081"',
    '6:26: unknown key "metrics.path"; known in metrics: listen',
    '7:8: bpffs: got "bpf", wanted an absolute path',
    '8:10: keyFile: "/key" holds 33 characters, wanted 32 hex digits',
  ]);
});

test('agent config: a key without quotes that YAML takes for a number is refused, and not shown', () => {
  const text = small.replace(`"${hex}"`, '00112233445566778899001122334455');
  assert.deepEqual(problemsOf(text), ['3:6: key: got a number, wanted 32 hex digits in quotes']);
});

test('agent config: a key file that cannot be read, and no balancer at all', () => {
  const text = small.replace(`key: "${hex}"`, `keyFile: ${directory}/none`).replace('10.0.0.0/24', '');
  const [balancers, file] = problemsOf(text);
  assert.equal(
    balancers,
    '2:12: balancers: got [], wanted a list of at least one, each an address prefix such as 192.0.2.0/24',
  );
  assert.match(file ?? '', /^3:10: keyFile: ENOENT/);
});

test('agent config: more than the tables take are refused', () => {
  const many = Array.from({ length: 1025 }, (_, at) => `10.0.${at >> 8}.${at & 255}`);
  assert.deepEqual(problemsOf(small.replace('10.0.0.0/24', many.join(', '))), [
    '2:12: balancers: got 1025 of IPv4, wanted at most 1024',
  ]);
  assert.equal(load(small.replace('10.0.0.0/24', `"::1", ${many.slice(1).join(', ')}`)).balancers.length, 1025);
});

test('agent config: without the default file it says how to begin; a named one is just not there', () => {
  const none = join(directory, 'none.yaml');
  const isNotFound = (pattern: RegExp) => (error: unknown) =>
    error instanceof FairleadError && error.code === 'not-found' && pattern.test(error.message);
  assert.throws(() => loadAgentConfig(null, none), isNotFound(/^there is no configuration.*\n\n {4}interfaces:\n/));
  assert.throws(() => loadAgentConfig(none), isNotFound(/none\.yaml": it does not exist$/));
});
