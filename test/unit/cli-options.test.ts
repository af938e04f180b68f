// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { InvalidArgumentError } from 'commander';
import type { Io } from '../../src/cli/io.js';
import { serviceBody, serviceLines, serviceOptions } from '../../src/cli/service-flags.js';
import type { ShownService } from '../../src/cli/shapes.js';
import { serviceOf } from '../support/snapshots.js';

const files: Readonly<Record<string, string>> = {
  'deny.txt': '# botnets\n10.0.0.0/8\n\n192.0.2.0/24 198.51.100.7 # three\r\n',
  '-': '203.0.113.0/24',
};
const io: Io = {
  out: () => undefined,
  err: () => undefined,
  screen: () => null,
  env: {},
  read: async (path) => files[path] ?? assert.fail(path),
  stopSignal: () => new AbortController().signal,
};

const optionOf = (flag: string) => serviceOptions.find(({ long }) => long === flag) ?? assert.fail(flag);
const parsed = (flag: string, ...texts: string[]): unknown =>
  texts.reduce<unknown>((before, text) => optionOf(flag).parseArg?.(text, before), undefined);
const body = async (options: object): Promise<unknown> =>
  JSON.parse(JSON.stringify(await serviceBody({ ...options }, io)));

test('cli: a list is made of what is given, files in their place', async () => {
  const deny = parsed('--deny', '172.16.0.0/12', '@deny.txt', '@-');
  const want = ['172.16.0.0/12', '10.0.0.0/8', '192.0.2.0/24', '198.51.100.7', '203.0.113.0/24'];
  assert.deepEqual(await body({ deny, allow: ['10.1.0.0/16'] }), { deny: want, allow: ['10.1.0.0/16'] });
});

test('cli: rate limit with and without burst', () => {
  assert.deepEqual(parsed('--rate-limit', '200'), { packetsPerSecond: 200 });
  assert.deepEqual(parsed('--rate-limit', '200:400'), { packetsPerSecond: 200, burst: 400 });
  for (const wrong of ['', '0', '1:', '1:2:3', 'x', '10000001'])
    assert.throws(() => parsed('--rate-limit', wrong), InvalidArgumentError, wrong);
});

test("cli: the affinity prefix is that of the address's family, and what is not given is not sent", async () => {
  assert.deepEqual(await body({ address: '192.0.2.1', affinityPrefix: 24, flowMemory: true }), {
    address: '192.0.2.1',
    affinityPrefix: { ipv4: 24 },
  });
  assert.deepEqual(await body({ address: '2001:db8::1', affinityPrefix: 56, flowMemory: false }), {
    address: '2001:db8::1',
    affinityPrefix: { ipv6: 56 },
    flowMemory: false,
  });
});

test('cli: a service shows the options that are not at their default', () => {
  const plain: ShownService = { ...serviceOf('www', 'web'), revision: 1, status: null };
  assert.deepEqual(serviceLines({ ...plain, allow: [] }), []);
  const deny = ['10.0.0.0/8', '192.0.2.0/24', '198.51.100.7/32', '203.0.113.0/24', '172.16.0.0/12'];
  const all: ShownService = {
    ...plain,
    forwarding: 'gue',
    affinity: 'source',
    affinityPrefix: { ipv4: 24, ipv6: 128 },
    flowMemory: false,
    allow: ['10.0.0.0/8'],
    deny,
    rateLimit: { packetsPerSecond: 200, burst: 400 },
  };
  assert.deepEqual(serviceLines(all), [
    '',
    'Forwarding   gue',
    'Affinity     source /24',
    'Flow memory  none: the ring alone decides',
    'Allow        10.0.0.0/8',
    'Deny         10.0.0.0/8, 192.0.2.0/24, 198.51.100.7/32 and 2 more',
    'Rate limit   200 packets/s per source, burst 400',
  ]);
});
