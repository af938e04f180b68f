// SPDX-License-Identifier: Apache-2.0
// What a real node tells before a write (dry run, diff), of what it carries (topology) and of what happens to it (events).
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { run } from '../../src/lab/netns.js';
import { putObjects } from '../../src/lab/objects.js';
import type { Effect } from '../../src/model/effect.js';
import type { FairleadEvent } from '../../src/model/events.js';
import type { Topology } from '../../src/model/topology.js';
import { operationsOf } from '../support/api-client.js';
import { storm } from '../support/api-storm.js';
import { cli } from '../support/cli.js';
import { openEvents } from '../support/event-source.js';
import { tracesOf, until } from '../support/lab.js';
import { openSender, openServedLab, type SendDatagrams, type ServedLab } from '../support/served-lab.js';
import { chosenSeed, randomFrom } from '../unit/random.js';

const name = 're-eff';
const pool = '/api/v1/pools/web4';
let lab: ServedLab;
let send: SendDatagrams;
let port = 20_000;

before(async () => {
  lab = await openServedLab(name, 3);
  send = await openSender(lab);
});
after(async () => {
  await lab.close();
  assert.deepEqual(tracesOf(name), []);
});

/** New flows to the IPv4 VIP; how many each backend echoed. */
async function flows(count: number): Promise<ReadonlyMap<string, number>> {
  const wanted = Array.from({ length: count }, () => {
    return { from: '10.1.0.2', fromPort: port++, to: lab.topology.vip4, size: 64, count: 1 };
  });
  const seen = new Map<string, number>();
  for (const [backend = ''] of await send(wanted)) seen.set(backend, (seen.get(backend) ?? 0) + 1);
  return seen;
}

interface ShownPool {
  readonly backends: readonly object[];
  readonly status: {
    readonly ringRows: number;
    readonly backends: Readonly<Record<string, { shareReal: number; flows: number }>>;
  };
}
const shown = async (): Promise<ShownPool> => (await lab.api('GET', pool)) as ShownPool;

/** Rows of each backend as the kernel has them. */
async function rowsNow(): Promise<Record<string, number>> {
  const { status } = await shown();
  return Object.fromEntries(
    Object.entries(status.backends).map(([backend, { shareReal }]) => [
      backend,
      Math.round(shareReal * status.ringRows),
    ]),
  );
}

const only = ({ pools: [one] }: Effect) => one ?? assert.fail('no pool in the effect');
const rowsIn = (effect: Effect, side: 'rowsBefore' | 'rowsAfter'): Record<string, number> =>
  Object.fromEntries(only(effect).backends.map((backend) => [backend.name, backend[side]]));

test('effect: a dry run tells the rows that every verb then really moves, and changes nothing', async () => {
  const echoed = await flows(300);
  await until(
    'the flows are counted',
    async () => ((await shown()).status.backends.be2?.flows ?? 0) === echoed.get('be2'),
  );
  const be2 = echoed.get('be2') ?? 0;
  const document = { address: lab.topology.backends[1]?.address4 };
  for (const [method, path, body, lost] of [
    ['POST', `${pool}/backends/be2/drain`, undefined, 0],
    ['POST', `${pool}/backends/be2/undrain`, undefined, 0],
    ['PATCH', `${pool}/backends/be1`, { weight: 10 }, 0],
    ['PUT', `${pool}/backends/be1`, { address: lab.topology.backends[0]?.address4, weight: 100 }, 0],
    ['DELETE', `${pool}/backends/be2`, undefined, be2],
    ['PUT', `${pool}/backends/be2`, document, 0],
    ['PATCH', pool, { ring: { size: 1009 } }, 0],
    ['PATCH', pool, { ring: { size: 307 } }, 0],
  ] as const) {
    const what = `${method} ${path}`;
    const held = JSON.stringify(await lab.api('GET', '/api/v1/configuration'));
    const rows = await rowsNow();
    const { effect } = (await lab.api(method, `${path}?dryRun=true`, body)) as { effect: Effect };
    assert.deepEqual(
      [await rowsNow(), JSON.stringify(await lab.api('GET', '/api/v1/configuration'))],
      [rows, held],
      what,
    );
    const seen = Object.fromEntries(Object.entries(rowsIn(effect, 'rowsBefore')).filter(([each]) => each in rows));
    assert.deepEqual(seen, rows, what);
    assert.equal(effect.flows.moved, lost, what);
    assert.deepEqual(effect.changes, [{ kind: 'pool', name: 'web4', action: 'change' }]);
    if (path.endsWith('/drain')) {
      assert.equal(only(effect).rows.moved, rows.be2, 'a drain moves the rows of that member');
      assert.equal(effect.flows.onMovedRows, be2);
    }
    await lab.ask(method, `${path}?wait=applied`, body);
    const after = Object.entries(rowsIn(effect, 'rowsAfter')).filter(([, count]) => count > 0);
    const real = Object.entries(await rowsNow()).filter(([, count]) => count > 0);
    assert.deepEqual(after, real, `${what}: what was told is what came`);
  }
});

test('effect: of services: their flows move when they go or get another address', async () => {
  const live = async (): Promise<number> =>
    ((await lab.api('GET', '/api/v1/services/echo4')) as { status: { flows: number } }).status.flows;
  await flows(10);
  await until('the flows are counted', async () => (await live()) >= 10);
  const count = await live();
  for (const [method, body, moved] of [
    ['DELETE', undefined, count],
    ['PATCH', { port: 9 }, count],
    ['PATCH', { affinity: 'source' }, 0],
  ] as const) {
    const { effect } = (await lab.api(method, '/api/v1/services/echo4?dryRun=true', body)) as { effect: Effect };
    assert.deepEqual([effect.flows.live, effect.flows.moved, effect.rows.total], [count, moved, 0]);
  }
});

test('topology: clients by prefix, services and backends, with rates while packets flow', async () => {
  const datagrams = { size: 100, count: 20 };
  let over = false;
  const traffic = (async () => {
    while (!over)
      await send([
        { ...datagrams, from: '10.1.0.2', fromPort: port++, to: lab.topology.vip4 },
        { ...datagrams, from: 'fd00:1::2', fromPort: port++, to: lab.topology.vip6 },
      ]);
  })();
  const map = (await lab.api('GET', '/api/v1/topology')) as Topology;
  const wide = (await lab.api('GET', '/api/v1/topology?prefix4=8&prefix6=16&service=echo4')) as Topology;
  const hidden = (await lab.api('GET', '/api/v1/topology?clients=0&service=echo6')) as Topology;
  over = true;
  await traffic;
  assert.deepEqual(map.clients.map(({ id }) => id).sort(), ['10.1.0.0/24', 'fd00:1::/48']);
  assert.deepEqual(map.services.map(({ name: each }) => each).sort(), ['echo4', 'echo6', 'http4', 'http6']);
  assert.deepEqual(
    [wide.clients.map(({ id }) => id), wide.services.length, wide.servicesLeftOut],
    [['10.0.0.0/8'], 1, 0],
  );
  assert.deepEqual(
    hidden.clients.map(({ id, prefix, prefixes }) => [id, prefix, prefixes]),
    [['other', null, 1]],
  );
  const sum = (parts: readonly { readonly packetsPerSecond: number }[]): number =>
    parts.reduce((total, each) => total + each.packetsPerSecond, 0);
  for (const service of ['echo4', 'echo6']) {
    const one = map.services.find((each) => each.name === service);
    const toBackends = sum(map.backendEdges.filter((edge) => edge.service === service));
    const fromClients = sum(map.clientEdges.filter((edge) => edge.service === service));
    assert.ok(one && one.packetsPerSecond > 20 && one.connectionsPerSecond > 1 && one.flows > 0, JSON.stringify(one));
    assert.ok(Math.abs(toBackends - one.packetsPerSecond) < 1, `${toBackends} to backends of ${one.packetsPerSecond}`);
    // Flows and counters are read one after the other.
    assert.ok(
      Math.abs(fromClients / one.packetsPerSecond - 1) < 0.5,
      `${fromClients} from clients of ${one.packetsPerSecond}`,
    );
    assert.ok(one.bytesPerSecond > 100 * one.packetsPerSecond);
  }
  assert.ok(
    map.services.filter(({ name: each }) => each.startsWith('http')).every((each) => each.packetsPerSecond === 0),
  );
  assert.equal(map.backends.length, 6);
});

test('events: the node tells what happens to it, and who resumes after a restart knows that something is missing', async () => {
  const source = await openEvents(lab.socket, '/api/v1/events?after=0');
  const has = (type: string, object: string | null): boolean =>
    source.events.some((event) => event.type === type && event.object === object);
  const be3 = '/pools/web4/backends/be3';
  await until(
    'the beginning is told',
    () => has('node.started', null) && has('interface.attached', null) && has('config.applied', null),
  );
  assert.ok(
    has('pool.created', '/pools/web4') && has('backend.created', be3) && has('service.created', '/services/echo4'),
  );
  await lab.api('PATCH', `/api/v1${be3}`, { weight: 7 });
  await until('the change is told', () => has('backend.changed', be3));
  await lab.api('POST', `/api/v1${be3}/drain`, { deadlineSeconds: 1 });
  await until('the end of the drain is told', () => has('backend.drained', be3));
  await lab.api('POST', `/api/v1${be3}/undrain`);
  const ids = source.events.map(({ id }) => id);
  assert.deepEqual(
    ids,
    Array.from(ids, (_, at) => (ids[0] ?? 0) + at),
    'without a gap',
  );

  const link = ['-n', lab.topology.router, 'link', 'set', 'be3'];
  await run('ip', [...link, 'down']);
  await until('the lost next hop is told', () => has('backend.unreachable', be3));
  await run('ip', [...link, 'up']);
  await until('the next hop is told', () => has('backend.reachable', be3), 30_000);

  const counted = String((await lab.ask('GET', '/metrics')).body);
  assert.match(counted, /^fairlead_events_total\{type="backend\.unreachable"\} [1-9]/m);
  assert.match(counted, /^fairlead_events_lost_total 0$/m);
  const shownHere = await cli(['--socket', lab.socket, 'events', '--type', 'backend', '--object', be3, '-o', 'json']);
  const types = (JSON.parse(shownHere.out).items as FairleadEvent[]).map(({ type }) => type);
  assert.ok(types.includes('backend.drained') && types.every((type) => type.startsWith('backend.')), shownHere.out);

  const last = source.lastId();
  source.close();
  await lab.serve().kill('SIGKILL');
  await lab.start();
  const again = await openEvents(lab.socket, '/api/v1/events', { 'last-event-id': last });
  await until('the new run is told', () => again.events.some(({ type }) => type === 'config.applied'));
  assert.deepEqual(
    again.events.slice(0, 2).map(({ type, data }) => [type, data?.lost]),
    [
      ['events.lost', null],
      ['node.started', undefined],
    ],
  );
  assert.ok(again.events.every(({ id }) => id > Number(last)));
  again.close();
});

test('apply: diff tells what apply then does, in one revision, and the next packet follows', async () => {
  const { services, pools } = (await lab.api('GET', '/api/v1/configuration')) as {
    services: object[];
    pools: { name: string; backends: { name: string; state: string }[] }[];
  };
  const changed = pools.map((each) => ({
    ...each,
    backends: each.backends.map((backend) => ({ ...backend, state: backend.name === 'be1' ? 'active' : 'drain' })),
  }));
  const file = `${lab.directory}/wanted.json`;
  writeFileSync(file, JSON.stringify({ services, pools: changed }));
  const fairlead = (...args: readonly string[]) => cli(['--socket', lab.socket, ...args]);
  const diff = await fairlead('diff', '-f', file);
  assert.match(
    diff.out,
    /^~ pool web4\n~ pool web6\n\nwould move {2}\d+ of 614 rows \(\d\d\.\d%\), 0 of \d+ live flows/,
    diff.err,
  );
  const applied = await fairlead('apply', '-f', file, '--wait');
  assert.match(
    applied.out,
    /^~ pool web4\n~ pool web6\n2 objects changed at revision \d+, in the kernel\n$/,
    applied.err,
  );
  assert.deepEqual([...(await flows(30)).keys()], ['be1']);
  assert.equal((await fairlead('diff', '-f', file)).out, 'no difference\n');
});

test('api fuzz: five hundred random bodies on a real node, and packets flow as before', async (t) => {
  const seed = chosenSeed();
  t.diagnostic(`seed ${seed}`);
  const operations = operationsOf(await lab.api('GET', '/openapi.json'));
  // Without the revision: what the checks find of backends that are not there is written, too.
  const held = async (): Promise<string> => {
    const { revision: _, ...objects } = (await lab.api('GET', '/api/v1/configuration')) as { revision: number };
    return JSON.stringify(objects);
  };
  const { accepted } = await storm({ socket: lab.socket, operations, held }, randomFrom(seed), 500);
  assert.ok(accepted > 25, `${accepted} accepted`);
  await lab.api('PUT', '/api/v1/configuration?wait=applied', { services: [], pools: [] });
  await putObjects(lab.api, lab.topology);
  assert.ok((await flows(30)).size > 1);
  const { lastError } = (await lab.api('GET', '/api/v1/status')) as { lastError: string | null };
  assert.equal(lastError, null);
});
