// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { loadConfig } from '../../src/controlplane/config.js';
import { messageOf } from '../../src/model/errors.js';

const directory = mkdtempSync(join(tmpdir(), 'fairlead-config-'));
after(() => rmSync(directory, { recursive: true }));

/** What is said of the section; nothing when it is taken. */
function problems(api: string): string[] {
  const path = join(directory, 'fairlead.yaml');
  writeFileSync(path, `interfaces: [{ name: eth0 }]\napi:\n  ${api}\n`);
  try {
    loadConfig({ path, env: {}, flags: {} });
    return [];
  } catch (error) {
    const [, ...lines] = messageOf(error).split('\n');
    return lines.map((line) => line.trim().replace(`${path}:`, '').trim());
  }
}

const tls = 'tls: { cert: /c.pem, key: /c.key }';
const mutual = 'tls: { cert: /c.pem, key: /c.key, clientCa: /ca.pem }\n  clients: [{ cn: ops, scope: read }]';

test('config api: an address that is not loopback needs TLS, and tokens or client certificates', () => {
  for (const listen of ['0.0.0.0:7443', '192.0.2.1:7443', '"[::]:7443"', '"[2001:db8::1]:7443"']) {
    const beyond = `api.listen: "${listen.replaceAll('"', '')}" is not loopback, and needs`;
    const [noTls, nobody] = [
      `${beyond} api.tls.cert and api.tls.key`,
      `${beyond} api.tokens, or api.tls.clientCa with api.clients`,
    ];
    assert.deepEqual(problems(`listen: ${listen}`), [noTls, nobody]);
    assert.deepEqual(problems(`listen: ${listen}\n  tokens: /t`), [noTls]);
    assert.deepEqual(problems(`listen: ${listen}\n  ${tls}`), [nobody]);
    assert.deepEqual(problems(`listen: ${listen}\n  ${tls}\n  tokens: /t`), []);
    assert.deepEqual(problems(`listen: ${listen}\n  ${mutual}`), []);
  }
  for (const listen of ['127.0.0.1:80', '127.9.9.9:80', '"[::1]:80"'])
    assert.deepEqual(problems(`listen: ${listen}`), [], listen);
});

test('config api: what does not go together is named by the key that is missing', () => {
  assert.deepEqual(problems('tls: { cert: /c.pem }'), ['api.tls.key: missing; api.tls.cert needs it']);
  assert.deepEqual(problems('tls: { key: /c.key }'), ['api.tls.cert: missing; api.tls.key needs it']);
  assert.deepEqual(problems('clients: [{ cn: ops, scope: read }]'), [
    'api.tls.clientCa: missing; api.clients needs it',
  ]);
  assert.match(problems('tls: { cert: /c, key: /k, clientCa: /ca }').join(), /^api\.clients: missing; wanted who may/);
});

test('config api: a client is a common name or an alternative name, and a scope', () => {
  const cases: Readonly<Record<string, RegExp>> = {
    'clients: ops': /^3:12: api\.clients: got "ops", wanted a list/,
    'clients: [{ cn: ops }]': /clients\[0\]\.scope: got nothing, wanted read, operate, admin/,
    'clients: [{ scope: read }]': /clients\[0\]: got .*, wanted either cn or san/,
    'clients: [{ cn: a, san: "DNS:b", scope: read }]': /clients\[0\]: got .*, wanted either cn or san/,
    'clients: [{ san: ci.example, scope: read }]': /clients\[0\]\.san: got "ci\.example", wanted DNS:/,
    'clients: [{ san: "DNS:a, DNS:b", scope: read }]': /clients\[0\]\.san: got/,
    'clients: [{ cn: a, scope: read, role: x }]': /clients\[0\]\.role: unknown key; known: cn, san, scope/,
    'open: all': /api\.open: got "all", wanted "probes" or "metrics" or "none"/,
    'socketGroup: "a b"': /api\.socketGroup: got "a b", wanted the name or number of a group/,
    'listen: "[::1]:70000"': /api\.listen: got/,
    'listen: "[fe80::1%eth0]:80"': /api\.listen: got/,
    'tokens: tokens': /api\.tokens: got "tokens", wanted an absolute path/,
  };
  for (const [api, wanted] of Object.entries(cases)) assert.match(problems(api)[0] ?? '', wanted, api);
});
