// SPDX-License-Identifier: Apache-2.0
// Rows with previous owners in the kernel, from the store to the packet. A packet of a connection nobody remembers stands for one that
// another node, which is gone, had begun.
import assert from 'node:assert/strict';
import { availableParallelism } from 'node:os';
import { test } from 'node:test';
import { formatState, parseState } from '../../src/controlplane/state-file.js';
import { readRingRef, readRingRows } from '../../src/dataplane/tables.js';
import type { Backend, Pool, Service } from '../../src/model/objects.js';
import { pinTo } from '../support/packet-run.js';
import { openReconciled, type Reconciled, until } from '../support/reconciled.js';
import { backendsOf, poolOf, serviceOf } from '../support/snapshots.js';

const www = serviceOf('www', 'web');
const CLIENTS = 300;
const cpus = availableParallelism();

/** Where each client's packet goes; none is remembered, for each look has clients of its own by ports: same rows, other flows. */
function ownersOf(node: Reconciled, service: Service, kind: 'syn' | 'ack', from = 0): string[] {
  return Array.from({ length: CLIENTS }, (_, client) => node.send(service, from + client, kind));
}

/** Forgets every flow, as a node does that has just taken over. */
function forget({ maps }: Reconciled): void {
  new Uint8Array(maps.flowsHot).fill(0);
  new Uint8Array(maps.flowsCold).fill(0);
}

const web = (backends: readonly Backend[], more: Partial<Pool> = {}): Pool => ({ ...poolOf('web', backends), ...more });

/** The pool's rows with addresses for numbers. */
function rowsOf({ maps, reconciler }: Reconciled): string[] {
  const { numbering } = reconciler.state();
  const pool = numbering.pools.get('web');
  const address = new Map([...(pool?.members ?? [])].map(([at, { number }]) => [number, at]));
  return [...readRingRows(maps, readRingRef(maps, pool?.number ?? 0))].map((number) => address.get(number) ?? '');
}

test('history: connections go on without their records while a backend drains; new ones go elsewhere', async (t) => {
  const node = await openReconciled(t);
  const [first, ...rest] = backendsOf(4) as [Backend, ...Backend[]];
  await node.put(web([first, ...rest]), www);
  const before = ownersOf(node, www, 'syn');
  await node.put(web([{ ...first, state: 'drain' }, ...rest]));
  forget(node);
  assert.deepEqual(ownersOf(node, www, 'ack'), before);
  forget(node);
  const now = ownersOf(node, www, 'syn');
  for (const [client, owner] of now.entries()) {
    if (before[client] === first.address) assert.notEqual(owner, first.address);
    else assert.equal(owner, before[client]);
  }
  // What has begun since is known by its record, in spite of the row's owner before.
  assert.deepEqual(ownersOf(node, www, 'ack'), now);
  const { ring } = (await node.facts.pool('web')) ?? {};
  assert.equal(ring?.generation, 2);
  assert.ok((ring?.inTransition ?? 0) > 251 / 5);
});

test('history: one that is disabled or removed takes nothing more, the others keep theirs', async (t) => {
  const node = await openReconciled(t);
  const [first, ...rest] = backendsOf(4) as [Backend, ...Backend[]];
  for (const change of [[{ ...first, state: 'disabled' as const }, ...rest], rest]) {
    await node.put(web([first, ...rest]), www);
    forget(node);
    const before = ownersOf(node, www, 'syn');
    await node.put(web(change));
    forget(node);
    for (const [client, owner] of ownersOf(node, www, 'ack').entries()) {
      if (before[client] === first.address) assert.notEqual(owner, first.address);
      else if (change.length === 4) assert.equal(owner, before[client]);
    }
  }
});

test('history: a SYN that cannot be remembered goes where the rest of its connection will', async (t) => {
  const node = await openReconciled(t);
  const [first, ...rest] = backendsOf(4) as [Backend, ...Backend[]];
  await node.put(web([first, ...rest]), www);
  await node.put(web([{ ...first, state: 'drain' }, ...rest]));
  // All four ways of every bucket hold a recent established flow.
  const hot = new DataView(node.maps.flowsHot);
  const now = node.maps.seenNow();
  for (let at = 0; at < hot.byteLength; at += 16) {
    hot.setUint32(at, 0xdeadbeef, true);
    hot.setUint32(at + 8, (1 << 27) | 9, true);
    hot.setUint16(at + 6, now, true);
  }
  const begun = ownersOf(node, www, 'syn');
  assert.ok(begun.includes(first.address));
  assert.deepEqual(ownersOf(node, www, 'ack'), begun);
});

test('history: the hold time ends it, and 0 is none', async (t) => {
  const node = await openReconciled(t);
  const [first, ...rest] = backendsOf(4) as [Backend, ...Backend[]];
  await node.put(web([first, ...rest], { holdSeconds: 1 }), www);
  await node.put(web([{ ...first, state: 'drain' }, ...rest], { holdSeconds: 1 }));
  const held = async () => (await node.facts.pool('web'))?.ring?.inTransition;
  assert.ok(((await held()) ?? 0) > 0);
  await new Promise((resolve) => setTimeout(resolve, 1100));
  node.moved(); // as the reconciler does every 10 seconds
  await until('rows are stable', () => rowsOf(node).every((owner, at) => at % 4 === 0 || owner === ''));
  await until('and told so', () => node.reconciler.state().rings.get('web')?.view.inTransition === 0);
  await node.put(web([first, ...rest], { holdSeconds: 0 }));
  assert.equal(await held(), 0);
});

for (const hours of [1, -1])
  test(`history: a clock that is set by ${hours} h ends neither holds nor drains`, async (t) => {
    const node = await openReconciled(t);
    const [first, ...rest] = backendsOf(4) as [Backend, ...Backend[]];
    await node.put(web([first, ...rest]), www);
    const before = ownersOf(node, www, 'syn');
    const drain = { since: new Date().toISOString(), deadline: new Date(Date.now() + 600_000).toISOString() };
    await node.put(web([{ ...first, state: 'drain', drain }, ...rest]));
    const real = Date.now;
    t.after(() => {
      Date.now = real;
    });
    Date.now = () => real() + hours * 3_600_000;
    await node.round();
    await node.put({ ...www, name: 'other', port: 81 });
    forget(node);
    assert.deepEqual(ownersOf(node, www, 'ack'), before);
    assert.equal(node.reconciler.state().error, null);
  });

test('history: a daemon that starts anew, and another node, make the same rows of the same document', async (t) => {
  const node = await openReconciled(t);
  const backends = backendsOf(6);
  await node.put(web(backends), www);
  for (const [at, each] of backends.entries()) {
    await node.put(web(backends.with(at, { ...each, state: at % 2 ? 'drain' : 'active', weight: 10 + at * 30 })));
  }
  const rows = rowsOf(node);
  assert.ok(
    rows.some((owner, at) => at % 4 === 2 && owner !== ''),
    'some rows have two owners before',
  );
  await node.restart();
  assert.deepEqual(rowsOf(node), rows);
  assert.equal(node.reconciler.state().changes, 0);

  const document = await parseState(formatState(node.store.read()), 'copy');
  const other = await openReconciled(t, { initial: document });
  assert.deepEqual(rowsOf(other), rows);
});

test('history: rows of a backend that cannot be reached from here go to others, and home again', async (t) => {
  const node = await openReconciled(t);
  const backends = backendsOf(4);
  await node.put(web(backends), www);
  await node.put(web(backends.with(0, { ...(backends[0] as Backend), state: 'drain' })));
  const rows = rowsOf(node);
  const lost = backends[1]?.address ?? '';
  node.lost.add(lost);
  node.moved();
  await until('rows have left', () => !rowsOf(node).some((owner, at) => at % 4 === 0 && owner === lost));
  for (const [at, owner] of rowsOf(node).entries()) if (rows[at] !== lost) assert.equal(owner, rows[at]);
  node.lost.clear();
  node.moved();
  await until('rows are home', () => rowsOf(node).join() === rows.join());
});

test('history: a flow that goes on on another CPU stays where it was, and is no new connection', {
  skip: cpus < 2 && 'one CPU',
}, async (t) => {
  const node = await openReconciled(t);
  t.after(() => pinTo(`0-${cpus - 1}`));
  const backends = backendsOf(4);
  const dns: Service = { ...serviceOf('dns', 'web', 53), protocol: 'udp' };
  await node.put(web(backends), www, dns);
  pinTo(0);
  const begun = [www, dns].map((service) => ownersOf(node, service, 'syn'));
  const connections = async () => (await node.facts.service('dns'))?.connections;
  assert.equal(await connections(), CLIENTS);
  await node.put(web(backends.map((each, at) => (at < 2 ? { ...each, state: 'drain' } : each))));
  await node.put(web(backends.map((each, at) => (at === 2 ? { ...each, weight: 10 } : each))));
  pinTo(1);
  assert.deepEqual(
    [www, dns].map((service) => ownersOf(node, service, 'ack')),
    begun,
  );
  const again = (await connections()) ?? 0;
  assert.ok(again < CLIENTS * 2, 'rows in transition are asked');
});

test('drain: keeps its flows until the deadline, and has none afterwards', async (t) => {
  const node = await openReconciled(t);
  const [first, ...rest] = backendsOf(3) as [Backend, ...Backend[]];
  await node.put(web([first, ...rest]), www);
  const begun = ownersOf(node, www, 'syn');
  assert.deepEqual(ownersOf(node, www, 'ack'), begun);
  const left = begun.filter((owner) => owner === first.address).length;
  const since = new Date().toISOString();
  const deadline = new Date(Date.now() + 1500).toISOString();
  await node.put(web([{ ...first, state: 'drain', drain: { since, deadline } }, ...rest]));
  assert.deepEqual(ownersOf(node, www, 'ack'), begun);
  const statusOf = async () => (await node.facts.pool('web'))?.backends.get(first.name)?.drain;
  const draining = await statusOf();
  assert.equal(draining?.flowsLeft, left);
  assert.ok((draining?.ages?.oldest ?? 99) < 10 && (draining?.etaSeconds ?? 99) <= 2 && draining?.done === false);
  // The reconciler wakes up for it.
  await until('it takes nothing', () => !ownersOf(node, www, 'ack').includes(first.address), 4000);
  assert.ok(Date.now() >= Date.parse(deadline));
  assert.equal((await statusOf())?.done, true);
  await node.put(web([first, ...rest]));
  assert.ok(ownersOf(node, www, 'syn', 2000).includes(first.address), 'its rows are home');
});
