// SPDX-License-Identifier: Apache-2.0
// Run inside a network namespace: the packet path on the interface "lb", with one UDP service for each way to wrap a packet.
// Usage: split-node.js native|generic NEXT_HOP_MAC. Says "ready", and what was counted, as JSON, when its input ends.
import { once } from 'node:events';
import { ServiceFlag } from '../../src/dataplane/abi.gen.js';
import { readOutcomes, readTraffic } from '../../src/dataplane/counters.js';
import { native } from '../../src/dataplane/native.js';
import { allowSplit, loadXdpLb } from '../../src/dataplane/program.js';
import { NEXT_HOP_MAC, openPacketPath } from './packet-path.js';

/** By port: the backend's address, the service's flags, and an MTU on the way that is not 1500. */
export const WRAPS = [
  { port: 4001, name: 'IPv4', backend: '10.9.1.1', flags: 0 },
  { port: 4002, name: 'GUE over IPv4', backend: '10.9.1.1', flags: ServiceFlag.GUE },
  { port: 4003, name: 'IPv6', backend: 'fd00:9:1::1', flags: 0 },
  { port: 4004, name: 'GUE over IPv6', backend: 'fd00:9:1::1', flags: ServiceFlag.GUE },
  { port: 4005, name: 'L2', backend: '10.9.1.2', flags: ServiceFlag.L2, mtu: 1400 },
] as const;

/** What the process says at its end. `packets` and `bytes`: of the service with that place in WRAPS. */
export interface SplitCounts {
  readonly outcomes: readonly number[]; // by Reason
  readonly packets: readonly number[];
  readonly bytes: readonly number[];
}

async function main(mode: 'native' | 'generic', nextHop: string): Promise<void> {
  const lb = native.interfaceIndex('lb');
  NEXT_HOP_MAC.set(Buffer.from(nextHop.replaceAll(':', ''), 'hex'));
  const path = await openPacketPath({}, async (config) => {
    const object = await loadXdpLb(config, 0, {});
    if (mode === 'native') allowSplit(object, lb);
    return object;
  });
  for (const [at, wrap] of WRAPS.entries()) {
    path.backend(at + 1, wrap.backend, at + 1, 1, {
      interface: lb,
      onLink: true,
      mtu: 'mtu' in wrap ? wrap.mtu : 1500,
    });
    path.ring(at + 1, at * 16, new Uint16Array(13).fill(at + 1));
    path.service(at + 1, '192.0.2.10', wrap.port, 'udp', at + 1, at * 2, wrap.flags);
  }
  const link = await native.attachXdp(path.program, 'lb', null, mode);
  process.stdout.write('ready\n');
  await once(process.stdin.resume(), 'end');
  link.close();
  const traffic = WRAPS.map((_, at) => readTraffic(path.maps, at * 2 + 1));
  const counts: SplitCounts = {
    outcomes: readOutcomes(path.maps, 0),
    packets: traffic.map((one) => one.packets),
    bytes: traffic.map((one) => one.bytes),
  };
  process.stdout.write(JSON.stringify(counts));
  path.close();
}

const [, file, mode, nextHop] = process.argv;
if (file?.endsWith('split-node.js')) await main(mode === 'generic' ? mode : 'native', nextHop ?? '');
