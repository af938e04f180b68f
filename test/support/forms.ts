// SPDX-License-Identifier: Apache-2.0
// What the balancer of a lab puts on the wire: captured at the router's port towards it.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { spawnInside } from '../../src/lab/children.js';
import { run } from '../../src/lab/netns.js';
import { readServices } from '../../src/lab/objects.js';
import { until } from './lab.js';
import type { ServedLab } from './served-lab.js';

/** A pcap filter for packets as forwarded: mode, family of the packet inside, family of the backend. */
export function formOf(lab: ServedLab, forwarding: string, inside: 4 | 6, outside: 4 | 6): string {
  const [ip, size] = outside === 4 ? ['ip', 20] : ['ip6', 40];
  if (forwarding === 'l2') return `dst host ${inside === 4 ? lab.topology.vip4 : lab.topology.vip6}`;
  if (forwarding === 'ipip') return `${ip} proto ${inside === 4 ? 4 : 41}`;
  return `${ip} and udp dst port 6080 and ${ip}[${size + 8}] & 0xf0 = ${inside << 4}`;
}

/**
 * Captures while `drive` sends. For each family of VIP the wire must carry as many packets as the kernel counts for its
 * services, at least 200, in the given form (a pcap filter); and nothing in another.
 */
export async function assertCarried(
  lab: ServedLab,
  drive: () => Promise<void>,
  forms: Readonly<Record<4 | 6, string>>,
): Promise<void> {
  const { router } = lab.topology;
  const lbPort = lab.topology.balancers[0].name;
  const file = `${lab.directory}/forms.pcap`;
  const command = [
    'tcpdump',
    '-n',
    '-i',
    lbPort,
    '-Q',
    'in',
    '-s',
    '128',
    '-B',
    '8192',
    '-U',
    '-Z',
    'root',
    '-w',
    file,
  ];
  const before = await counted(lab);
  const tcpdump = spawnInside(router, command, ['ignore', 'ignore', 'pipe']);
  const exited = once(tcpdump, 'exit');
  // A packet half written yet ends the reading with a complaint; those before it are counted.
  const captured = async (filter: string) =>
    Number(await run('sh', ['-c', 'tcpdump -n -r "$0" "$1" 2>/dev/null | wc -l', file, filter]));
  try {
    if (tcpdump.stderr) await Promise.race([once(tcpdump.stderr, 'data'), exited]); // it listens now
    await drive();
    let seen: readonly number[] = [];
    await until(
      'the wire carries what the kernel counts',
      async () => {
        const after = await counted(lab);
        seen = [await captured(forms[4]), await captured(forms[6]), after[4] - before[4], after[6] - before[6]];
        return seen[0] === seen[2] && seen[1] === seen[3];
      },
      5_000,
    ).catch((error) => assert.fail(`${error.message}: captured and counted, IPv4 and IPv6: ${seen}`));
    assert.ok(Math.min(...seen) >= 200, `${seen}`);
    assert.equal(await captured(`not ((${forms[4]}) or (${forms[6]})) and (ip or ip6) and not icmp and not icmp6`), 0);
  } finally {
    tcpdump.kill('SIGTERM');
    await exited;
  }
}

/** Packets of the lab's services, by the family of the VIP, as the kernel counts them. */
async function counted(lab: ServedLab): Promise<Record<4 | 6, number>> {
  const services = await readServices(lab.api, lab.topology);
  const of = (family: 4 | 6) => (services[`http${family}`]?.packets ?? 0) + (services[`echo${family}`]?.packets ?? 0);
  return { 4: of(4), 6: of(6) };
}
