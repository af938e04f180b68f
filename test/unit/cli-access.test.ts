// SPDX-License-Identifier: Apache-2.0
// The command line against the real API over TLS.
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import * as tokens from '../../src/tokens.js';
import { temporary } from '../support/access.js';
import { cli } from '../support/cli.js';
import { served } from './tls-setup.js';

async function reached(t: TestContext, more: Parameters<typeof served>[1] = {}) {
  const it = await served(t, more, '0.0.0.0:0');
  const tokenFile = (scope: keyof typeof it.tokens): string => {
    const path = join(it.directory, `${scope}.token`);
    writeFileSync(path, `${it.tokens[scope]}\n`);
    return path;
  };
  const url = `https://127.0.0.1:${it.port}`;
  return { ...it, url, tokenFile, ca: it.authority.ca.certFile };
}

test('cli access: token and CA come from options or from the environment', async (t) => {
  const { url, ca, tokenFile } = await reached(t);
  const options = ['--url', url, '--ca', ca, '--token-file', tokenFile('admin')];
  const put = await cli([...options, 'pools', 'put', 'web', '--backend', 'b1=10.0.0.1']);
  assert.deepEqual([put.code, put.err], [0, '']);
  const env = { FAIRLEAD_URL: url, FAIRLEAD_CA: ca, FAIRLEAD_TOKEN_FILE: tokenFile('read') };
  const listed = await cli(['-o', 'json', 'pools', 'ls'], { env });
  assert.deepEqual([listed.code, listed.err], [0, '']);
  assert.equal(JSON.parse(listed.out)[0]?.name ?? JSON.parse(listed.out).items?.[0]?.name, 'web');
  const socket = await cli(['--socket', '/nowhere.sock', 'pools', 'ls'], { env });
  assert.equal(socket.code, 3, 'an option wins over the environment');
});

test('cli access: a client certificate does instead of a token', async (t) => {
  const { url, ca, authority } = await reached(t, { clients: [{ cn: 'ops', scope: 'read' }] });
  const { certFile, keyFile } = authority.issue('ops');
  const with_ = await cli(['--url', url, '--ca', ca, '--cert', certFile, '--key', keyFile, 'pools', 'ls']);
  assert.deepEqual([with_.code, with_.err], [0, 'no pools\n']);
  const env = { FAIRLEAD_URL: url, FAIRLEAD_CA: ca, FAIRLEAD_CERT: certFile, FAIRLEAD_KEY: keyFile };
  assert.equal((await cli(['pools', 'ls'], { env })).code, 0);
});

test('cli access: who is not known or may not is refused, exit code 4, and says why', async (t) => {
  const { url, ca, directory, tokenFile } = await reached(t);
  const wrong = join(directory, 'wrong');
  writeFileSync(wrong, 'fairlead_wrong');
  const run = (file: string | null, ...command: string[]) =>
    cli(['--url', url, '--ca', ca, ...(file === null ? [] : ['--token-file', file]), ...command]);
  for (const [file, wanted] of [
    [null, /: no token and no client certificate\n$/],
    [wrong, /: the token is not known\n$/],
  ] as const) {
    const { code, err } = await run(file, 'pools', 'ls');
    assert.equal(code, 4);
    assert.match(err, wanted);
  }
  const { code, err } = await run(tokenFile('read'), 'backends', 'drain', 'web', 'b1');
  assert.deepEqual([code, err], [4, 'fairlead: this takes scope "operate"; token "read" has "read"\n']);
  writeFileSync(wrong, 'two words\n');
  assert.deepEqual(await run(wrong, 'pools', 'ls'), {
    ...{ code: 4, out: '' },
    err: `fairlead: read "${wrong}": wanted one token, and nothing else\n`,
  });
});

test('cli access: a daemon that is not to be trusted or does not speak TLS is not reachable, exit code 3, with the reason', async (t) => {
  const { url, port, ca, tokenFile } = await reached(t);
  const plain = createServer((_request, response) => response.end('{}'));
  await new Promise<void>((resolve) => plain.listen(0, '127.0.0.1', resolve));
  t.after(() => plain.close());
  const cases = [
    [[url], /its certificate is signed by nobody known here; name who signed it with --ca/],
    [[`https://127.0.0.2:${port}`, '--ca', ca], /its certificate is for another name: /],
    [[`https://127.0.0.1:${(plain.address() as AddressInfo).port}`, '--ca', ca], /no TLS is spoken there; is it http:/],
    [[`http://127.0.0.1:${port}`], /the connection was cut; is it https: instead\?/],
  ] as const;
  for (const [where, wanted] of cases) {
    const { code, err } = await cli(['--url', ...where, '--token-file', tokenFile('read'), 'pools', 'ls']);
    assert.equal(code, 3, err);
    assert.match(err, wanted);
  }
});

test('cli access: a token does not go to another machine without TLS', async (t) => {
  const { tokenFile } = await reached(t);
  const { code, err } = await cli(['--url', 'http://192.0.2.1:7080', '--token-file', tokenFile('read'), 'pools', 'ls']);
  assert.deepEqual([code, /not sent to another machine without TLS/.test(err)], [4, true]);
  const bad = await cli(['pools', 'ls'], { env: { FAIRLEAD_URL: 'lb1:7080' } });
  assert.deepEqual([bad.code, /^fairlead: FAIRLEAD_URL: got "lb1:7080", wanted a URL/.test(bad.err)], [4, true]);
});

test('cli token: make, list and take away, in the file that the configuration names', async (t) => {
  const directory = temporary(t);
  const [config, file] = [join(directory, 'fairlead.yaml'), join(directory, 'tokens')];
  writeFileSync(config, `interfaces: [{ name: eth0 }]\napi: { tokens: ${file} }\n`);
  const run = (...args: string[]) => cli(['token', ...args], { parts: { token: tokens } });
  const made = await run('create', '--config', config, '--name', 'ci', '--scope', 'operate', '--expires', '90d');
  assert.deepEqual([made.code, made.err], [0, '']);
  const secret = made.out.trim();
  assert.match(secret, /^fairlead_[\w-]{43}$/);
  const listed = await cli(['-o', 'json', 'token', 'ls', '--file', file], { parts: { token: tokens } });
  const [token] = JSON.parse(listed.out);
  assert.deepEqual(Object.keys(token), ['name', 'scope', 'created', 'expires']);
  assert.ok(Math.abs(Date.parse(token.expires) - Date.now() - 90 * 86_400_000) < 60_000);
  assert.match((await run('ls', '--file', file)).out, /^NAME +SCOPE +CREATED +EXPIRES *\nci +operate +/);
  assert.deepEqual(await run('rm', '--file', file, 'ci'), { code: 0, out: '', err: '' });
  assert.equal(readFileSync(file, 'utf8'), '');
  assert.equal((await run('rm', '--file', file, 'ci')).code, 4);
  assert.equal((await run('create', '--file', file, '--name', 'x', '--scope', 'root')).code, 2);
  for (const expires of ['90', '0d', '2020-01-01T00:00:00Z', 'soon'])
    assert.equal((await run('create', '--file', file, '--name', 'x', '--scope', 'read', '--expires', expires)).code, 2);
  writeFileSync(config, 'interfaces: [{ name: eth0 }]\n');
  assert.match((await run('ls', '--config', config)).err, /^fairlead: api\.tokens: missing in ".*fairlead\.yaml"/);
});
