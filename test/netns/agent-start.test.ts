// SPDX-License-Identifier: Apache-2.0
// Starts of `fairlead agent` that must fail in one sentence and leave the machine as it was, and those that warn.
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { after, afterEach, before, test } from 'node:test';
import { native } from '../../src/dataplane/native.js';
import { objectPath } from '../../src/dataplane/program.js';
import { startInside, stopChild } from '../../src/lab/children.js';
import { namespacePath, run } from '../../src/lab/netns.js';
import { type AgentNode, openAgentNode, VIP6, whole } from '../support/agent-node.js';
import type { End, Serve } from '../support/serve.js';

let node: AgentNode;
before(async () => {
  node = await openAgentNode('fags');
});
afterEach(() => node.reset());
after(() => node.close());

test('agent: an interface that would answer ARP for the VIPs is warned of', async () => {
  const warning = /interface \\"eth0\\" answers ARP for the VIPs: set net\.ipv4\.conf\.eth0\.arp_ignore to 1/;
  const set = (value: number): Promise<string> =>
    run('nsenter', [`--net=${namespacePath(node.backend)}`, 'sysctl', `net.ipv4.conf.eth0.arp_ignore=${value}`]);
  await run('nsenter', [`--net=${namespacePath(node.backend)}`, 'sysctl', 'net.ipv4.conf.all.arp_ignore=0']);
  for (const [value, vips, warned] of [
    [0, whole.vips, true],
    [1, whole.vips, false],
    [0, `["${VIP6}"]`, false],
  ] as const) {
    await set(value);
    const agent = await node.started({ vips });
    assert.equal(warning.test(agent.output()), warned, agent.output());
    await agent.kill('SIGTERM');
  }
});

/** How an agent that is to end by itself ended; one that does not is killed. */
async function endOf(agent: Serve): Promise<End> {
  const timer = setTimeout(() => void agent.kill('SIGKILL'), 15_000);
  const end = await agent.ended;
  clearTimeout(timer);
  return end;
}

/** Starts the agent, which must end by itself with this exit code, one sentence on its output, and nothing changed. */
async function refused(
  changes: Partial<typeof whole>,
  code: number,
  sentence: RegExp,
  prefix: readonly string[] = [],
): Promise<void> {
  const before = await node.traces();
  const agent = node.start(changes, prefix);
  const end = await endOf(agent);
  const output = agent.output();
  assert.match(output, sentence);
  const said = output.split('\n').filter((line) => line !== '' && !line.startsWith('{'));
  assert.equal(said.length, 1, output);
  assert.deepEqual(end, { code, signal: null }, output);
  assert.deepEqual(await node.traces(), before);
  assert.equal(existsSync(node.root), false, 'no empty directories either');
}

test('agent: an interface that is missing, and one with a foreign program, are refused by name', async () => {
  await refused({ interfaces: '[{ name: eth7 }]' }, 4, /^fairlead: attach xdp_agent to "eth7": no such interface/);
  const object = native.openObject(objectPath('xdp_pass'));
  await object.load();
  const link = await native.attachXdp(object.program('xdp_pass'), 'eth1', namespacePath(node.backend), 'generic');
  try {
    const interfaces = '[{ name: eth0 }, { name: eth1 }]';
    await refused({ interfaces }, 4, /^fairlead: attach program "xdp_agent" to "eth1": E\w+, another XDP program/);
  } finally {
    link.close();
    object.close();
  }
});

test('agent: without privileges, and on a port in use, it ends with one sentence', async () => {
  const nobody = ['setpriv', '--reuid', 'nobody', '--regid', 'nogroup', '--clear-groups', '--inh-caps=-all', '--'];
  await refused({}, 4, /^fairlead: .*(EPERM|EACCES)/, nobody);
  const holder = await startInside(node.backend, 'echo-server.js', ['holder', '7081', '7082', '10.9.0.10']);
  await refused(
    { metrics: '{ listen: "10.9.9.9:7081" }' },
    4,
    /^fairlead: listen on "10\.9\.9\.9:7081": .*EADDRNOTAVAIL/,
  );
  await refused({}, 1, /^fairlead: listen on "10\.9\.0\.10:7081": .*EADDRINUSE/);
  await stopChild(holder, 1_000);
});

test('agent: a mistake in the configuration is named with its line, and touches nothing', async () => {
  const before = await node.traces();
  const agent = node.start({ balancers: '[10.9.0.1/24]', key: '"12"' });
  assert.deepEqual(await endOf(agent), { code: 4, signal: null });
  assert.match(
    agent.output(),
    /agent\.yaml:3:\d+: balancers\[0\]: .*write 10\.9\.0\.0\/24\n.*agent\.yaml:4:\d+: key: /,
  );
  assert.deepEqual(await node.traces(), before);
});

test('agent: a second one is told that another runs, and leaves it alone', async () => {
  const agent = await node.started();
  const before = await node.traces();
  const other = node.start({ metrics: '{ listen: "10.9.0.10:7083" }' });
  assert.equal((await endOf(other)).code, 1);
  assert.match(other.output(), /^fairlead: lock ".*fairlead-agent": another agent runs with it; stop it first\n/);
  assert.deepEqual(await node.traces(), before);
  await agent.kill('SIGTERM');
});
