// SPDX-License-Identifier: Apache-2.0
// What a backend pays for a tunnel packet: xdp_decap, which asks nothing, beside xdp_agent, by the method of bench/bpf/wrapper.c.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { loadAgent } from '../src/agent/program.js';
import { type NativeProgram, native } from '../src/dataplane/native.js';
import { objectPath } from '../src/dataplane/program.js';
import { parseAddress } from '../src/model/address.js';
import { ownersList } from '../test/model/outer.js';
import { frame, ipv4Header, packet } from '../test/support/packets.js';
import { benchObject, median, openFloors } from './micro.js';
import { BenchState } from './wrapper.gen.js';

export interface AgentResult {
  readonly case: string;
  readonly nsMedian: number;
  readonly nsMin: number;
  readonly nsMax: number;
  readonly aboveFloorNs: number;
}

const REPEAT = 1 << 18;
const KEY = new Uint8Array(16);
const PASS = 2;
const SLOT = new Uint8Array(4);
const [BALANCER, HERE, LOOPBACK] = ['10.9.0.10', '10.9.0.21', '127.0.0.1'] as const;
const OWNERS = ['10.9.0.22', '10.9.0.23', '10.9.0.24'];
const bytes = (address: string): Buffer => Buffer.from(parseAddress(address).bytes);

/** Ports of a TCP connection on the loopback, which `sockets` holds open. */
async function connection(sockets: (Socket | Server)[]): Promise<[number, number]> {
  const server = createServer((socket) => sockets.push(socket)).listen(0, LOOPBACK);
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const client = connect(port, LOOPBACK);
  await Promise.all([once(client, 'connect'), once(server, 'connection')]);
  sockets.push(client, server);
  return [(client.address() as AddressInfo).port, port];
}

/** GUE over IPv4 around a segment of the connection, of 80 bytes or more; `owners` in the list, 0: variant 1. */
function tunnelled([fromPort, toPort]: readonly [number, number], owners: number): Buffer {
  const ends = { from: LOOPBACK, to: LOOPBACK, fromPort, toPort };
  const inner = packet({ ...ends, protocol: 'tcp', payload: 26 }).subarray(14);
  const inside = { from: bytes(LOOPBACK), to: bytes(LOOPBACK), fromPort, toPort, v6: false };
  const list = ownersList(new Uint32Array(KEY.buffer), inside, OWNERS.slice(0, owners).map(bytes));
  const size = 8 + list.length + inner.length;
  const udp = Buffer.of(0xc0, 1, 6080 >> 8, 6080 & 255, size >> 8, size & 255, 0, 0);
  return frame(Buffer.concat([ipv4Header(BALANCER, HERE, 17, size), udp, list, inner]));
}

/** Medians over interleaved rounds. */
export async function agentBench(rounds: number): Promise<AgentResult[]> {
  const sockets: (Socket | Server)[] = [];
  const ports = await connection(sockets);
  const floors = await openFloors();
  const decap = native.openObject(objectPath('xdp_decap'));
  await decap.load();
  const agent = await loadAgent(KEY, [`${BALANCER}/32`], null);
  const wrapperObject = native.openObject(benchObject('wrapper'));
  await wrapperObject.load();
  const [wrapper, slot, state] = [
    wrapperObject.program('wrapper'),
    wrapperObject.map('under_test'),
    wrapperObject.map('bench'),
  ];
  const plain = tunnelled(ports, 0);
  const cases: readonly { name: string; program: NativeProgram; input: Buffer; off: number; action: number }[] = [
    { name: 'floor (min_tx)', program: floors.program('min_tx'), input: plain, off: 0, action: 3 },
    {
      name: 'decapsulation alone (xdp_decap)',
      program: decap.program('xdp_decap'),
      input: plain,
      off: 28,
      action: PASS,
    },
    { name: 'agent, no list', program: agent.program('xdp_agent'), input: plain, off: 28, action: PASS },
    ...[1, 3].map((owners) => ({
      name: `agent, ${owners} more owners, a socket here`,
      program: agent.program('xdp_agent'),
      input: tunnelled(ports, owners),
      off: 28 + 16 + 4 * owners,
      action: PASS,
    })),
    {
      name: 'agent, 3 more owners, no socket here',
      program: agent.program('xdp_agent'),
      input: tunnelled([1, ports[1]], 3),
      off: 0,
      action: PASS,
    },
  ];
  const taken = cases.map((): number[] => []);
  for (let round = 0; round < rounds; round++) {
    for (const [at, { name, program, input, off, action }] of cases.entries()) {
      slot.set(SLOT, new Uint8Array(Uint32Array.of(program.fd).buffer), 0);
      const zero = { counter: 0n, actions: new Uint8Array(64), sizeSum: 0n, restoreFailures: 0n };
      const shape = { template: input.subarray(0, 80), frameSize: input.length, flowMask: 0, ipv6: 0 };
      state.set(SLOT, BenchState.encode({ ...zero, ...shape }), 0);
      const { durationNs } = await wrapper.runMany(input, null, REPEAT, false);
      const after = BenchState.decode(state.get(SLOT) ?? assert.fail());
      assert.equal(new BigUint64Array(after.actions.buffer)[action], BigInt(REPEAT), name);
      assert.equal(after.sizeSum, BigInt(REPEAT * (input.length - off)), name);
      assert.equal(after.restoreFailures, 0n, name);
      taken[at]?.push(durationNs);
    }
  }
  for (const each of sockets) 'destroy' in each ? each.destroy() : each.close();
  const floor = median(taken[0] ?? []);
  return cases.map(({ name }, at) => {
    const values = taken[at] ?? [];
    const nsMedian = median(values);
    return {
      ...{ case: name, nsMedian, nsMin: Math.min(...values), nsMax: Math.max(...values) },
      aboveFloorNs: nsMedian - floor,
    };
  });
}
