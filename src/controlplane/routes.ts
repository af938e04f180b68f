// SPDX-License-Identifier: Apache-2.0
// Routes of ours in the kernel: one for each address that is announced, for a routing daemon to learn. rtnetlink(7), linux/rtnetlink.h.
import { native } from '../dataplane/native.js';
import { formatAddress, parseAddress } from '../model/address.js';
import { attributesOf } from './hop.js';

/** Who has made a route (rtm_protocol): a number that nobody has in /etc/iproute2/rt_protos. By it, and by nothing else, a route is known as ours. */
export const ROUTE_PROTOCOL = 76;

const AF_INET = 2;
const AF_INET6 = 10;
const Message = { NEWROUTE: 24, DELROUTE: 25, GETROUTE: 26 } as const;
const Flag = { REQUEST: 0x1, ACK: 0x4, DUMP: 0x300, EXCL: 0x200, CREATE: 0x400 } as const;
const RTN_BLACKHOLE = 6;
const Rta = { DST: 1, PRIORITY: 6, TABLE: 15 } as const;
const HEADER_BYTES = 16; // struct nlmsghdr
const ROUTE_BYTES = 12; // struct rtmsg
/** The same for both families: IPv6 would choose 1024 by itself. */
const METRIC = 1024;

/** A host route of ours. */
export interface OwnRoute {
  readonly table: number;
  readonly address: string; // canonical
}

/** Ours in a table, all of them in every table for null. Throws what the kernel says. */
export async function readRoutes(table: number | null): Promise<OwnRoute[]> {
  const found: OwnRoute[] = [];
  for (const family of [AF_INET, AF_INET6]) found.push(...routesOf(await dump(family, table), table));
  return found;
}

async function dump(family: number, table: number | null): Promise<Uint8Array> {
  const question = message(Message.GETROUTE, Flag.REQUEST | Flag.DUMP, family, 0, table, []);
  for (let tries = 3; ; tries--)
    try {
      return await native.askRoutes(question);
    } catch (error) {
      const { code } = error as { code?: string };
      if (code === 'ENOENT') return new Uint8Array(0); // no route has ever been in that table
      if (code !== 'EINTR' || tries === 0) throw error;
    }
}

/** Those of ours among the answers to a dump. */
export function routesOf(answer: Uint8Array, table: number | null): OwnRoute[] {
  const bytes = Buffer.from(answer.buffer, answer.byteOffset, answer.length);
  const found: OwnRoute[] = [];
  for (let at = 0, size = 0; at + HEADER_BYTES + ROUTE_BYTES <= bytes.length; at += (size + 3) & ~3) {
    size = bytes.readUInt32LE(at);
    if (size < HEADER_BYTES + ROUTE_BYTES) break;
    const route = bytes.subarray(at + HEADER_BYTES, at + size);
    const [family = 0, bits = 0] = route;
    const attributes = attributesOf(route.subarray(ROUTE_BYTES));
    const destination = attributes.get(Rta.DST);
    const where = attributes.get(Rta.TABLE)?.readUInt32LE() ?? route.readUInt8(4);
    const isHost = destination?.length === (family === AF_INET ? 4 : 16) && bits === destination.length * 8;
    const isOurs = bytes.readUInt16LE(at + 4) === Message.NEWROUTE && route.readUInt8(5) === ROUTE_PROTOCOL;
    if (isOurs && isHost && (table === null || table === where))
      found.push({ table: where, address: formatAddress(destination) });
  }
  return found;
}

/**
 * Adds a route of ours; fine when it is there. It is a blackhole: it leads nowhere, and a routing daemon tells of it all the same. False when another's
 * route of that address and metric is there already, which is left alone.
 */
export async function addRoute({ table, address }: OwnRoute): Promise<boolean> {
  const flags = Flag.REQUEST | Flag.ACK | Flag.CREATE | Flag.EXCL;
  try {
    await native.askRoutes(hostRoute(Message.NEWROUTE, flags, table, address));
    return true;
  } catch (error) {
    if ((error as { code?: string }).code !== 'EEXIST') throw error;
  }
  return (await readRoutes(table)).some((route) => route.address === address);
}

/** Takes a route of ours away; fine when it is not there. Never another's: the kernel compares who made it. */
export async function deleteRoute({ table, address }: OwnRoute): Promise<void> {
  try {
    await native.askRoutes(hostRoute(Message.DELROUTE, Flag.REQUEST | Flag.ACK, table, address));
  } catch (error) {
    if (!['ESRCH', 'ENOENT'].includes((error as { code?: string }).code ?? '')) throw error;
  }
}

function hostRoute(type: number, flags: number, table: number, address: string): Uint8Array {
  const { bytes } = parseAddress(address);
  const metric = Buffer.alloc(4);
  metric.writeUInt32LE(METRIC);
  const family = bytes.length === 4 ? AF_INET : AF_INET6;
  return message(type, flags, family, RTN_BLACKHOLE, table, [
    [Rta.DST, bytes],
    [Rta.PRIORITY, metric],
  ]);
}

/** struct nlmsghdr, struct rtmsg and attributes; the length of the destination is that of RTA_DST. `table` null: any. */
function message(
  type: number,
  flags: number,
  family: number,
  routeType: number,
  table: number | null,
  attributes: readonly (readonly [number, Uint8Array])[],
): Uint8Array {
  const parts = attributes.map(([kind, value]) => {
    const part = Buffer.alloc(4 + value.length); // their lengths are multiples of 4 here
    part.writeUInt16LE(part.length, 0);
    part.writeUInt16LE(kind, 2);
    part.set(value, 4);
    return part;
  });
  if (table !== null) {
    const part = Buffer.alloc(8);
    part.writeUInt16LE(8, 0);
    part.writeUInt16LE(Rta.TABLE, 2);
    part.writeUInt32LE(table, 4);
    parts.push(part);
  }
  const destination = attributes.find(([kind]) => kind === Rta.DST)?.[1];
  const head = Buffer.alloc(HEADER_BYTES + ROUTE_BYTES);
  head.writeUInt32LE(head.length + parts.reduce((sum, part) => sum + part.length, 0), 0);
  head.writeUInt16LE(type, 4);
  head.writeUInt16LE(flags, 6);
  head.writeUInt8(family, HEADER_BYTES);
  head.writeUInt8((destination?.length ?? 0) * 8, HEADER_BYTES + 1);
  head.writeUInt8(ROUTE_PROTOCOL, HEADER_BYTES + 5);
  head.writeUInt8(routeType, HEADER_BYTES + 7);
  return Buffer.concat([head, ...parts]);
}
