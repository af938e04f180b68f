// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, renameSync, rmdirSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { openAuditFile } from '../../src/api/access/audit-file.js';
import { bearer, temporary, tokenAccess } from '../support/access.js';
import { assertProblem, setup, webPool } from './api-setup.js';

interface Record {
  readonly request: string;
  readonly phase: 'attempt' | 'result';
  readonly who: { readonly how: string; readonly name: string | null; readonly address: string };
  readonly method: string;
  readonly path: string;
  readonly status?: number;
  readonly result?: string;
  readonly detail?: string;
  readonly revision?: number | null;
  readonly before?: { readonly [path: string]: unknown };
  readonly after?: { readonly [path: string]: unknown };
}

async function audited(t: TestContext, path = (directory: string) => join(directory, 'log', 'audit.jsonl')) {
  const given = await tokenAccess(t, (directory) => ({ audit: path(directory) }));
  const it = setup(t, given.access);
  const file = path(given.directory);
  const records = () =>
    readFileSync(file, 'utf8')
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line) as Record);
  return { ...given, ...it, file, records };
}

test('audit: a write is there before and after, with who, what, before, after and revision', async (t) => {
  const { call, file, records, tokens } = await audited(t);
  assert.equal(statSync(file).mode & 0o777, 0o600);
  const admin = bearer(tokens.admin);
  const made = await call('PUT', '/api/v1/pools/web?wait=applied', webPool, admin);
  assert.equal(made.statusCode, 201);
  const changed = await call('PATCH', '/api/v1/pools/web/backends/b1', { weight: 9 }, bearer(tokens.operate));
  assert.equal(changed.statusCode, 200);
  assert.equal((await call('DELETE', '/api/v1/pools/web', undefined, admin)).statusCode, 204);
  const all = records();
  assert.deepEqual(
    all.map(({ phase }) => phase),
    ['attempt', 'result', 'attempt', 'result', 'attempt', 'result'],
  );
  const [attempt, put, , patch, , gone] = all;
  assert.equal(attempt?.request, put?.request);
  assert.deepEqual(put?.who, { how: 'token', name: 'admin', scope: 'admin', address: '127.0.0.1' });
  assert.deepEqual([put.method, put.path, put.status, put.result], ['PUT', '/api/v1/pools/web', 201, 'done']);
  assert.deepEqual([put.revision, put.before], [1, { '/pools/web': null }]);
  assert.equal(patch?.who.name, 'operate');
  const weightOf = (documents: Record['before']) =>
    (documents?.['/pools/web'] as { backends: { weight: number }[] } | null)?.backends[0]?.weight;
  assert.deepEqual([weightOf(patch?.before), weightOf(patch?.after)], [weightOf(put.after), 9]);
  assert.deepEqual([gone?.revision, gone?.after, weightOf(gone?.before)], [3, { '/pools/web': null }, 9]);
});

test('audit: refused writes are there too, reads and dry runs are not', async (t) => {
  const { call, records, tokens } = await audited(t);
  const admin = bearer(tokens.admin);
  const put = (body: unknown, headers: { [name: string]: string }, query = '') =>
    call('PUT', `/api/v1/pools/web${query}`, body, headers);
  assert.equal((await put(webPool, {})).statusCode, 401);
  assert.equal((await put(webPool, bearer(tokens.operate))).statusCode, 403);
  assert.equal((await put({ backend: [] }, admin)).statusCode, 400);
  assert.equal((await put('{', { ...admin, 'content-type': 'application/json' })).statusCode, 400);
  assert.equal((await put(webPool, { ...admin, 'if-match': '"7"' })).statusCode, 412);
  assert.equal((await call('DELETE', '/api/v1/pools/none', undefined, admin)).statusCode, 404);
  assert.equal((await put(webPool, bearer(tokens.operate), '?dryRun=true')).statusCode, 403);
  const results = records().filter(({ phase }) => phase === 'result');
  assert.deepEqual(
    results.map(({ status, who }) => [status, who.name]),
    [
      [401, null],
      [403, 'operate'],
      [400, 'admin'],
      [400, 'admin'],
      [412, 'admin'],
      [404, 'admin'],
      [403, 'operate'],
    ],
  );
  assert.ok(results.every(({ result, detail }) => result === 'refused' && detail !== ''));
  const count = records().length;
  assert.equal((await put(webPool, admin, '?dryRun=true')).statusCode, 200);
  await call('GET', '/api/v1/pools', undefined, admin);
  await call('GET', '/api/v1/pools');
  assert.equal(records().length, count);
});

test('audit: what hammers at the door is written down once per burst, not line by line', async (t) => {
  const { call, records } = await audited(t);
  for (let at = 0; at < 30; at++) await call('PUT', '/api/v1/pools/web', webPool, bearer('fairlead_guess'));
  assert.deepEqual(
    records().map(({ status }) => status),
    [...Array(10).fill(401), 429],
  );
});

test('audit: without room in the log writes are 503 and change nothing, reads go on, and later writes work again', async (t) => {
  const mount = mkdtempSync(join(tmpdir(), 'fairlead-audit-'));
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=16k,mode=700', 'tmpfs', mount]);
  t.after(() => {
    execFileSync('umount', ['-l', mount]);
    rmdirSync(mount);
  });
  const it = await audited(t, () => join(mount, 'audit.jsonl'));
  const { access, call, file, records, store, tokens, events } = it;
  const admin = bearer(tokens.admin);
  const fill = join(mount, 'fill');
  execFileSync('sh', ['-c', `head -c 1000000 /dev/zero > ${fill} || true`], { stdio: 'ignore' });
  assert.equal((await call('PUT', '/api/v1/pools/one', {}, admin)).statusCode, 503, 'the first page is not there yet');
  execFileSync('rm', [fill]);
  assert.equal((await call('PUT', '/api/v1/pools/one', {}, admin)).statusCode, 201);
  execFileSync('sh', ['-c', `head -c 1000000 /dev/zero > ${fill} || true`], { stdio: 'ignore' });
  let last = await call('PUT', '/api/v1/pools/two', webPool, admin);
  for (let at = 0; at < 50 && last.statusCode !== 503; at++)
    last = await call('PUT', '/api/v1/pools/two', { ...webPool, holdSeconds: at }, admin);
  assertProblem(last, 503, 'unavailable');
  assert.match(last.json().detail, /^write the audit log ".*audit\.jsonl": ENOSPC|of \d+ bytes were written/);
  const stuck = store.read();
  assert.equal((await call('DELETE', '/api/v1/pools/one', undefined, admin)).statusCode, 503);
  assert.equal(store.read(), stuck);
  assert.equal((await call('GET', '/api/v1/pools/one', undefined, bearer(tokens.read))).statusCode, 200);
  assert.equal(events.since(0).events.filter(({ type }) => type === 'api.audit_failed').length, 2);

  execFileSync('rm', [fill]);
  assert.equal((await call('DELETE', '/api/v1/pools/one', undefined, admin)).statusCode, 204);
  const whole = readFileSync(file, 'utf8')
    .split('\n')
    .filter((line) => line.endsWith('}'));
  assert.deepEqual(
    whole.slice(-2).map((line) => (JSON.parse(line) as Record).phase),
    ['attempt', 'result'],
    'a line that is only half there spoils no other',
  );
  renameSync(file, `${file}.1`);
  await access.reload();
  assert.equal((await call('PUT', '/api/v1/pools/three', {}, admin)).statusCode, 201);
  assert.deepEqual(
    records().map(({ path }) => path),
    Array(2).fill('/api/v1/pools/three'),
  );
});

test('audit file: what comes at once shares a write, in order; reopening loses nothing', async (t) => {
  const path = join(temporary(t), 'audit.jsonl');
  const file = await openAuditFile(path);
  const written: Promise<void>[] = [];
  for (let at = 0; at < 500; at++) {
    written.push(file.append({ at }));
    if (at % 50 === 49) {
      renameSync(path, `${path}.${at}`);
      await file.reopen();
    }
  }
  await Promise.all(written);
  await file.close();
  const ats = Array.from({ length: 10 }, (_, at) => readFileSync(`${path}.${50 * at + 49}`, 'utf8'));
  const all = (ats.join('') + readFileSync(path, 'utf8')).trim().split('\n');
  assert.deepEqual(
    all.map((line) => JSON.parse(line).at),
    Array.from({ length: 500 }, (_, at) => at),
  );
  await assert.rejects(openAuditFile(join(path, 'under', 'a', 'file')), {
    code: 'unavailable',
    message: /^open the audit log/,
  });
});
