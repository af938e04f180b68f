// SPDX-License-Identifier: Apache-2.0
// A packet path for the flow table's tests: two backends, one ring to move between them.
import assert from 'node:assert/strict';
import { resetTraffic } from '../../src/dataplane/counters.js';
import type { ProgramConfig } from '../../src/dataplane/program.js';
import { clearFlows } from './flow-records.js';
import { openPacketPath, type PacketPath } from './packet-path.js';
import { pinTo, type Send, sender } from './packet-run.js';
import { type PacketSpec, packet } from './packets.js';

export const FLOW_VIP = '192.0.2.20';

export interface FlowPath extends PacketPath {
  readonly send: Send;
  /** Sends a packet of the client and gives the backend's number it went to. */
  go(flags: number, more?: Partial<PacketSpec>): number;
  /** All new flows go to this backend, 1 or 2. */
  aim(backend: number): void;
  /** Empties the flow table and the counters; backends, services and the ring as at the start. */
  reset(): void;
}

/** On CPU 0. Service 1 is TCP, 2 is UDP, port 80. */
export async function openFlowPath(config: Partial<ProgramConfig> = {}): Promise<FlowPath> {
  pinTo(0);
  const path = await openPacketPath(config);
  const send = sender(path);
  const aim = (backend: number): void => path.ring(1, backend * 8, new Uint16Array(8).fill(backend));
  const reset = (): void => {
    clearFlows(path.maps);
    for (let index = 0; index < 16; index++) resetTraffic(path.maps, index);
    path.backend(1, '10.9.0.1', 1, 1);
    path.backend(2, '10.9.0.2', 1, 2);
    path.service(1, FLOW_VIP, 80, 'tcp', 1, 0);
    path.service(2, FLOW_VIP, 80, 'udp', 1, 4);
    aim(1);
  };
  reset();
  const go = (flags: number, more: Partial<PacketSpec> = {}): number => {
    const spec: PacketSpec = {
      from: '203.0.113.7',
      to: FLOW_VIP,
      fromPort: 40000,
      toPort: 80,
      protocol: 'tcp',
      flags,
      ...more,
    };
    const { action, out } = send(packet(spec));
    assert.equal(action, 'tx');
    return out.readUInt32BE(30) - 0x0a090000;
  };
  return { ...path, send, aim, go, reset };
}
