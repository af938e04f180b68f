// SPDX-License-Identifier: Apache-2.0
// The options of services and backends, from the store to the maps.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fragmentsKey, keyId, serviceKey, serviceKeyId } from '../../src/controlplane/kernel-state.js';
import {
  BackendFlag,
  KeyKind,
  QuicKey,
  QuicLengths,
  ServiceFlag,
  ServiceOptions,
  Source4Key,
  Source6Key,
} from '../../src/dataplane/abi.gen.js';
import type { Maps } from '../../src/dataplane/maps.js';
import { servicesIn } from '../../src/dataplane/services.js';
import { addSources } from '../../src/dataplane/sources.js';
import { readBackend } from '../../src/dataplane/tables.js';
import { formatAddress } from '../../src/model/address.js';
import type { Pool, Service } from '../../src/model/objects.js';
import { assertSameContents, contents, openReconciled, type Reconciled } from '../support/reconciled.js';
import { backendOf, backendsOf, poolOf, serviceOf, snapshotOf } from '../support/snapshots.js';

const www = serviceOf('www', 'web');
const web = poolOf('web', backendsOf(2));
const v6 = serviceOf('v6', 'web', 80, '2001:db8::1');

const numberOf = ({ reconciler }: Reconciled, service: Service): number =>
  reconciler.state().numbering.services.get(serviceKeyId(service))?.number ?? assert.fail(service.name);
const inTable = (maps: Maps, kind: number, id: string) => new Map(servicesIn(maps, kind)).get(id)?.value;
const flagsOf = ({ maps }: Reconciled, service: Service): number | undefined =>
  inTable(maps, KeyKind.SERVICE, serviceKeyId(service))?.flags;

/** The lists in both tries, as "NUMBER allow|deny PREFIX", sorted. */
async function lists({ maps }: Reconciled): Promise<string[]> {
  const found: string[] = [];
  for (const v6 of [false, true]) {
    const { count, keys } = await (v6 ? maps.handle.sources6 : maps.handle.sources4).readAll();
    const { size, field } = v6 ? Source6Key : Source4Key;
    const view = new DataView(keys.buffer, keys.byteOffset, keys.byteLength);
    for (let at = 0; at < count * size; at += size) {
      const start = at + field.address.offset;
      const list = field.list.read(view, at);
      const address = formatAddress(keys.subarray(start, start + field.address.size));
      found.push(`${list >> 1} ${list & 1 ? 'deny' : 'allow'} ${address}/${field.prefixSize.read(view, at) - 32}`);
    }
  }
  return found.sort();
}

test('options: each sets its flag, and none is left when it is taken away', async (t) => {
  const node = await openReconciled(t);
  const cases: [Partial<Service>, number][] = [
    [{ forwarding: 'gue' }, ServiceFlag.GUE],
    [{ forwarding: 'l2' }, ServiceFlag.L2],
    [{ affinity: 'source' }, ServiceFlag.SOURCE],
    [{ affinity: 'quic-cid', protocol: 'udp' }, ServiceFlag.QUIC],
    [{ flowMemory: false }, ServiceFlag.STATELESS],
    [{ allow: ['198.51.100.0/24'] }, ServiceFlag.ALLOW],
    [{ deny: ['203.0.113.0/24'] }, ServiceFlag.DENY],
    [{ rateLimit: { packetsPerSecond: 10, burst: 20 } }, ServiceFlag.RATE],
    [{ flowMemory: true, allow: [], deny: [] }, 0],
  ];
  for (const [fields, flag] of cases) {
    const service = { ...www, ...fields };
    await node.put(web, service);
    assert.equal(flagsOf(node, service), flag, JSON.stringify(fields));
    await node.put(www);
    assert.equal(flagsOf(node, www), 0, `without ${JSON.stringify(fields)}`);
    assert.deepEqual(await lists(node), []);
  }
});

test('options: mask and rate of a service lie at its number', async (t) => {
  const node = await openReconciled(t);
  const four: Service = { ...www, affinity: 'source', affinityPrefix: { ipv4: 20, ipv6: 128 } };
  const six: Service = {
    ...v6,
    affinity: 'source',
    affinityPrefix: { ipv4: 32, ipv6: 56 },
    rateLimit: { packetsPerSecond: 1000, burst: 50 },
  };
  await node.put(web, four, six);
  const memory = new Uint8Array(node.maps.handle.service_options.mmap());
  const read = (service: Service) => ServiceOptions.decode(memory, numberOf(node, service) * ServiceOptions.size);
  assert.equal(Buffer.from(read(four).sourceMask).toString('hex'), `fffff000${'0'.repeat(24)}`);
  assert.equal(Buffer.from(read(six).sourceMask).toString('hex'), `${'f'.repeat(14)}${'0'.repeat(18)}`);
  assert.deepEqual([read(six).rateIntervalNs, read(six).rateBurstNs], [1_000_000n, 50_000_000n]);
});

test('options: lists change by what differs, for packets too', async (t) => {
  const node = await openReconciled(t);
  const denying = (...deny: string[]): Service => ({ ...www, deny });
  await node.put(web, denying('198.51.100.0/25', '203.0.113.0/24'), { ...v6, allow: ['2001:db8:1::/48', '::/0'] });
  const [n, m] = [numberOf(node, www), numberOf(node, v6)];
  assert.deepEqual(await lists(node), [
    `${n} deny 198.51.100.0/25`,
    `${n} deny 203.0.113.0/24`,
    `${m} allow 2001:db8:1::/48`,
    `${m} allow ::/0`,
  ]);
  assert.equal(node.send(www, 1), 'drop');
  await node.put(denying('203.0.113.0/24', '10.0.0.0/8'), v6);
  assert.deepEqual(await lists(node), [`${n} deny 10.0.0.0/8`, `${n} deny 203.0.113.0/24`]);
  assert.match(node.send(www, 1), /^10\.0\.0\./);
  await node.put({ ...www, allow: ['192.0.2.0/24'] });
  assert.deepEqual(await lists(node), [`${n} allow 192.0.2.0/24`]);
  assert.equal(node.send(www, 2), 'drop');
  assert.deepEqual(
    (await node.facts.drops()).map(({ reason }) => reason),
    ['denied', 'not_allowed'],
  );
});

test('options: a number given out again inherits no list, nor after a daemon that died between', async (t) => {
  const node = await openReconciled(t);
  await node.put(web, { ...www, deny: ['198.51.100.0/24'] });
  await node.remove(www);
  assert.deepEqual(await lists(node), []);
  // As one leaves it that was killed before it had cleaned up.
  await addSources(node.maps, 2 * 1 + 1, ['198.51.100.0/24']);
  await addSources(node.maps, 2 * 7, ['2001:db8::/32']);
  await node.reconciler.close();
  const next = { ...serviceOf('next', 'web', 81), deny: ['203.0.113.0/24'] };
  await node.store.update(() => [{ kind: 'service', name: next.name, value: next }]);
  await node.restart();
  assert.equal(numberOf(node, next), 1);
  assert.deepEqual(await lists(node), ['1 deny 203.0.113.0/24']);
  assert.match(node.send(next, 1), /^10\.0\.0\./);
});

test('options: a new daemon writes nothing that is there, and mends what is not', async (t) => {
  const node = await openReconciled(t);
  const ids = [{ config: 2, id: 'aabb' }];
  await node.put(poolOf('web', [backendOf('10.0.0.1', { serverIds: ids })]), {
    ...www,
    protocol: 'udp',
    affinity: 'quic-cid',
    allow: ['198.51.0.0/16'],
    deny: ['10.0.0.0/8'],
  });
  const before = await contents(node.maps);
  await node.restart();
  assert.equal(node.reconciler.state().changes, 0);
  assertSameContents(await contents(node.maps), before);
  const { maps } = node;
  for (const map of [maps.handle.sources4, maps.handle.quic_servers]) {
    const { keys } = await map.readAll();
    map.delete(keys.subarray(0, map.info.keySize));
  }
  new Uint8Array(maps.handle.quic_lengths.mmap()).fill(9);
  await node.restart();
  assert.deepEqual([node.reconciler.state().changes, node.reconciler.state().error], [1, null]);
  assertSameContents(await contents(maps), before);
});

test('options: server IDs of several configs lead to the backend, follow it and go with it', async (t) => {
  const node = await openReconciled(t);
  const { maps } = node;
  const withIds = (...ids: [address: string, config: number, id: string][]): Pool =>
    poolOf(
      'web',
      ['10.0.0.1', '10.0.0.2'].map((address) =>
        backendOf(address, {
          serverIds: ids.filter(([owner]) => owner === address).map(([, config, id]) => ({ config, id })),
        }),
      ),
    );
  const servers = async (): Promise<string[]> => {
    const { count, keys, values } = await maps.handle.quic_servers.readAll();
    const numbers = new Uint32Array(values.slice().buffer);
    return Array.from({ length: count }, (_, at) => {
      const { config, length, id } = QuicKey.decode(keys, at * QuicKey.size);
      assert.ok(id.subarray(length).every((byte) => byte === 0));
      const backend = formatAddress(readBackend(maps, numbers[at] ?? 0).address.subarray(0, 4));
      return `${config} ${Buffer.from(id.subarray(0, length)).toString('hex')} ${backend}`;
    }).sort();
  };
  const lengths = () => {
    const pool = node.reconciler.state().numbering.pools.get('web')?.number ?? 0;
    return [...new Uint8Array(maps.handle.quic_lengths.mmap()).subarray(pool * QuicLengths.size).subarray(0, 8)];
  };
  await node.put(withIds(['10.0.0.1', 0, 'aabb'], ['10.0.0.1', 3, '010203'], ['10.0.0.2', 0, 'ccdd']), {
    ...www,
    protocol: 'udp',
    affinity: 'quic-cid',
  });
  assert.deepEqual(await servers(), ['0 aabb 10.0.0.1', '0 ccdd 10.0.0.2', '3 010203 10.0.0.1']);
  assert.deepEqual(lengths(), [2, 0, 0, 3, 0, 0, 0, 0]);
  await node.put(withIds(['10.0.0.2', 0, 'aabb']));
  assert.deepEqual(await servers(), ['0 aabb 10.0.0.2']);
  assert.deepEqual(lengths(), [2, 0, 0, 0, 0, 0, 0, 0]);
  await node.put(poolOf('web', backendsOf(1)));
  assert.deepEqual([await servers(), lengths()], [[], [0, 0, 0, 0, 0, 0, 0, 0]]);
});

test('options: early fragments have an entry where one service has an address and protocol, and its value', async (t) => {
  const node = await openReconciled(t);
  const dns: Service = { ...serviceOf('dns', 'web', 53), protocol: 'udp' };
  const entry = (service: Service) => inTable(node.maps, KeyKind.FRAGMENTS, keyId(fragmentsKey(serviceKey(service))));
  const own = (service: Service) => inTable(node.maps, KeyKind.SERVICE, serviceKeyId(service));
  await node.put(web, www, { ...dns, forwarding: 'gue' });
  assert.deepEqual(entry(www), own(www));
  assert.equal(entry(dns)?.flags, ServiceFlag.GUE);
  await node.put(dns);
  assert.deepEqual([entry(dns), entry(dns)?.flags], [own(dns), 0]);
  const alt = serviceOf('alt', 'web', 81);
  await node.put(alt);
  assert.deepEqual([entry(www), entry(dns)], [undefined, own(dns)]);
  await node.remove(www);
  assert.deepEqual(entry(alt), own(alt));
  await node.remove(alt, dns);
  for (const kind of [KeyKind.SERVICE, KeyKind.FRAGMENTS]) assert.deepEqual([...servicesIn(node.maps, kind)], []);
});

test('options: a backend behind a router takes nothing of a pool with forwarding l2, and its status says so', async (t) => {
  const node = await openReconciled(t);
  node.routed.add('10.0.0.2');
  await node.put(web, www);
  const status = async () => [...((await node.facts.pool('web'))?.backends.values() ?? [])];
  const shown = async () => (await status()).map((b) => [b.nextHop.state, b.shareWanted, Math.round(b.shareReal)]);
  const flags = () =>
    [...(node.reconciler.state().numbering.pools.get('web')?.members.values() ?? [])].map(
      ({ number }) => readBackend(node.maps, number).flags,
    );
  assert.deepEqual(flags(), [BackendFlag.VALID | BackendFlag.ON_LINK, BackendFlag.VALID]);
  assert.deepEqual(
    (await status()).map((b) => [b.nextHop.state, b.shareWanted]),
    [
      ['resolved', 0.5],
      ['resolved', 0.5],
    ],
  );
  await node.put({ ...www, forwarding: 'l2' });
  assert.deepEqual(await shown(), [
    ['resolved', 1, 1],
    ['off_link', 0, 0],
  ]);
});

test('admit: lists and server IDs beyond what the tables hold', async (t) => {
  const { facts, maps } = await openReconciled(t);
  const room = maps.handle.sources4.info.maxEntries;
  const deny = Array.from({ length: 100_000 }, () => '10.0.0.0/8'); // counted only
  const services = Array.from({ length: 10 }, (_, at) => ({ ...serviceOf(`s${at}`, 'web', 1 + at), deny }));
  facts.admit(snapshotOf([web], services.slice(1)));
  assert.throws(() => facts.admit(snapshotOf([web], services)), {
    code: 'full',
    message: `the node is full: 1100000 IPv4 prefixes in lists (the longest once more, for a change) wanted, there is room for ${room}`,
  });
  const idCount = maps.handle.quic_servers.info.maxEntries;
  const withIds = (length: number) => [
    poolOf('web', [backendOf('10.0.0.1', { serverIds: Array.from({ length }, () => ({ config: 0, id: 'aa' })) })]),
  ];
  facts.admit(snapshotOf(withIds(idCount), []));
  assert.throws(() => facts.admit(snapshotOf(withIds(idCount + 1), [])), {
    code: 'full',
    message: `the node is full: ${idCount + 1} server IDs wanted, there is room for ${idCount}`,
  });
});
