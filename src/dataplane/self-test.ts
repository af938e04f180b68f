// SPDX-License-Identifier: Apache-2.0
// A few packets through the program before it is let near an interface.
import { FairleadError } from '../model/errors.js';
import { BackendFlag, Family, KeyKind } from './abi.gen.js';
import { mapsOf, openMaps } from './maps.js';
import { native } from './native.js';
import { loadXdpLb, type ProgramConfig } from './program.js';
import { writeService, writeVipFilter } from './services.js';
import { stableRows, writeBackend, writeRingRef, writeRingRows } from './tables.js';

const PASS = 2;
const TX = 3;
const VIP = [192, 0, 2, 1];
const CLIENT = [198, 51, 100, 7];
const BACKEND = [203, 0, 113, 9];
const NEXT_HOP = [2, 0, 0, 0, 0, 9];
const OWN = [2, 0, 0, 0, 0, 1];

/** A SYN to port 80 in an Ethernet frame. */
function syn(to: readonly number[]): Buffer {
  const ethernet = [...OWN, ...NEXT_HOP, 0x08, 0x00];
  const ip = [0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, 6, 0, 0, ...CLIENT, ...to];
  const tcp = [0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0];
  return Buffer.from([...ethernet, ...ip, ...tcp]);
}

/** The Internet checksum (RFC 1071) of an even number of bytes. */
function checksum(bytes: Buffer): number {
  let sum = 0;
  for (let at = 0; at < bytes.length; at += 2) sum += bytes.readUInt16BE(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}

/** The SYN as it is to leave: IP in IP to the backend. */
function encapsulated(source: Uint8Array): Buffer {
  const inner = syn(VIP).subarray(14);
  const size = 20 + inner.length;
  const outer = Buffer.from([0x45, 0, size >> 8, size & 255, 0, 0, 0x40, 0, 64, 4, 0, 0, ...source, ...BACKEND]);
  outer.writeUInt16BE(checksum(outer), 10);
  return Buffer.concat([Buffer.from([...NEXT_HOP, ...OWN, 0x08, 0x00]), outer, inner]);
}

/**
 * Loads xdp_lb once more with tables of its own, one service and one backend in them, and looks at what becomes of a packet for it, byte by
 * byte, and of two that are nobody's. Rejects with 'native' when that is wrong, and as loadXdpLb does.
 */
export async function selfTest(config: ProgramConfig, load: typeof loadXdpLb = loadXdpLb): Promise<void> {
  const object = await load({ ...config, flowsPerCpu: 1024 }, 0, {});
  const maps = openMaps(mapsOf(object), object.program('flow_clock'));
  const program = object.program('xdp_lb');
  try {
    const address = (bytes: readonly number[]): Uint8Array =>
      Uint8Array.from({ length: 16 }, (_, at) => bytes[at] ?? 0);
    writeBackend(maps, 1, {
      address: address(BACKEND),
      nextHopMac: Uint8Array.from(NEXT_HOP),
      sourceMac: Uint8Array.from(OWN),
      flags: BackendFlag.VALID,
      ...{
        slot: 1,
        interface: native.interfaceIndex('lo'),
        pool: 1,
        mtu: 1500,
        port: 0,
        tagCount: 0,
        tag: new Uint8Array(8),
      },
    });
    writeRingRows(maps, 0, stableRows(new Uint16Array(251).fill(1)));
    writeRingRef(maps, 1, { start: 0, rows: 251, generation: 1 });
    const key = { address: address(VIP), port: 80, protocol: 6, family: Family.IPV4, kind: KeyKind.SERVICE };
    const marker = { ...key, port: 0, protocol: 0 };
    writeService(maps, marker, { number: 0, pool: 0, countersStart: 0, flags: 0 });
    writeService(maps, key, { number: 1, pool: 1, countersStart: 0, flags: 0 });
    writeVipFilter(maps, [key]);
    const foreign = syn([192, 0, 2, 2]);
    const other = Buffer.from([...OWN, ...NEXT_HOP, 0x08, 0x06, ...new Array<number>(28).fill(0)]); // ARP
    const cases: [string, Buffer, number, Buffer][] = [
      ['a packet for a service', syn(VIP), TX, encapsulated(config.tunnelSource)],
      ['a packet for nobody here', foreign, PASS, foreign],
      ['a frame that is not IP', other, PASS, other],
    ];
    for (const [what, frame, action, wanted] of cases) {
      const { retval, data } = program.run(frame, null);
      if (retval === action && wanted.equals(data)) continue;
      const got = `action ${retval}, ${Buffer.from(data).toString('hex')}; wanted ${action}, ${wanted.toString('hex')}`;
      throw new FairleadError('native', `self-test of xdp_lb: ${what}: got ${got}; what runs is left as it is`);
    }
  } finally {
    program.close();
    maps.close();
    object.close();
  }
}
