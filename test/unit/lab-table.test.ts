// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { chiSquare } from '../../src/lab/chi-square.js';
import { allServices, type BackendView, labServices } from '../../src/lab/objects.js';
import { renderServices, renderTable, renderTotals } from '../../src/lab/table.js';
import { isLabNamespace, namespacesOf, planTopology } from '../../src/lab/topology.js';

const services = labServices(planTopology('lab', 2));

function view(name: string, shareWanted: number, packets: number, bytes: number): BackendView {
  const nextHop = { state: 'unresolved', interface: null, mac: null } as const;
  const health = { state: 'off', since: null, lastError: null, lastCheck: null, nodes: {} } as const;
  return {
    name,
    status: { health, shareWanted, shareReal: shareWanted, flows: 0, packets, bytes, connections: 0, nextHop },
  };
}

test('chi-square: the limit is the 99.999 % quantile, at most 12 % above it', () => {
  // By the regularised incomplete gamma function, for 1, 2, 3 and 63 degrees of freedom.
  for (const [members, quantile] of [
    [2, 19.511],
    [3, 23.026],
    [4, 25.902],
    [64, 122.727],
  ] as const) {
    const even = Array.from({ length: members }, () => 1);
    const ratio = chiSquare(even, even).limit / quantile;
    assert.ok(ratio >= 1 && ratio < 1.12, `${members} members: ratio ${ratio}`);
  }
});

test('chi-square: even counts fit, a lost member and one that should have nothing do not', () => {
  assert.equal(chiSquare([201, 199, 200], [1, 1, 1]).fits, true);
  assert.equal(chiSquare([300, 300, 0], [1, 1, 1]).fits, false);
  assert.equal(chiSquare([400, 0, 200], [2, 0, 1]).fits, true);
  assert.equal(chiSquare([400, 1, 199], [2, 0, 1]).fits, false);
  assert.equal(chiSquare([100, 500], [1, 1]).statistic, 800 / 3);
});

test('lab table: requests of all phases, kernel counts of both pools, shares of one phase', () => {
  const report = {
    phases: {
      old: { requests: 10, failed: 0, backends: { http4: { be1: 10 } } },
      now: { requests: 9, failed: 1, backends: { http4: { be1: 3 }, echo4: { be2: 1 }, http6: { be2: 4 } } },
    },
    errors: ['http4 from port 10000: refused'],
    idle: false,
  };
  const pools = {
    web4: [view('be1', 0.5, 30, 2000), view('be2', 0.5, 1, 60)],
    web6: [view('be1', 0, 0, 0), view('be2', 1, 8, 700)],
  };
  assert.deepEqual(renderTable({ report, pools, phase: 'now' }, services), [
    'BACKEND  REQUESTS  PACKETS  BYTES  web4 WANTED    GOT  web6 WANTED     GOT',
    'be1            13       30   2000        50.0%  75.0%         0.0%    0.0%',
    'be2             5        9    760        50.0%  25.0%       100.0%  100.0%',
  ]);
  assert.deepEqual(renderServices(report, allServices(planTopology('lab', 2))), [
    'ipip: http4 13, http6 4, echo4 1, echo6 0',
    'nat: nat4 0, nat6 0',
  ]);
  assert.deepEqual(renderTotals(report), ['19 requests, 1 failed', '  http4 from port 10000: refused']);
});

test('topology: 64 backends have addresses of their own; names and counts out of range are refused', () => {
  const { backends } = planTopology('lab', 64);
  assert.equal(new Set(backends.flatMap(({ address4, address6 }) => [address4, address6])).size, 128);
  for (const count of [0, 65, 1.5, Number.NaN]) assert.throws(() => planTopology('lab', count), { code: 'invalid' });
  for (const name of ['', 'Lab', '../x', 'a b', '1a', 'x'.repeat(17)])
    assert.throws(() => planTopology(name, 1), { code: 'invalid' });
});

test('topology: a lab knows its own namespaces, also those of a lab with more backends, and no others', () => {
  for (const namespace of namespacesOf(planTopology('lab', 64))) assert.ok(isLabNamespace('lab', namespace), namespace);
  for (const namespace of ['lab', 'lab-', 'lab-be', 'lab-two-be1', 'label-be1', 'lab-client2', 'xlab-client'])
    assert.ok(!isLabNamespace('lab', namespace), namespace);
});
