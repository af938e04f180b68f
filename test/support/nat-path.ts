// SPDX-License-Identifier: Apache-2.0
// tc_nat loaded beside a packet path, for the packet tables: no interface, no control plane.
import { addressField } from '../../src/controlplane/kernel-state.js';
import { ServiceFlag } from '../../src/dataplane/abi.gen.js';
import { loadNat, type NatTables, type NatTimeouts, writeNatService, writePool } from '../../src/dataplane/nat.js';
import { MapShape, NatConnection, NatDetail, NatOutcome, NatState } from '../../src/dataplane/nat-abi.gen.js';
import { type NativeProgram, type NativeRun, native } from '../../src/dataplane/native.js';
import { parseAddress } from '../../src/model/address.js';
import { writePrefix } from '../../src/model/prefix.js';
import { openPacketPath, type PacketPath, TEST_CONFIG } from './packet-path.js';

export const TIMEOUTS: NatTimeouts = {
  tcpNew: 60,
  tcpEstablished: 7440,
  tcpClosing: 240,
  tcpClosed: 10,
  udpNew: 30,
  udpEstablished: 300,
};
export const TC = { UNSPEC: 0xffffffff, SHOT: 2, REDIRECT: 7 } as const;

/** 64:ff9b::/96 */
export const NAT64 = parseAddress('64:ff9b::').bytes.subarray(0, 12);

export interface NatPath extends PacketPath {
  readonly tables: NatTables;
  /** tc_nat. */
  readonly translator: NativeProgram;
  /** Addresses of a pool, with all their ports or only these, in that order. */
  pool(number: number, addresses: readonly string[], ports?: readonly number[]): void;
  /** A service in NAT mode; pool 0: sources stay. */
  nat(
    number: number,
    address: string,
    port: number,
    protocol: 'tcp' | 'udp',
    ring: number,
    pool: number,
    poolOther?: number,
    mss?: number,
  ): void;
  /** What tc_nat makes of a frame that came in by lo, or as the context (see skbContext) says. */
  run(frame: Uint8Array, context?: Uint8Array): NativeRun;
  /** What tc_nat_out makes of a frame on its way out. */
  leave(frame: Uint8Array): NativeRun;
  /** Sources that are translated to a pool on their way out. */
  egress(prefix: string, pool: number): void;
  /** Connections that are not over, as the kernel has them. */
  connections(): (NatConnection & NatDetail)[];
  /** Has the kernel sweep; without, connections stay. */
  sweep(): void;
  /** Packets of a service so far, all outcomes that are not 0. */
  outcomes(service: number): Record<string, number>;
}

export async function openNatPath(
  connections = 1024,
  timeouts: Partial<NatTimeouts> = {},
  config: Partial<typeof TEST_CONFIG> = {},
): Promise<NatPath> {
  const path = await openPacketPath(config);
  const { object, tables } = await loadNat(
    { connections, timeouts: { ...TIMEOUTS, ...timeouts }, egress: [], prefix: NAT64 },
    { ...TEST_CONFIG, ...config },
    path.maps,
    {},
  );
  const [program, out, start]: NativeProgram[] = ['tc_nat', 'tc_nat_out', 'nat_start'].map((name) =>
    object.program(name),
  );
  object.close();
  let next = connections;
  return {
    ...path,
    tables,
    translator: program ?? fail(),
    pool(number, addresses, ports) {
      writePool(tables, number, { start: next, size: 65536 * addresses.length, address: addresses.map(addressField) });
      if (ports) {
        const [head] = [(number * tables.pools.length) / 256];
        const words = new DataView(tables.pools.buffer, head);
        words.setBigUint64(8, BigInt(ports.length), true);
        for (const [at, port] of ports.entries()) tables.ring[(next + at) * 2] = port;
      }
      next += 65536 * addresses.length;
    },
    nat(number, address, port, protocol, ring, pool, poolOther = 0, mss = 0) {
      writeNatService(tables, number, { address: addressField(address), pool, mss, poolOther, gone: 0 });
      path.service(number, address, port, protocol, ring, number * 16, ServiceFlag.NAT);
    },
    run: (frame, context) => program?.run(frame, context ?? null) ?? fail(),
    leave: (frame) => out?.run(frame, null) ?? fail(),
    egress(prefix, pool) {
      const name = prefix.includes(':') ? 'nat_egress6' : 'nat_egress4';
      const key = new Uint8Array(MapShape[name].keySize);
      new Uint32Array(key.buffer, 0, 1)[0] = writePrefix(prefix, key, 4);
      tables.handle[name].set(key, new Uint8Array(Uint32Array.of(pool).buffer), 0);
    },
    connections: () =>
      Array.from({ length: tables.counts[0] ?? 0 }, (_, id) => ({
        ...NatConnection.decode(tables.connections.subarray(id * NatConnection.size, (id + 1) * NatConnection.size)),
        ...NatDetail.decode(tables.details.subarray(id * NatDetail.size, (id + 1) * NatDetail.size)),
      })).filter(({ state }) => state !== NatState.FREE && state !== NatState.GONE),
    sweep: () => void start?.run(new Uint8Array(64), null),
    outcomes(service) {
      const value = tables.handle.nat_outcomes.get(new Uint8Array(Uint32Array.of(service).buffer));
      const counts = new BigUint64Array(Uint8Array.from(value ?? []).buffer);
      const total = (at: number): number => {
        let sum = 0;
        for (let cpu = at; cpu < counts.length; cpu += NatOutcome.COUNT) sum += Number(counts[cpu]);
        return sum;
      };
      const { COUNT, ...names } = NatOutcome;
      return Object.fromEntries(
        Object.entries(names).flatMap(([name, at]) => (total(at) > 0 ? [[name.toLowerCase(), total(at)]] : [])),
      );
    },
    close() {
      for (const each of [program, out, start]) each?.close();
      tables.close();
      path.close();
    },
  };
}

const fail = (): never => {
  throw new Error('tc_nat has no program');
};

/** struct __sk_buff for a run: the interface it came in by, and the payload of the pieces a super-packet is cut to. */
export function skbContext(more: { readonly interface?: number; readonly gsoSize?: number }): Uint8Array {
  const context = new DataView(new ArrayBuffer(192));
  context.setUint32(40, more.interface ?? native.interfaceIndex('lo'), true);
  context.setUint32(176, more.gsoSize ?? 0, true);
  return new Uint8Array(context.buffer);
}

/** An address as 16 bytes. */
export const bytes16 = (address: string): Uint8Array => {
  const bytes = new Uint8Array(16);
  bytes.set(parseAddress(address).bytes);
  return bytes;
};
