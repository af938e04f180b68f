// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { before, type TestContext, test } from 'node:test';
import { DURATIONS } from '../../src/controlplane/health/checker.js';
import { openEventLog } from '../../src/observability/event-log.js';
import { truncate } from '../../src/observability/exposition.js';
import { healthFamilies } from '../../src/observability/health-view.js';
import { openMetrics } from '../../src/observability/metrics.js';
import { type Family, readExposition } from '../support/exposition.js';
import { pinTo } from '../support/packet-run.js';
import { frame, ipv4Header } from '../support/packets.js';
import { openReconciled, type Reconciled } from '../support/reconciled.js';
import { backendOf, backendsOf, poolOf, serviceOf } from '../support/snapshots.js';

const www = serviceOf('www', 'web');
const SIZE = 40; // an IPv4 header and a TCP header

async function scrape(node: Reconciled): Promise<Map<string, Family>> {
  const { contentType, text } = await openMetrics(node.facts, openEventLog())();
  assert.equal(contentType, 'text/plain; version=0.0.4; charset=utf-8');
  return readExposition(text);
}

/** The samples of a family as "label=value ...": value. */
function samplesOf(families: Map<string, Family>, name: string): Record<string, number> {
  const samples = families.get(`fairlead_${name}`)?.samples ?? [];
  return Object.fromEntries(
    samples.map(({ labels, value }) => [
      Object.entries(labels)
        .map(([label, text]) => `${label}=${text}`)
        .join(' '),
      value,
    ]),
  );
}

const nonZero = (samples: Record<string, number>) =>
  Object.fromEntries(Object.entries(samples).filter(([, value]) => value !== 0));

/** One service, two backends of weights 100 and 0, a third that is not reachable; 10 flows, 5 more packets, 3 and 1 drops. */
async function withTraffic(t: TestContext): Promise<Reconciled> {
  const node = await openReconciled(t);
  const [a = backendOf(''), b = backendOf(''), c = backendOf('')] = backendsOf(3);
  node.lost.add(c.address);
  await node.put(
    poolOf('web', [
      { ...a, name: 'a' },
      { ...b, name: 'b', weight: 0, state: 'drain' },
      { ...c, name: 'c' },
    ]),
    poolOf('empty', []),
    www,
    serviceOf('none', 'empty', 81),
  );
  for (let client = 0; client < 10; client++) node.send(www, client);
  for (let client = 0; client < 5; client++) node.send(www, client, 'ack');
  for (let client = 0; client < 3; client++) node.send(serviceOf('none', 'empty', 81), client);
  node.send(serviceOf('x', 'x', 82), 1);
  const fragment = ipv4Header('198.51.100.1', www.address, 6, 0, { fragment: 0x2000 });
  node.program.run(frame(fragment), null);
  return node;
}

before(() => pinTo(0)); // a flow that meets two CPUs has a record on each

test('metrics: all that exists so far is there under its name, with its type', async (t) => {
  const families = await scrape(await withTraffic(t));
  const types = new Map([...families].map(([name, { type }]) => [name.replace('fairlead_', ''), type]));
  const gauges =
    'build_info service_info backend_info service_flows backend_flows backend_weight backend_state backend_ring_share ' +
    'flow_table_entries flow_table_capacity config_revision config_applied_revision config_apply_seconds store_connected ' +
    'store_documents_skipped nat_entries nat_capacity ' +
    'next_hops bpf_program_info series_truncated process_resident_memory_bytes nodejs_eventloop_lag_seconds';
  const counters =
    'service_packets_total service_bytes_total service_connections_total backend_packets_total backend_bytes_total ' +
    'backend_connections_total packets_total drops_total flow_table_hits_total flow_table_misses_total ' +
    'nat_port_exhausted_total flow_table_evictions_total store_relists_total process_cpu_seconds_total';
  for (const name of gauges.split(' ')) assert.equal(types.get(name), 'gauge', name);
  for (const name of counters.split(' ')) assert.equal(types.get(name), 'counter', name);
});

test('metrics: health checks have a histogram whose buckets add up', () => {
  const counts = [...DURATIONS.map((_, at) => at), 2];
  const [results, durations, transitions] = healthFamilies({
    results: { ok: 7, timeout: 1, error: 2, answer: 3 },
    ...{ durations: counts, sum: 12.5, transitions: { up: 1, down: 2 } },
  });
  assert.deepEqual(
    results?.samples.map(({ labels, value }) => `${labels.result} ${value}`),
    ['ok 7', 'timeout 1', 'error 2', 'answer 3'],
  );
  assert.deepEqual(
    transitions?.samples.map(({ labels, value }) => `${labels.to} ${value}`),
    ['up 1', 'down 2'],
  );
  const shown = durations?.samples.map(({ metricName, labels, value }) => [metricName, labels.le, value]) ?? [];
  const name = 'fairlead_health_check_duration_seconds';
  assert.deepEqual(shown.slice(0, 3), [
    [`${name}_bucket`, '0.001', 0],
    [`${name}_bucket`, '0.0025', 1],
    [`${name}_bucket`, '0.005', 3],
  ]);
  assert.deepEqual(shown.slice(-3), [
    [`${name}_bucket`, '+Inf', 80],
    [`${name}_sum`, undefined, 12.5],
    [`${name}_count`, undefined, 80],
  ]);
});

test('metrics: names say who they belong to and what they count', async (t) => {
  for (const [name, { type, help, samples }] of await scrape(await withTraffic(t))) {
    assert.match(name, /^fairlead_[a-z0-9_]+$/);
    assert.match(help, /\S/, name);
    if (name.startsWith('fairlead_nodejs_')) continue; // prom-client's own, which has a gauge nodejs_active_resources_total
    assert.equal(type === 'counter', name.endsWith('_total'), name);
    if (name.endsWith('_info')) for (const { value } of samples) assert.equal(value, 1, name);
    for (const { labels } of samples) assert.equal('client' in labels, false);
  }
});

test('metrics: traffic, drops and states are those of the kernel and the store', async (t) => {
  const node = await withTraffic(t);
  const families = await scrape(node);
  const of = (name: string) => samplesOf(families, name);
  assert.deepEqual(of('service_info'), {
    'service=www address=192.0.2.1 port=80 protocol=tcp pool=web': 1,
    'service=none address=192.0.2.1 port=81 protocol=tcp pool=empty': 1,
  });
  assert.deepEqual(of('service_packets_total'), { 'service=www': 15, 'service=none': 0 });
  assert.deepEqual(of('service_bytes_total'), { 'service=www': 15 * SIZE, 'service=none': 0 });
  assert.deepEqual(of('service_connections_total'), { 'service=www': 10, 'service=none': 0 });
  assert.equal(of('service_flows')['service=none'], 0);
  assert.deepEqual(of('backend_packets_total'), {
    'service=www pool=web backend=a': 15,
    'service=www pool=web backend=b': 0,
    'service=www pool=web backend=c': 0,
  });
  assert.equal(of('backend_bytes_total')['service=www pool=web backend=a'], 15 * SIZE);
  assert.equal(of('backend_connections_total')['service=www pool=web backend=a'], 10);
  assert.deepEqual(Object.values(of('backend_weight')), [100, 0, 100]);
  assert.deepEqual(Object.values(of('backend_ring_share')), [1, 0, 0]);
  assert.deepEqual(Object.keys(nonZero(of('backend_state'))), [
    'pool=web backend=a state=active',
    'pool=web backend=b state=drain',
    'pool=web backend=c state=active',
  ]);
  assert.deepEqual(of('next_hops'), { 'state=resolved': 2, 'state=unresolved': 1, 'state=off_link': 0 });
  assert.deepEqual(of('drops_total'), { 'service= reason=malformed': 1, 'service=none reason=no_backend': 3 });
  assert.deepEqual(nonZero(of('packets_total')), {
    'interface=lo action=tx': 15,
    'interface=lo action=drop': 4,
    'interface=lo action=pass': 1,
  });
  assert.deepEqual([of('config_revision'), of('config_applied_revision')], [{ '': 1 }, { '': 1 }]);
  assert.ok((of('config_apply_seconds')[''] ?? 0) > 0);
  assert.deepEqual(of('build_info'), { 'version=1.2.3 node=edge-1': 1 });
});

test('metrics: flows and lookups are those of the flow table', async (t) => {
  const families = await scrape(await withTraffic(t));
  const value = (name: string, labels = '') => samplesOf(families, name)[labels] ?? Number.NaN;
  assert.equal(value('flow_table_entries'), 10);
  assert.equal(value('service_flows', 'service=www'), 10);
  assert.equal(value('backend_flows', 'pool=web backend=a'), 10);
  assert.equal(value('flow_table_hits_total') + value('flow_table_misses_total'), 18);
  assert.equal(value('flow_table_evictions_total'), 0);
});

test('metrics: an empty node has them all too', async (t) => {
  const families = await scrape(await openReconciled(t));
  assert.deepEqual(samplesOf(families, 'service_packets_total'), {});
  assert.deepEqual(samplesOf(families, 'next_hops'), {
    'state=resolved': 0,
    'state=unresolved': 0,
    'state=off_link': 0,
  });
  assert.deepEqual(samplesOf(families, 'series_truncated'), { '': 0 });
});

test('metrics: what is cut off is counted, the last families first', () => {
  const family = (name: string, count: number) => ({
    name,
    type: 'gauge' as const,
    help: '',
    samples: Array.from({ length: count }, (_, at) => ({ labels: { at: String(at) }, value: at })),
  });
  const [kept, cut] = truncate([family('a', 3), family('b', 3), family('c', 2)], 4);
  assert.deepEqual([kept.map(({ samples }) => samples.length), cut], [[3, 1, 0], 4]);
});

test('metrics: 20000 series are shown and not one more', async (t) => {
  const node = await openReconciled(t);
  const pools = Array.from({ length: 20 }, (_, at) => poolOf(`p${at}`, backendsOf(120, at), 251));
  await node.put(...pools, ...pools.map(({ name }, at) => serviceOf(`s-${name}`, name, 1 + at)));
  const families = await scrape(node);
  const ours = [...families].filter(([name]) => !/fairlead_(process|nodejs|series)_/.test(name));
  const shown = ours.reduce((total, [, { samples }]) => total + samples.length, 0);
  assert.equal(shown, 20_000);
  // 10 for each backend, 5 for each service, 2 for each pool; the node has a few of its own.
  const cut = samplesOf(families, 'series_truncated')[''] ?? 0;
  const wanted = 20 * 120 * 10 + 20 * 5 + 20 * 2;
  assert.ok(cut > wanted - 20_000 && cut < wanted - 20_000 + 40, `${cut} are cut off`);
});

test('metrics: the reader of these tests is strict', () => {
  const head = '# HELP a_total x\n# TYPE a_total counter\n';
  assert.deepEqual(readExposition(`${head}a_total{l="1\\n\\"",m=""} 2.5e+3\n`).get('a_total')?.samples, [
    { name: 'a_total', labels: { l: '1\n"', m: '' }, value: 2500 },
  ]);
  for (const bad of [
    `${head}a_total 1`,
    `${head}a_total 1\na_total 2\n`,
    `${head}a_total{l="1",m="2"} 1\na_total{m="2",l="1"} 2\n`,
    `${head}a_total{l="1",l="2"} 1\n`,
    `${head}a_total{l="a"b"} 1\n`,
    `${head}a_total one\n`,
    `${head}b_total 1\n`,
    `${head}${head}`,
    'a_total 1\n',
    '# TYPE a_total counter\na_total 1\n',
    '# HELP 1a x\n# TYPE 1a gauge\n',
  ])
    assert.throws(() => readExposition(bad), SyntaxError, bad);
});
