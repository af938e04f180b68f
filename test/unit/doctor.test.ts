// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { loadConfig } from '../../src/controlplane/config.js';
import {
  capabilityFinding,
  examine,
  jitFinding,
  kernelFinding,
  mtuFinding,
  xdpFinding,
} from '../../src/controlplane/doctor.js';
import { cli } from '../support/cli.js';
import { startEtcd } from '../support/etcd.js';

const status = (bits: readonly number[]): string =>
  `Name:\tnode\nCapEff:\t${bits
    .reduce((all, bit) => all | (1n << BigInt(bit)), 0n)
    .toString(16)
    .padStart(16, '0')}\n`;

test('doctor: tells kernels, capabilities, JIT, XDP and MTU apart', () => {
  for (const [found, wanted, text] of [
    [kernelFinding('6.18.44-x'), 'ok', /Linux 6\.18/],
    [kernelFinding('6.1.0-31-amd64'), 'warning', /need 6\.6/],
    [kernelFinding('5.4.0'), 'failed', /XDP links/],
    [capabilityFinding(status([12, 38, 39])), 'ok', /CAP_BPF/],
    [capabilityFinding(status([12, 21])), 'ok', /CAP_BPF/], // CAP_SYS_ADMIN has both
    [capabilityFinding(status([21])), 'failed', /^CAP_NET_ADMIN missing/],
    [capabilityFinding(status([])), 'failed', /^CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON missing/],
    [jitFinding('1'), 'ok', /on/],
    [jitFinding('0'), 'warning', /bpf_jit_enable=1/],
    [xdpFinding('i', 'auto', { basic: true, redirect: true }), 'ok', /native/],
    [xdpFinding('i', 'auto', { basic: false, redirect: false }), 'warning', /several times slower/],
    [xdpFinding('i', 'native', { basic: false, redirect: false }), 'failed', /wants native/],
    [xdpFinding('i', 'auto', null), 'warning', /does not tell/],
    [mtuFinding('i', 1500, 1500), 'ok', /1500/],
    [mtuFinding('i', 1400, 1500), 'failed', /less than tunnel\.mtu/],
    [mtuFinding('i', 9000, 1500), 'warning', /page/],
  ] as const) {
    assert.equal(found.status, wanted, JSON.stringify(found));
    assert.match(found.detail, text);
  }
});

test('doctor: looks at this machine, its interfaces and etcd, as the configuration says', async (t) => {
  const etcd = await startEtcd(t);
  const directory = mkdtempSync(join(tmpdir(), 'fairlead-doctor-'));
  t.after(() => rmSync(directory, { recursive: true }));
  const path = join(directory, 'fairlead.yaml');
  const look = async (text: string) => {
    writeFileSync(path, text);
    return examine(loadConfig({ path, env: {}, flags: {} }));
  };
  const statusOf = (findings: Awaited<ReturnType<typeof look>>, check: string) =>
    findings.find((each) => each.check === check)?.status;
  const findings = await look(
    `interfaces: [{ name: lo }, { name: nope0 }]\nstore: { type: etcd, endpoints: ["${etcd.endpoint}"] }\n`,
  );
  assert.deepEqual(
    findings.map(({ check }) => check),
    [
      'kernel',
      'btf',
      'capabilities',
      'bpffs',
      'jit',
      'configuration',
      'interface lo: xdp',
      'interface lo: mtu',
      'interface nope0',
      'etcd',
    ],
  );
  const isMounted = / \/sys\/fs\/bpf bpf /.test(readFileSync('/proc/self/mounts', 'utf8')); // systemd does, containers may not
  assert.deepEqual(
    ['kernel', 'btf', 'capabilities', 'bpffs', 'configuration', 'interface nope0', 'etcd'].map((check) =>
      statusOf(findings, check),
    ),
    ['ok', 'ok', 'ok', isMounted ? 'ok' : 'warning', 'ok', 'failed', 'ok'],
  );
  assert.equal(statusOf(findings, 'interface lo: xdp'), 'warning', 'loopback has no native XDP');
  await etcd.kill();
  const away = await look(`interfaces: [{ name: lo }]\nstore: { type: etcd, endpoints: ["${etcd.endpoint}"] }\n`);
  assert.equal(statusOf(away, 'etcd'), 'failed');
});

test('doctor: without a configuration it says so, and what it can of the machine', async () => {
  const findings = await examine(new Error('there is no\n\n  configuration'));
  assert.deepEqual(findings.at(-1), { check: 'configuration', status: 'failed', detail: 'there is no configuration' });
});

test('cli doctor: a table or data; exit code 1 when something failed', async () => {
  const items = [
    { check: 'kernel', status: 'ok', detail: 'Linux 6.18' },
    { check: 'jit', status: 'warning', detail: 'off' },
  ] as const;
  const calls: (string | null)[] = [];
  const doctor = async (path: string | null) => {
    calls.push(path);
    return items;
  };
  const parts = { doctor };
  const good = await cli(['doctor', '--config', 'x.yaml'], { parts });
  assert.deepEqual(
    [good.code, good.out],
    [0, 'CHECK   STATUS   DETAIL\nkernel  ok       Linux 6.18\njit     warning  off\n'],
  );
  const bad = { doctor: async () => [...items, { check: 'btf', status: 'failed', detail: 'none' } as const] };
  const failed = await cli(['doctor', '-o', 'json'], { parts: bad });
  assert.equal(failed.code, 1);
  assert.deepEqual(JSON.parse(failed.out).ok, false);
  assert.deepEqual(calls, ['x.yaml']);
});
