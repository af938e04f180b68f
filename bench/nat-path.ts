// SPDX-License-Identifier: Apache-2.0
// What the benches of NAT have in common: services, backends and pools, and the programs of bench/bpf/nat.c.
import assert from 'node:assert/strict';
import { ServiceFlag } from '../src/dataplane/abi.gen.js';
import { type NativeMap, type NativeObject, native } from '../src/dataplane/native.js';
import { parseAddress } from '../src/model/address.js';
import { type NatPath, openNatPath } from '../test/support/nat-path.js';
import { TEST_CONFIG } from '../test/support/packet-path.js';
import { type PacketSpec, packet, TCP } from '../test/support/packets.js';
import { benchObject } from './micro.js';
import { NatBench } from './nat.gen.js';

export const VIP = '192.0.2.10';
export const HTTP_PORT = 80;
export const STREAM_PORT = 5201;
/** Backends are 10.9.0.17 to .24: one /28, which the sink knows. */
export const BACKENDS = Array.from({ length: 8 }, (_, at) => `10.9.0.${17 + at}`);
/** What sources are translated to: as many as a pool holds, one /28. */
export const SOURCES = Array.from({ length: 16 }, (_, at) => `10.9.1.${at}`);
export const DEFAULT_ROOM = 262_144;
/** Of xdp_lb, the default, too. */
const FLOWS_PER_CPU = 131_072;
/** Visits flows in an order that is not the one they began in, or their records would lie one behind the other. */
const STRIDE = 15_731;
const KEY = new Uint8Array(4);

const CLIENT = { from: '10.1.16.0', to: VIP, fromPort: 4096 * 4, toPort: HTTP_PORT } as const;
export const UDP: PacketSpec = { ...CLIENT, protocol: 'udp', payload: 22 };
export const SYN: PacketSpec = { ...CLIENT, protocol: 'tcp', payload: 10, flags: TCP.SYN };
export const ACK: PacketSpec = { ...SYN, flags: TCP.ACK };

/** The packet path and tc_nat with 8 backends behind `interfaceIndex`, and every service in NAT mode with a pool of 16 addresses. */
export async function openNatNode(room: number, interfaceIndex: number, newFlowsPerSecond = 1e9): Promise<NatPath> {
  const config = { ...TEST_CONFIG, flowsPerCpu: FLOWS_PER_CPU, newFlowsPerSecond, features: ServiceFlag.NAT };
  const path = await openNatPath(room, {}, config);
  for (const [at, address] of BACKENDS.entries())
    path.backend(1 + at, address, 1, 1 + at, { interface: interfaceIndex, onLink: true });
  path.ring(
    1,
    0,
    Uint16Array.from({ length: 65537 }, (_, row) => 1 + (row % BACKENDS.length)),
  );
  path.pool(1, SOURCES);
  path.nat(1, VIP, HTTP_PORT, 'tcp', 1, 1);
  path.nat(2, VIP, HTTP_PORT, 'udp', 1, 1);
  path.nat(3, VIP, STREAM_PORT, 'tcp', 1, 1);
  return path;
}

/** bench/bpf/nat.c, loaded. */
export interface NatTools {
  readonly object: NativeObject;
  readonly state: NativeMap;
  /** Begins a run: this packet, from so many clients in turn, from `first` on. */
  begin(spec: PacketSpec, flows: number, order: 'as they begin' | 'scattered', first?: number): Buffer;
  /** What came of the run: packets by action, and the sink's mistakes. */
  end(): { actions: number[]; mistakes: number };
}

export async function openNatTools(): Promise<NatTools> {
  const object = native.openObject(benchObject('nat'));
  await object.load();
  const state = object.map('nat_bench');
  const net = (address: string): number => {
    const { bytes } = parseAddress(address);
    return new DataView(bytes.buffer, bytes.byteOffset).getUint32(0);
  };
  return {
    object,
    state,
    begin(spec, flows, order, first = 0) {
      const template = packet(spec);
      assert.equal(template.length, 64);
      const shape = {
        stride: order === 'scattered' ? STRIDE % flows : 1,
        flows,
        check: spec.protocol === 'udp' ? 40 : 50,
      };
      const zero = { actions: new Uint8Array(64), mistakes: 0n, flow: first };
      const ends = { source: net(SOURCES[0] ?? ''), destination: net('10.9.0.16') };
      state.set(KEY, NatBench.encode({ template, ...shape, ...zero, ...ends }), 0);
      return template;
    },
    end() {
      const after = NatBench.decode(state.get(KEY) ?? assert.fail());
      return {
        actions: [...new BigUint64Array(after.actions.slice().buffer)].map(Number),
        mistakes: Number(after.mistakes),
      };
    },
  };
}
