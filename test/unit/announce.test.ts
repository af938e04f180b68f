// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { vipsOf } from '../../src/controlplane/announce.js';
import type { NextHop } from '../../src/controlplane/next-hops.js';
import { routesOf } from '../../src/controlplane/routes.js';
import type { Backend, Service } from '../../src/model/objects.js';
import { backendOf, HOP, poolOf, serviceOf, snapshotOf } from '../support/snapshots.js';

const NOW = Date.parse('2026-11-29T12:00:00Z');
const VIP = '192.0.2.1';

/** Whether the VIP is ready with these backends in its pool. */
function ready(backends: readonly Backend[], hops: readonly [string, NextHop | null][] = [], up = true): boolean {
  const snapshot = snapshotOf([poolOf('web', backends)], [serviceOf('www', 'web')]);
  const web = snapshot.pools.get('web');
  const health = { failOpen: false, down: up ? [] : backends.map(({ name }) => ({ name, since: NOW })), slow: [] };
  const pools = new Map(web ? [['web', { ...web, health }]] : []);
  const all = new Map([...backends.map((b) => [b.address, HOP] as const), ...hops]);
  return vipsOf({ ...snapshot, pools }, all, NOW).get(VIP) === null;
}

test('announce: a VIP is ready when a backend can be reached, is up and keeps its connections', () => {
  const b1 = backendOf('10.0.0.1');
  assert.ok(ready([b1]));
  assert.ok(!ready([]));
  assert.ok(!ready([b1], [['10.0.0.1', null]]));
  assert.ok(!ready([b1], [], false));
  assert.ok(!ready([{ ...b1, state: 'disabled' }]));
  assert.ok(ready([{ ...b1, state: 'disabled' }, backendOf('10.0.0.2')]));
  const drain = (deadline?: string): Backend => ({
    ...b1,
    state: 'drain',
    drain: { since: '2026-11-29T11:00:00Z', ...(deadline && { deadline }) },
  });
  assert.ok(ready([drain()]));
  assert.ok(ready([drain('2026-11-29T12:00:01Z')]));
  assert.ok(!ready([drain('2026-11-29T12:00:00Z')]));
});

test('announce: one service of an address that is ready makes it ready; forwarding l2 wants backends on link', () => {
  const routed = { ...HOP, onLink: false };
  const hops = new Map([
    ['10.0.0.1', null],
    ['10.0.0.2', routed],
  ]);
  const pools = [poolOf('a', [backendOf('10.0.0.1')]), poolOf('b', [backendOf('10.0.0.2')])];
  const vips = (...services: readonly Service[]) => Object.fromEntries(vipsOf(snapshotOf(pools, services), hops, NOW));
  const why = 'no backend of its services is up';
  assert.deepEqual(vips(serviceOf('x', 'a')), { [VIP]: why });
  assert.deepEqual(vips(serviceOf('x', 'a'), serviceOf('y', 'b', 81)), { [VIP]: null });
  assert.deepEqual(vips(serviceOf('y', 'b', 81), serviceOf('x', 'a')), { [VIP]: null });
  assert.deepEqual(vips({ ...serviceOf('y', 'b'), forwarding: 'l2' }), { [VIP]: why });
  assert.deepEqual(vips(serviceOf('x', 'a', 80, '192.0.2.2'), serviceOf('y', 'b')), { '192.0.2.2': why, [VIP]: null });
});

/** RTM_NEWROUTE as the kernel writes it: table 200, 192.0.2.10/32, blackhole, made by `protocol`. */
const route = (protocol: number, bits = 32): Buffer => {
  const message = Buffer.alloc(44);
  message.writeUInt32LE(44, 0);
  message.writeUInt16LE(24, 4);
  message.set([2, bits, 0, 0, 200, protocol, 0, 6], 16);
  message.set([8, 0, 15, 0, 200, 0, 0, 0], 28); // RTA_TABLE
  message.set([8, 0, 1, 0, 192, 0, 2, 10], 36); // RTA_DST
  return message;
};

test('routes: of a dump only host routes that we have made are ours', () => {
  const dump = Buffer.concat([route(4), route(76), route(76, 24), route(12)]);
  assert.deepEqual(routesOf(dump, 200), [{ table: 200, address: '192.0.2.10' }]);
  assert.deepEqual(routesOf(dump, null), [{ table: 200, address: '192.0.2.10' }]);
  assert.deepEqual(routesOf(dump, 201), []);
  for (let size = 0; size < 44; size++)
    assert.deepEqual(routesOf(route(76).subarray(0, size), 200), [], `${size} bytes`);
});
