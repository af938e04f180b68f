// SPDX-License-Identifier: Apache-2.0
// A loaded packet path with a few services, for the packet tables and the bench: no interface, no control plane.
import { addressField, serviceKey, vipMarker } from '../../src/controlplane/kernel-state.js';
import { BackendFlag } from '../../src/dataplane/abi.gen.js';
import { type Maps, mapsOf, openMaps } from '../../src/dataplane/maps.js';
import { type NativeObject, type NativeProgram, native } from '../../src/dataplane/native.js';
import { loadXdpLb, type ProgramConfig } from '../../src/dataplane/program.js';
import { writeService } from '../../src/dataplane/services.js';
import { ROW_WORDS, stableRows, writeBackend, writeRingRef, writeRingRows } from '../../src/dataplane/tables.js';
import { parseAddress } from '../../src/model/address.js';

export const NEXT_HOP_MAC = Uint8Array.of(2, 0, 0, 0, 0, 9);
export const SOURCE_MAC = Uint8Array.of(2, 0, 0, 0, 0, 1);

export const TEST_CONFIG: ProgramConfig = {
  flowsPerCpu: 4096,
  newFlowsPerSecond: 1_000_000,
  ringKey: Uint8Array.from({ length: 16 }, (_, at) => at),
  tunnelSource: parseAddress('10.9.0.10').bytes,
  tunnelSource6: parseAddress('fd00:9::10').bytes,
  tunnelMtu: 1500,
  features: 0xffff,
};

export interface PacketPath {
  readonly maps: Maps;
  readonly program: NativeProgram;
  /** Writes a backend that is reached over `interface` (1: lo, where test runs come in). */
  backend(
    number: number,
    address: string,
    pool: number,
    slot: number,
    more?: {
      interface?: number;
      valid?: boolean;
      down?: boolean;
      mtu?: number;
      onLink?: boolean;
      tags?: Uint8Array;
      port?: number;
    },
  ): void;
  /** A ring of rows without a history; or rows as writeRingRows takes them. */
  ring(pool: number, start: number, owners: Uint16Array): void;
  rows(pool: number, start: number, rows: Uint16Array): void;
  service(
    number: number,
    address: string,
    port: number,
    protocol: 'tcp' | 'udp',
    pool: number,
    countersStart: number,
    flags?: number, // ServiceFlag
  ): void;
  close(): void;
}

/** `load` is for a path that is not loaded as the daemon does. */
export async function openPacketPath(
  config: Partial<ProgramConfig> = {},
  load: (config: ProgramConfig) => Promise<NativeObject> = (whole) => loadXdpLb(whole, 0, {}),
): Promise<PacketPath> {
  const object = await load({ ...TEST_CONFIG, ...config });
  const maps = openMaps(mapsOf(object), object.program('flow_clock'));
  const program = object.program('xdp_lb');
  object.close();
  const rows = (pool: number, start: number, rows: Uint16Array): void => {
    writeRingRows(maps, start, rows);
    writeRingRef(maps, pool, { start, rows: rows.length / ROW_WORDS, generation: 1 });
  };
  return {
    maps,
    program,
    backend(number, address, pool, slot, more = {}) {
      const v6 = address.includes(':');
      writeBackend(maps, number, {
        address: addressField(address),
        nextHopMac: NEXT_HOP_MAC,
        flags:
          (more.valid === false ? 0 : BackendFlag.VALID) |
          (more.down ? BackendFlag.DOWN : 0) |
          (v6 ? BackendFlag.IPV6 : 0) |
          (more.onLink ? BackendFlag.ON_LINK : 0),
        sourceMac: SOURCE_MAC,
        slot,
        interface: more.interface ?? native.interfaceIndex('lo'),
        pool,
        mtu: more.mtu ?? 1500,
        tagCount: (more.tags?.length ?? 0) / 4,
        tag: Uint8Array.from({ length: 8 }, (_, at) => more.tags?.[at] ?? 0),
        port: more.port ?? 0,
      });
    },
    ring: (pool, start, owners) => rows(pool, start, stableRows(owners)),
    rows,
    service(number, address, port, protocol, pool, countersStart, flags = 0) {
      const key = serviceKey({ address, port, protocol });
      writeService(maps, vipMarker(key), { number: 0, pool: 0, countersStart: 0, flags: 0 });
      writeService(maps, key, { number, pool, countersStart, flags });
    },
    close() {
      program.close();
      maps.close();
    },
  };
}
