// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  judge,
  type Lag,
  lagsOf,
  type NodeDocument,
  type NodeRing,
  readNode,
} from '../../src/controlplane/node-document.js';

const ring = (digest: string, more: Partial<NodeRing> = {}): NodeRing => ({
  ...{ digest, generation: 1, basis: '7/1/0', without: [], asWanted: true },
  ...more,
});

const node = (name: string, more: Partial<NodeDocument> = {}): [string, NodeDocument] => [
  name,
  {
    ...{ node: name, instance: name, host: 'h', version: '1', startedAt: '2026-11-29T00:00:00.000Z' },
    ...{ revision: 7, appliedRevision: 7, error: null, ready: true, notReady: [], announcing: null, rings: {} },
    ...more,
  },
];

/** Who is not ok, of nodes with these rings of one pool. */
function differing(...rings: readonly NodeRing[]): Record<string, string | null> {
  const nodes = new Map(rings.map((each, at) => node(`n${at}`, { rings: { web: each } })));
  const verdicts = judge(nodes, new Map(), 0, 1000);
  return Object.fromEntries(
    [...verdicts].flatMap(([name, { state, detail }]) => (state === 'ok' ? [] : [[name, detail]])),
  );
}

test('nodes: the one of three with another ring from the same members differs', () => {
  assert.deepEqual(differing(ring('a'), ring('a'), ring('a')), {});
  assert.deepEqual(differing(ring('a'), ring('b'), ring('a')), {
    n1: 'the ring of pool "web" is b, as 1 of 3 nodes with the same members have it',
  });
});

test('nodes: of two that disagree nobody knows which is right, unless one knows it of itself', () => {
  assert.deepEqual(Object.keys(differing(ring('a'), ring('b'))), ['n0', 'n1']);
  assert.deepEqual(differing(ring('a'), ring('b', { asWanted: false })), {
    n1: 'the ring of pool "web" in the kernel is not the one worked out from the store',
  });
});

test('nodes: rings from other members, another moment or other backends in reach are not compared', () => {
  for (const basis of ['8/2/0', '7/1/1795954189', '7/1/0/b1'])
    assert.deepEqual(differing(ring('a'), ring('a'), ring('b', { basis })), {});
});

test('nodes: who does not reach a revision in time is behind; who always runs after newer ones is not', () => {
  const nodes = (applied: number) =>
    new Map([node('a'), node('b', { appliedRevision: applied, error: 'the table is full' })]);
  let lags: Map<string, Lag> = new Map();
  const look = (applied: number, newest: number, now: number): string => {
    lags = lagsOf(nodes(applied), newest, now, lags);
    return judge(nodes(applied), lags, now, 1000).get('b')?.state ?? '';
  };
  for (let now = 0; now < 5000; now += 100) assert.equal(look(now / 100, now / 100 + 3, now), 'ok');
  assert.equal(look(60, 60, 5000), 'ok');
  assert.equal(look(60, 61, 6000), 'ok');
  assert.equal(look(60, 90, 6999), 'ok');
  assert.equal(look(60, 91, 7000), 'behind');
  const verdict = judge(nodes(60), lags, 7000, 1000).get('b');
  assert.equal(verdict?.detail, 'revision 60 is in force, 61 is wanted: the table is full');
  assert.equal(look(61, 91, 7001), 'ok');
  assert.equal(look(61, 20, 9000), 'ok', 'a store that was restored went back');
});

test('nodes: a document of a newer version is read, one with a wrong field is not', () => {
  const [, good] = node('a', { rings: { web: ring('a') } });
  assert.deepEqual(readNode({ ...good, later: 1 }), { ...good, later: 1 });
  for (const bad of [null, [], 'x', {}, { ...good, ready: 'yes' }, { ...good, rings: { web: 7 } }])
    assert.ok(Array.isArray(readNode(bad)), JSON.stringify(bad));
});
