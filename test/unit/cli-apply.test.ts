// SPDX-License-Identifier: Apache-2.0
// apply, diff and events against the real API.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { openEventLog } from '../../src/observability/event-log.js';
import { cli, type Ended } from '../support/cli.js';
import { openApi } from '../support/open-api.js';

const both = `kind: Pool
name: web
backends:
  - { name: b1, address: 10.0.0.1 }
  - { name: b2, address: 10.0.0.2, weight: 50 }
---
kind: Service
name: www
address: 192.0.2.10
port: 80
protocol: tcp
pool: web
`;

async function open(t: TestContext, events = openEventLog(1000, Date.now, 1)) {
  const api = await openApi(t, events);
  const directory = mkdtempSync(join(tmpdir(), 'fairlead-apply-'));
  t.after(() => rmSync(directory, { recursive: true }));
  const file = (name: string, text: string): string => {
    writeFileSync(join(directory, name), text);
    return join(directory, name);
  };
  const run = (args: readonly string[], stdin = ''): Promise<Ended> =>
    cli(['--socket', api.socket, ...args], { stdin });
  return { ...api, file, run };
}

test('cli apply: makes the store equal the file, says what it did, and the second time that there is nothing to do', async (t) => {
  const { run, file, store } = await open(t);
  const path = file('all.yaml', both);
  assert.deepEqual(await run(['apply', '-f', path]), {
    ...{ code: 0, err: '' },
    out: '+ pool web\n+ service www\n2 objects changed at revision 1\n',
  });
  assert.equal((await run(['apply', '-f', path])).out, 'nothing to change: the store is at revision 1\n');
  assert.equal(
    (await run(['apply', '-f', '-', '--wait'], both.replace('50', '60'))).out,
    '~ pool web\n1 object changed at revision 2, in the kernel\n',
  );
  assert.equal(
    (await run(['apply', '-f', '-'], 'services: []\npools: []')).out,
    '- pool web\n- service www\n2 objects changed at revision 3\n',
  );
  assert.equal(store.read().pools.size, 0);
});

test('cli apply: several files, --keep, --dry-run and --if-revision', async (t) => {
  const { run, file, store } = await open(t);
  const [pool = '', service = ''] = both.split('---\n');
  const paths = [file('pool.yaml', pool), file('service.yaml', service)];
  assert.equal((await run(['apply', ...paths.flatMap((path) => ['-f', path])])).code, 0);
  const other = file('other.yaml', 'pools:\n  - { name: dns }\n');
  assert.match(
    (await run(['apply', '-f', other, '--dry-run'])).out,
    /^\+ pool dns\n- pool web\n- service www\n\nwould move {2}0 of 0 rows/,
  );
  assert.equal(store.read().revision, 1);
  assert.match((await run(['apply', '-f', other, '--keep'])).out, /^\+ pool dns\n1 object changed at revision 2\n$/);
  const late = await run(['apply', '-f', other, '--if-revision', '1']);
  assert.deepEqual([late.code, store.read().revision], [4, 2]);
  assert.deepEqual(JSON.parse((await run(['apply', '-f', other, '--keep', '-o', 'json'])).out), {
    revision: 2,
    changes: [],
  });
});

test('cli apply: takes lists, items and JSON, and what ls prints with its kind', async (t) => {
  const { run, store } = await open(t);
  const pool = { kind: 'Pool', name: 'web', revision: 7, status: null };
  for (const text of [
    JSON.stringify([pool]),
    JSON.stringify({ items: [pool] }),
    '---\nkind: Pool\nname: web\n---\n',
    'pools: [{name: web}]',
  ]) {
    const { code, err } = await run(['apply', '-f', '-'], text);
    assert.deepEqual([code, err], [0, ''], text);
  }
  assert.equal(store.read().revision, 1);
});

test('cli apply: what is wrong is named with file, line and column, and nothing is changed', async (t) => {
  const { run, file, store } = await open(t);
  const wrong = file('wrong.yaml', both.replace('port: 80', 'port: 80000').replace('10.0.0.2', '10.0.0.1'));
  const ended = await run(['apply', '-f', wrong]);
  assert.equal(ended.code, 4);
  assert.equal(
    ended.err,
    [
      `fairlead: ${wrong}: nothing was changed`,
      `  ${wrong}:10:7: service "www": /port: 80000 is out of range; use 0 to 65535`,
      `  ${wrong}:5:26: pool "web": /backends/1/address: 10.0.0.1 is the address of backend "b1" already`,
      '',
    ].join('\n'),
  );
  for (const [text, said] of [
    ['', /standard input: no object in it; to delete everything, write "services: \[\]" and "pools: \[\]"/],
    ['---\n---\n', /no object in it/],
    ['kind: Route\nname: x', /standard input:1:1: wanted "kind: Service" or "kind: Pool"; got "Route"/],
    ['- name: x', /standard input:1:3: wanted "kind: Service" or "kind: Pool"; it has none/],
    ['a: [', /standard input:\d+:\d+: /],
    ['kind: Pool\nname: a\n---\nkind: Pool\nname: [', /standard input:[56]:\d+: /],
    ['services: 7', /standard input:1:11: wanted a list/],
    ['just words', /standard input:1:1: wanted the fields of an object/],
  ] as const) {
    const { code, err } = await run(['apply', '-f', '-'], text);
    assert.equal(code, 4, text);
    assert.match(err, said);
  }
  assert.equal((await run(['apply'])).code, 2);
  assert.equal(store.read().revision, 0);
});

test('cli diff: shows the changes and the share that would move, changes nothing, and exits as it is asked to', async (t) => {
  const { run, node, store } = await open(t);
  node.effect = async () => ({
    changes: [],
    rows: { total: 251, moved: 84 },
    flows: { live: 1000, moved: 120, onMovedRows: 213 },
    pools: [
      {
        name: 'web',
        rows: { total: 251, moved: 84 },
        flows: { live: 1000, moved: 120, onMovedRows: 213 },
        backends: [],
      },
    ],
  });
  const moves =
    '84 of 251 rows (33.5%), 120 of 1000 live flows (12.0%), about 213 more would stay while their records are kept';
  const ended = await run(['diff', '-f', '-'], both);
  assert.deepEqual(ended, {
    ...{ code: 0, err: '' },
    out: `+ pool web\n+ service www\n\nwould move  ${moves}\n  pool web: ${moves}\n`,
  });
  assert.equal(store.read().revision, 0);
  assert.equal((await run(['diff', '-f', '-', '--exit-code'], both)).code, 1);
  await run(['apply', '-f', '-'], both);
  assert.deepEqual(await run(['diff', '-f', '-', '--exit-code'], both), { code: 0, out: 'no difference\n', err: '' });
});

test('cli events: the newest, oldest first; filters, spans and --watch', async (t) => {
  const { run, events, socket } = await open(t);
  assert.deepEqual(await run(['events']), { code: 0, out: '', err: 'no events\n' });
  for (const severity of ['info', 'warning', 'error'] as const)
    events.emit({ type: `t.${severity}`, severity, object: null, message: `it is ${severity}` });
  const lines = (await run(['events', '--no-headers'])).out.trimEnd().split('\n');
  assert.deepEqual(
    lines.map((line) => line.split(/ {2,}/).slice(1)),
    [
      ['info', 't.info', 'it is info'],
      ['warning', 't.warning', 'it is warning'],
      ['error', 't.error', 'it is error'],
    ],
  );
  const ids = async (...args: string[]): Promise<number[]> =>
    JSON.parse((await run(['events', '-o', 'json', ...args])).out).items.map(({ id }: { id: number }) => id);
  assert.deepEqual(await ids('--severity', 'warning'), [2, 3]);
  assert.deepEqual(await ids('--limit', '1'), [3]);
  assert.deepEqual(await ids('--since', '1h30m', '--type', 't.info'), [1]);
  assert.deepEqual(await ids('--since', '2100-01-01T00:00:00Z'), []);
  for (const wrong of ['soon', '', '5', '2026-99-99T00:00:00Z'])
    assert.equal((await run(['events', '--since', wrong])).code, 2, wrong);

  const stop = new AbortController();
  const watching = cli(['--socket', socket, 'events', '--watch', '--limit', '1', '-o', 'json'], {
    stop: stop.signal,
    onOut(text) {
      if (text.includes('"id":3')) events.emit({ type: 't.new', severity: 'info', object: null, message: 'new' });
      if (text.includes('t.new')) stop.abort();
    },
  });
  const { code, out } = await watching;
  assert.equal(code, 0);
  assert.deepEqual(
    out
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line).id),
    [3, 4],
  );
});

test('cli: -o name prints names, -o wide cuts nothing', async (t) => {
  const { run, file, socket } = await open(t);
  await run(['apply', '-f', file('all.yaml', both)]);
  assert.equal((await run(['services', 'ls', '-o', 'name'])).out, 'www\n');
  assert.equal((await run(['backends', 'ls', '-o', 'name'])).out, 'web/b1\nweb/b2\n');
  assert.equal((await run(['pools', 'get', 'web', '-o', 'name'])).out, 'web\n');
  const narrow = await cli(['--socket', socket, 'backends', 'ls'], { columns: 40 });
  const wide = await cli(['--socket', socket, 'backends', 'ls', '-o', 'wide'], { columns: 40 });
  assert.ok(wide.out.includes('NEXT HOP') && !narrow.out.includes('NEXT HOP'));
});
