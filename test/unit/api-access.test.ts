// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { appendFileSync, chmodSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { openLimiter } from '../../src/api/access/limiter.js';
import { needs } from '../../src/api/access/scopes.js';
import { createToken, listTokens, removeToken } from '../../src/api/access/token-file.js';
import { hashOf, loadTokens } from '../../src/api/access/tokens.js';
import { covers, scopes } from '../../src/model/scope.js';
import { bearer, temporary, tokenAccess } from '../support/access.js';
import { assertProblem, setup, webPool, wwwService } from './api-setup.js';

const backend = '/api/v1/pools/web/backends/b1';

async function ready(t: TestContext, config?: Parameters<typeof tokenAccess>[1]) {
  const given = await tokenAccess(t, config);
  const it = { ...given, ...setup(t, given.access) };
  const admin = bearer(it.tokens.admin);
  assert.equal((await it.call('PUT', '/api/v1/pools/web', webPool, admin)).statusCode, 201);
  assert.equal((await it.call('PUT', '/api/v1/services/www', wwwService, admin)).statusCode, 201);
  return it;
}

test('api access: every route is in the table of scopes, and the table has no other but those to come', async (t) => {
  const { app } = setup(t);
  await app.ready();
  const toCome = ['captures', 'explain', 'nodes'];
  for (const route of Object.keys(needs)) {
    const [method = '', url = ''] = route.split(' ');
    const isThere = app.hasRoute({ method: method as 'GET', url: url === '/docs' ? '/docs/' : url });
    assert.ok(isThere || toCome.some((name) => url.startsWith(`/api/v1/${name}`)), route);
  }
  const spec = (await app.inject('/openapi.json')).json() as { paths: Record<string, object> };
  for (const [path, methods] of Object.entries(spec.paths))
    for (const method of Object.keys(methods)) {
      const route = `${method.toUpperCase()} ${path.replaceAll(/\{(\w+)\}/g, ':$1')}`;
      assert.ok(route in needs, `${route} has no scope`);
    }
});

test('api access: each scope may do what it is for and nothing more', async (t) => {
  const { call, tokens } = await ready(t);
  const requests = [
    ['read', 'GET', '/api/v1/services', undefined],
    ['read', 'GET', '/api/v1/status', undefined],
    ['read', 'HEAD', '/api/v1/pools/web', undefined],
    ['read', 'GET', '/metrics', undefined],
    ['operate', 'POST', `${backend}/drain`, undefined],
    ['operate', 'POST', `${backend}/undrain`, undefined],
    ['operate', 'PATCH', backend, { weight: 3 }],
    ['operate', 'PATCH', backend, { weight: 4, state: 'drain' }],
    ['admin', 'PATCH', backend, { weight: 5, address: '10.0.0.9' }],
    ['admin', 'PATCH', backend, []],
    ['admin', 'PUT', backend, { address: '10.0.0.1' }],
    ['admin', 'PUT', '/api/v1/pools/web', webPool],
    ['admin', 'PATCH', '/api/v1/services/www', { port: 81 }],
    ['admin', 'POST', '/api/v1/pools', {}],
    ['admin', 'GET', '/api/v1/agent-key', undefined],
    ['admin', 'DELETE', '/api/v1/services/www', undefined],
  ] as const;
  for (const [wanted, method, path, body] of requests)
    for (const had of scopes) {
      const answer = await call(method, path, body, bearer(tokens[had]));
      const what = `${had}: ${method} ${path} ${answer.body}`;
      if (covers(had, wanted)) {
        assert.ok(![401, 403].includes(answer.statusCode), what);
        continue;
      }
      assertProblem(answer, 403, 'permission');
      const asked = path === backend && method === 'PATCH' && had === 'read' ? 'operate' : wanted; // before its body is read
      assert.match(answer.json().detail, new RegExp(`takes scope "${asked}"; token "${had}" has "${had}"`), what);
      const challenge = `Bearer realm="fairlead", error="insufficient_scope", scope="${asked}"`;
      assert.equal(answer.headers['www-authenticate'], challenge);
    }
});

test('api access: without a token that is known nothing but the probes and the description is told', async (t) => {
  const { call, store, tokens } = await ready(t);
  const before = store.read();
  const wrong = [
    undefined,
    'Basic cm9vdDpyb290',
    'Bearer',
    'Bearer fairlead_nope',
    `Bearer ${tokens.admin.slice(0, -1)}`,
    tokens.admin,
  ];
  for (const authorization of wrong) {
    const answer = await call('DELETE', '/api/v1/services/www', undefined, authorization ? { authorization } : {});
    assertProblem(answer, 401, 'unauthenticated');
    const error = authorization ? ', error="invalid_token"' : '';
    assert.equal(answer.headers['www-authenticate'], `Bearer realm="fairlead"${error}`);
  }
  assert.equal(store.read(), before);
  for (const path of ['/metrics', '/nope']) assert.equal((await call('GET', path)).statusCode, 401, path);
  for (const path of ['/livez', '/readyz', '/openapi.json', '/docs/'])
    assert.equal((await call('GET', path)).statusCode, 200, path);
});

test('api access: api.open says whether probes and metrics ask for a token', async (t) => {
  for (const [open, wanted] of [
    ['none', [401, 401, 401]],
    ['probes', [200, 200, 401]],
    ['metrics', [200, 200, 200]],
  ] as const) {
    const { access, tokens } = await tokenAccess(t, () => ({ open }));
    const { call } = setup(t, access);
    const paths = ['/livez', '/readyz', '/metrics'];
    const got = await Promise.all(paths.map(async (path) => (await call('GET', path)).statusCode));
    assert.deepEqual(got, wanted, open);
    for (const path of paths) assert.equal((await call('GET', path, undefined, bearer(tokens.read))).statusCode, 200);
  }
});

test('api access: an expired token, and one that was taken away, open nothing; a new one does', async (t) => {
  const { access, call, tokens, tokensFile, events } = await ready(t);
  const soon = await createToken(tokensFile, { name: 'soon', scope: 'read', expires: new Date(Date.now() + 300) });
  await access.reload();
  const get = async (token: string) => (await call('GET', '/api/v1/pools', undefined, bearer(token))).statusCode;
  assert.equal(await get(soon), 200);
  await new Promise((resolve) => setTimeout(resolve, 310));
  assert.equal(await get(soon), 401);
  await removeToken(tokensFile, 'read');
  await access.reload();
  assert.deepEqual([await get(tokens.read), await get(tokens.admin)], [401, 200]);
  assert.ok(events.since(0).events.some(({ type }) => type === 'api.tokens_reloaded'));
});

test('api access: a change of the file is taken without being told', { timeout: 20_000 }, async (t) => {
  const { call, tokensFile } = await ready(t);
  const late = await createToken(tokensFile, { name: 'late', scope: 'read', expires: null });
  for (;;) {
    if ((await call('GET', '/api/v1/pools', undefined, bearer(late))).statusCode === 200) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
});

test('api access: a file that is damaged or gone changes nothing, and is told', async (t) => {
  const { access, call, tokens, tokensFile, events } = await ready(t);
  const told = () => events.since(0).events.filter(({ type }) => type === 'api.tokens_not_reloaded').length;
  const works = async () =>
    assert.equal((await call('GET', '/api/v1/pools', undefined, bearer(tokens.read))).statusCode, 200);
  appendFileSync(tokensFile, '{"name": "x"}\n');
  await access.reload();
  await works();
  assert.equal(told(), 1);
  rmSync(tokensFile);
  await access.reload();
  await works();
  assert.equal(told(), 2);
});

test('api access: failing again and again is 429, told once, and does not keep out who has a token', async (t) => {
  const { call, tokens, events } = await ready(t);
  const attempt = () => call('GET', '/api/v1/pools', undefined, bearer('fairlead_guess'));
  const statuses = [];
  for (let at = 0; at < 15; at++) statuses.push((await attempt()).statusCode);
  assert.deepEqual(statuses, [...Array(10).fill(401), ...Array(5).fill(429)]);
  const last = await attempt();
  assertProblem(last, 429, 'throttled');
  assert.match(String(last.headers['retry-after']), /^([1-9]|10)$/);
  assert.equal((await call('GET', '/api/v1/pools', undefined, bearer(tokens.read))).statusCode, 200);
  assert.equal(events.counts().byType.get('api.attempts'), 1);
});

test('api access: a client that asks too much gets 429, others do not', async (t) => {
  const { call, tokens } = await ready(t, () => ({ requestsPerSecond: 2 }));
  const get = async (token: string) => call('GET', '/api/v1/pools', undefined, bearer(token));
  const first = [];
  for (let at = 0; at < 20; at++) first.push((await get(tokens.read)).statusCode);
  assert.deepEqual(first.slice(0, 4), [200, 200, 200, 200]);
  assert.ok(first.includes(429));
  assert.equal((await get(tokens.operate)).statusCode, 200);
});

test('limiter: so many at once, so many a second, and no more keys than it holds', () => {
  let now = 0;
  const limiter = openLimiter(2, 3, 2, () => now);
  const takes = (key: string, count: number) => Array.from({ length: count }, () => limiter.take(key).ok);
  assert.deepEqual(takes('a', 4), [true, true, true, false]);
  assert.deepEqual(limiter.take('a'), { ok: false, waitSeconds: 1, isFirst: false });
  now = 1;
  assert.deepEqual(takes('a', 3), [true, true, false]);
  now = 1000;
  assert.deepEqual(takes('a', 4), [true, true, true, false], 'never more than the burst');
  takes('b', 1);
  takes('c', 1);
  assert.deepEqual(takes('a', 1), [true], 'a was forgotten');
});

test('tokens: what is kept does not tell the token, and is readable by the group of the directory alone', async (t) => {
  const directory = temporary(t);
  const path = join(directory, 'tokens');
  const secret = await createToken(path, { name: 'ci', scope: 'operate', expires: null });
  assert.match(secret, /^fairlead_[\w-]{43}$/);
  const text = readFileSync(path, 'utf8');
  assert.ok(!text.includes(secret.slice(9)) && text.includes(hashOf(secret)));
  assert.equal(statSync(path).mode & 0o777, 0o640);
  assert.equal(statSync(path).gid, statSync(directory).gid);
  await assert.rejects(createToken(path, { name: 'ci', scope: 'read', expires: null }), { code: 'conflict' });
  await assert.rejects(createToken(path, { name: 'C I', scope: 'read', expires: null }), { code: 'invalid' });
  await assert.rejects(removeToken(path, 'other'), { code: 'not-found' });
  const expires = new Date('2099-01-01T00:00:00Z');
  await createToken(path, { name: 'b', scope: 'read', expires });
  const found = await listTokens(path);
  assert.deepEqual(
    found.map(({ name, scope, expires }) => [name, scope, expires]),
    [
      ['ci', 'operate', null],
      ['b', 'read', '2099-01-01T00:00:00.000Z'],
    ],
  );
  await removeToken(path, 'ci');
  assert.deepEqual(
    (await listTokens(path)).map(({ name }) => name),
    ['b'],
  );
  assert.deepEqual(await listTokens(join(directory, 'none')), []);
});

test('tokens: a file with a mistake in it, or that others may write, is refused and its text not shown', async (t) => {
  const path = join(temporary(t), 'tokens');
  const good = { name: 'a', hash: '0'.repeat(64), scope: 'read', created: '2026-01-01T00:00:00Z' };
  const line = (change: object) => JSON.stringify({ ...good, ...change });
  const cases: readonly (readonly [string, RegExp])[] = [
    ['fairlead_secret', /line 1: not JSON/],
    [`${line({})}\n\n${line({})}`, /line 3: name: "a" is there already/],
    [line({ name: 'A' }), /line 1: name: wanted/],
    [line({ hash: 'fairlead_secret' }), /line 1: hash: wanted 64 hex digits/],
    [line({ scope: 'root' }), /line 1: scope: wanted read, operate, admin/],
    [line({ created: 'x' }), /line 1: created/],
    [line({ expires: 'x' }), /line 1: expires/],
    [line({ token: 'fairlead_secret' }), /line 1: unknown field "token"/],
    ['[]', /line 1: wanted an object/],
  ];
  for (const [text, wanted] of cases) {
    writeFileSync(path, text, { mode: 0o600 });
    await assert.rejects(loadTokens(path), (error: Error & { code: string }) => {
      assert.equal(error.code, 'damaged');
      assert.match(error.message, wanted);
      assert.doesNotMatch(error.message, /secret/);
      return true;
    });
  }
  writeFileSync(path, line({}));
  for (const mode of [0o620, 0o602]) {
    chmodSync(path, mode);
    await assert.rejects(loadTokens(path), {
      code: 'permission',
      message: /wanted root's, and that no other may write/,
    });
  }
});
