// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { assertProblem, withService, wwwService } from './api-setup.js';

const www = '/api/v1/services/www';
const web = '/api/v1/pools/web';
const b1 = `${web}/backends/b1`;

// What, where, the body, then every pointer with its exact detail.
type Case = [name: string, path: string, body: unknown, errors: Record<string, string>];

const bad: Case[] = [
  [
    'a forwarding that there is not',
    www,
    { ...wwwService, forwarding: 'dsr' },
    { '/forwarding': '"dsr" is not one of "ipip", "gue", "l2", "nat"' },
  ],
  [
    'no affinity',
    www,
    { ...wwwService, affinity: 'ip' },
    { '/affinity': '"ip" is not one of "flow", "source", "quic-cid"' },
  ],
  ['a port below 0', www, { ...wwwService, port: -1 }, { '/port': '-1 is out of range; use 0 to 65535' }],
  ['QUIC over TCP', www, { ...wwwService, affinity: 'quic-cid' }, { '/affinity': 'quic-cid is for protocol udp' }],
  [
    'a prefix without source affinity',
    www,
    { ...wwwService, affinityPrefix: { ipv4: 24 } },
    { '/affinityPrefix': 'is for affinity source, the service has "flow"' },
  ],
  [
    'a prefix longer than an address',
    www,
    { ...wwwService, affinity: 'source', affinityPrefix: { ipv4: 33, ipv6: 0 } },
    {
      '/affinityPrefix/ipv4': '33 is out of range; use 1 to 32',
      '/affinityPrefix/ipv6': '0 is out of range; use 1 to 128',
    },
  ],
  [
    'lists with wrong entries between right ones',
    www,
    {
      ...wwwService,
      allow: ['10.0.0.0/8', '10.0.0.1/8', '2001:db8::/32', '10.0.0.0/8'],
      deny: ['x', '192.0.2.1', '1.2.3.4/033'],
    },
    {
      '/allow/1': '"10.0.0.1/8" has bits set behind the prefix; write 10.0.0.0/8',
      '/allow/2': '2001:db8::/32 is IPv6, the service is IPv4',
      '/allow/3': '10.0.0.0/8 is in the list already, at 0',
      '/deny/0': '"x" is not an address prefix such as 10.0.0.0/8',
      '/deny/2': '"1.2.3.4/033" is not an address prefix such as 10.0.0.0/8',
    },
  ],
  [
    'a rate of nothing',
    www,
    { ...wwwService, rateLimit: { packetsPerSecond: 0, burst: 0 } },
    {
      '/rateLimit/packetsPerSecond': '0 is out of range; use 1 to 10000000',
      '/rateLimit/burst': '0 is out of range; use 1 to 10000000',
    },
  ],
  [
    'server IDs that contradict each other',
    web,
    {
      backends: [
        {
          name: 'a',
          address: '10.0.0.1',
          serverIds: [
            { config: 0, id: 'aa01' },
            { config: 0, id: 'aa02' },
          ],
        },
        {
          name: 'b',
          address: '10.0.0.2',
          serverIds: [
            { config: 0, id: 'aa01' },
            { config: 1, id: 'bb' },
          ],
        },
        { name: 'c', address: '10.0.0.3', serverIds: [{ config: 1, id: 'cccc' }] },
      ],
    },
    {
      '/backends/0/serverIds/1': 'config 0 is in the list already',
      '/backends/1/serverIds/0': '"aa01" is the server ID of backend "a" already',
      '/backends/2/serverIds/0': '"cccc" has 2 bytes, others of config 1 in the pool have 1',
    },
  ],
  [
    'server IDs that are none',
    web,
    { backends: [{ name: 'a', address: '10.0.0.1', serverIds: [{ config: 7, id: 'AA' }] }] },
    {
      '/backends/0/serverIds/0/config': '7 is out of range; use 0 to 6',
      '/backends/0/serverIds/0/id': '"AA" is not a server ID: 1 to 15 bytes in lower-case hex',
    },
  ],
  ['a port as text', www, { ...wwwService, port: '80' }, { '/port': 'got a string; wanted an integer' }],
  ['half a port', www, { ...wwwService, port: 80.5 }, { '/port': 'got the number 80.5; wanted an integer' }],
  [
    'an unknown protocol',
    www,
    { ...wwwService, protocol: 'sctp' },
    { '/protocol': '"sctp" is not one of "tcp", "udp"' },
  ],
  [
    'fields of later versions',
    www,
    { ...wwwService, healthCheck: {}, 'a/b': 1 },
    { '/healthCheck': 'unknown field "healthCheck"', '/a~1b': 'unknown field "a/b"' },
  ],
  ...(
    [
      ['a word', 'some', { '/snat': 'got "some"; wanted "none", "auto" or 1 to 16 addresses' }],
      ['null', null, { '/snat': 'got null; wanted "none", "auto" or 1 to 16 addresses' }],
      ['no address', [], { '/snat': 'got an array of 0; wanted "none", "auto" or 1 to 16 addresses' }],
      [
        'too many',
        Array.from({ length: 17 }, (_, at) => `10.0.1.${at}`),
        { '/snat': 'got an array of 17; wanted "none", "auto" or 1 to 16 addresses' },
      ],
      [
        'none of them',
        ['10.0.0.1', 5, 'x'],
        {
          '/snat/1': 'got the number 5; wanted a string',
          '/snat/2': '"x" is not an IPv4 or IPv6 address',
        },
      ],
      ['twice', ['fd00::1', '10.0.0.1', '10.0.0.1'], { '/snat/2': '10.0.0.1 is in the list already' }],
      [
        'of the other family only',
        ['fd00::1', 'fd00::2'],
        { '/snat': 'none of the addresses is IPv4, as the service is' },
      ],
    ] as const
  ).map(
    ([what, snat, fields]): Case => [
      `addresses to translate sources to: ${what}`,
      www,
      { ...wwwService, forwarding: 'nat', snat },
      fields,
    ],
  ),
  [
    'addresses to translate sources to, without NAT',
    www,
    { ...wwwService, snat: 'auto' },
    { '/snat': 'is for forwarding nat, the service has "ipip"' },
  ],
  ...([535, 65496, 'some', null] as const).map((mss): Case => {
    const got = typeof mss === 'number' ? `the number ${mss}` : JSON.stringify(mss);
    const errors = { '/mss': `got ${got}; wanted "auto" or 536 to 65495 bytes` };
    return [`an MSS: ${mss}`, www, { ...wwwService, forwarding: 'nat', mss }, errors];
  }),
  [
    'an MSS without NAT',
    www,
    { ...wwwService, mss: 'auto' },
    { '/mss': 'is for forwarding nat, the service has "ipip"' },
  ],
  [
    'what NAT has not',
    www,
    { ...wwwService, forwarding: 'nat', flowMemory: false },
    { '/flowMemory': 'forwarding nat remembers every connection' },
  ],
  [
    'nothing in it',
    www,
    {},
    {
      '/address': '"address" is missing',
      '/port': '"port" is missing',
      '/protocol': '"protocol" is missing',
      '/pool': '"pool" is missing',
    },
  ],
  ['an array', www, [], { '': 'got an array; wanted an object' }],
  ['no body', www, undefined, { '': 'got nothing; wanted an object' }],
  ['null', www, 'null', { '': 'got null; wanted an object' }],
  ['a pool that is not there', www, { ...wwwService, pool: 'nope' }, { '/pool': 'pool "nope" does not exist' }],
  [
    'a loopback VIP',
    www,
    { ...wwwService, address: '127.0.0.1' },
    { '/address': '127.0.0.1 is a loopback address; use a unicast one' },
  ],
  [
    'a mapped VIP',
    www,
    { ...wwwService, address: '::ffff:192.0.2.1' },
    { '/address': '"::ffff:192.0.2.1" is IPv4 mapped into IPv6; write it as 192.0.2.1' },
  ],
  [
    'another name',
    www,
    { ...wwwService, name: 'xxx' },
    { '/name': '"xxx" is not the name in the path, "www"; an object cannot be renamed' },
  ],
  [
    'all of it, by itself and beside others',
    www,
    { address: 'x', port: 70000, protocol: 5, pool: 'nope', healthCheck: {} },
    {
      '/address': '"x" is not an IPv4 or IPv6 address',
      '/port': '70000 is out of range; use 0 to 65535',
      '/protocol': '5 is not one of "tcp", "udp"',
      '/pool': 'pool "nope" does not exist',
      '/healthCheck': 'unknown field "healthCheck"',
    },
  ],
  [
    'a name that is none',
    '/api/v1/services/Www',
    { ...wwwService, port: 81 },
    { '/name': '"Www" is not a name: 1 to 63 of a-z 0-9 . _ -, a letter or digit first and last' },
  ],
  [
    'a ring that is no prime',
    web,
    { ring: { size: 1000 } },
    { '/ring/size': '1000 is not a ring size; use 0 or a prime from 251 to 131071' },
  ],
  [
    'a small prime ring',
    web,
    { ring: { size: 241 } },
    { '/ring/size': '241 is not a ring size; use 0 or a prime from 251 to 131071' },
  ],
  ['a huge ring', web, { ring: { size: 131101 } }, { '/ring/size': '131101 is out of range; use 0 to 131071' }],
  ['more in the ring', web, { ring: { size: 251, seed: 1 } }, { '/ring/seed': 'unknown field "seed"' }],
  ['backends by name', web, { backends: {} }, { '/backends': 'got an object; wanted an array' }],
  [
    'backends alike, in the order of the body',
    web,
    {
      backends: [
        { name: 'z', address: '10.0.0.1' },
        { name: 'a', address: '10.0.0.1' },
        { name: 'z', address: '10.0.0.3' },
      ],
    },
    {
      '/backends/1/address': '10.0.0.1 is the address of backend "z" already',
      '/backends/2/name': 'backend "z" is in the pool already',
    },
  ],
  [
    'wrong things in several backends, a wrong one between right ones',
    web,
    {
      backends: [{ name: 'a', address: '10.0.0.1', weight: 257 }, 5, { name: 'a', address: '10.0.0.1', port: 0 }],
      ring: { size: 4 },
    },
    {
      '/backends/0/weight': '257 is out of range; use 0 to 256',
      '/backends/1': 'got the number 5; wanted an object',
      '/backends/2/name': 'backend "a" is in the pool already',
      '/backends/2/address': '10.0.0.1 is the address of backend "a" already',
      '/backends/2/port': '0 is out of range; use 1 to 65535',
      '/ring/size': '4 is not a ring size; use 0 or a prime from 251 to 131071',
    },
  ],
  ['a backend without name', web, { backends: [{ address: '10.0.0.1' }] }, { '/backends/0/name': '"name" is missing' }],
  [
    'a backend with a taken address',
    b1,
    { address: '10.0.0.2' },
    { '/address': '10.0.0.2 is the address of backend "b2" already' },
  ],
  [
    'a backend in a bad state',
    b1,
    { address: '10.0.0.1', state: 'down', weight: -1, name: 'b2' },
    {
      '/state': '"down" is not one of "active", "drain", "disabled"',
      '/weight': '-1 is out of range; use 0 to 256',
      '/name': '"b2" is not the name in the path, "b1"; an object cannot be renamed',
    },
  ],
];

for (const [name, path, body, errors] of bad) {
  test(`api: ${name} is refused: ${Object.keys(errors)
    .map((pointer) => pointer || 'the body')
    .join(' ')}`, async (t) => {
    const { call, store } = await withService(t);
    const before = store.read();
    const response = await call('PUT', path, body, body === undefined ? {} : { 'content-type': 'application/json' });
    assertProblem(response, 400, 'invalid', Object.keys(errors));
    const got = response
      .json()
      .errors.map(({ pointer, detail }: { pointer: string; detail: string }) => [pointer, detail]);
    assert.deepEqual(Object.fromEntries(got), errors);
    assert.equal(store.read(), before);
  });
}

test('api: a VIP that belongs to another service is a conflict that names it', async (t) => {
  const { call } = await withService(t);
  const response = await call('PUT', '/api/v1/services/twin', wwwService);
  assertProblem(response, 409, 'conflict', ['/address']);
  assert.equal(response.json().errors[0].detail, 'tcp 192.0.2.10 port 80 belongs to service "www"');
  assertProblem(await call('PUT', '/api/v1/services/twin', { ...wwwService, pool: 'nope' }), 400, 'invalid', [
    '/address',
    '/pool',
  ]);
  for (const other of [{ port: 81 }, { protocol: 'udp' }, { address: '192.0.2.11' }]) {
    const name = Object.keys(other).join();
    assert.equal((await call('PUT', `/api/v1/services/${name}`, { ...wwwService, ...other })).statusCode, 201);
  }
});

test('api: l2 needs a pool of its own, any port and two families do not', async (t) => {
  const { call } = await withService(t);
  const twin = { ...wwwService, port: 0 };
  const refused = await call('PUT', '/api/v1/services/twin', { ...twin, forwarding: 'l2' });
  assertProblem(refused, 400, 'invalid', ['/forwarding']);
  assert.equal(
    refused.json().errors[0].detail,
    'pool "web" is used by service "www" with ipip; l2 needs a pool of its own',
  );
  assert.equal((await call('PUT', '/api/v1/services/twin', { ...twin, forwarding: 'gue' })).statusCode, 201);
  assert.equal((await call('PUT', '/api/v1/services/six', { ...wwwService, address: '2001:db8::1' })).statusCode, 201);
});

test('api: lists and limits come back canonical and whole', async (t) => {
  const { call } = await withService(t);
  const options = { allow: ['10.0.0.0/8', '192.0.2.1'], rateLimit: { packetsPerSecond: 50 }, flowMemory: false };
  const { allow, rateLimit, flowMemory } = (await call('PUT', www, { ...wwwService, ...options })).json();
  assert.deepEqual(
    { allow, rateLimit, flowMemory },
    {
      allow: ['10.0.0.0/8', '192.0.2.1/32'],
      rateLimit: { packetsPerSecond: 50, burst: 50 },
      flowMemory: false,
    },
  );
});

test('api: a list of 100,000 prefixes is taken and given back; one more is refused', async (t) => {
  const { call } = await withService(t);
  const deny = Array.from({ length: 100_000 }, (_, i) => `${11 + (i >> 16)}.${(i >> 8) & 255}.${i & 255}.0/24`);
  const stored = await call('PUT', www, { ...wwwService, deny });
  assert.equal(stored.statusCode, 200, stored.body.slice(0, 300));
  assert.deepEqual(stored.json().deny, deny);
  const refused = await call('PUT', www, { ...wwwService, allow: [...deny, '192.0.2.0/24'] });
  assertProblem(refused, 400, 'invalid', ['/allow']);
});

test('api: more problems than are told leave nothing behind to stumble over', async (t) => {
  const { call } = await withService(t);
  const prefixes = Array.from({ length: 300 }, () => '10.0.0.1/8');
  const refused = await call('PUT', www, { ...wwwService, deny: prefixes });
  assertProblem(
    refused,
    400,
    'invalid',
    prefixes.slice(0, 200).map((_, i) => `/deny/${i}`),
  );
  const backends = Array.from({ length: 300 }, (_, i) => ({ name: `b${i}`, address: 'x' }));
  assertProblem(
    await call('PUT', web, { backends }),
    400,
    'invalid',
    backends.slice(0, 200).map((_, i) => `/backends/${i}/address`),
  );
});

test('api: many problems are all told', async (t) => {
  const { call } = await withService(t);
  const backends = Array.from({ length: 50 }, (_, i) => ({ name: `b${i}`, address: '127.0.0.1' }));
  assertProblem(
    await call('PUT', web, { backends }),
    400,
    'invalid',
    backends.map((_, i) => `/backends/${i}/address`),
  );
});
