// SPDX-License-Identifier: Apache-2.0
// The only importer of `netlink`: short-lived requests, no subscriptions (its error path aborts the process on overruns).
import { isIPv4 } from 'node:net';
import { createRtNetlink, FlagsNew } from 'netlink';
import { parseAddress } from '../model/address.js';

/** Where an encapsulated packet for a backend is sent: out of `interface`, to the MAC of the next hop. 6 bytes each. */
export interface NextHop {
  readonly interface: number; // ifindex
  readonly interfaceName: string;
  readonly mac: Uint8Array;
  readonly sourceMac: Uint8Array;
}

export interface NextHopResolver {
  /** The next hop of each address, null while it is not known; asking makes the kernel look for it. */
  resolve(addresses: readonly string[]): Promise<Map<string, NextHop | null>>;
  close(): void;
}

const AF_INET = 2;
const AF_INET6 = 10;
/** Neighbour states whose address may be used: all that are not failed, incomplete or none. */
const USABLE = ['reachable', 'stale', 'delay', 'probe', 'permanent', 'noarp'] as const;

export function openNextHops(): NextHopResolver {
  const netlink = createRtNetlink();

  /** Links by ifindex, and the usable neighbours as "ifindex/hex address". */
  async function dump(): Promise<{
    links: Map<number, { name: string; mac: Uint8Array }>;
    neighbours: Map<string, { mac: Uint8Array; stale: boolean }>;
  }> {
    const links = new Map<number, { name: string; mac: Uint8Array }>();
    for (const { data, attrs } of await netlink.getLinks()) {
      if (data.index && attrs.ifname)
        links.set(data.index, { name: attrs.ifname, mac: attrs.address ?? new Uint8Array(6) });
    }
    const neighbours = new Map<string, { mac: Uint8Array; stale: boolean }>();
    for (const { data, attrs } of await netlink.getNeighbors()) {
      const usable = USABLE.some((state) => data.state?.[state]);
      if (usable && attrs.dst && attrs.lladdr?.length === 6) {
        neighbours.set(`${data.ifindex}/${attrs.dst.toString('hex')}`, {
          mac: attrs.lladdr,
          stale: data.state?.stale === true,
        });
      }
    }
    return { links, neighbours };
  }

  /** Interface and next address on the way to `address`; null when there is no route. */
  async function route(address: string): Promise<{ interface: number; next: Buffer } | null> {
    const destination = Buffer.from(parseAddress(address).bytes);
    const family = isIPv4(address) ? AF_INET : AF_INET6;
    try {
      const [answer] = await netlink.getRoute({ family, dstLen: destination.length * 8 }, { dst: destination });
      if (!answer || answer.attrs.oif === undefined) return null;
      return { interface: answer.attrs.oif, next: answer.attrs.gateway ?? destination };
    } catch {
      return null; // ENETUNREACH and its kin: a state of the network, not a failure of ours
    }
  }

  /** Asks the kernel to resolve, or to confirm, a neighbour (NTF_USE). */
  async function probe(family: number, ifindex: number, address: Buffer): Promise<void> {
    try {
      await netlink.newNeighbor(
        { family, ifindex, state: {}, flags: { use: true } },
        { dst: address },
        { flags: FlagsNew.CREATE },
      );
    } catch {
      // the interface may have gone in between; the next round says so
    }
  }

  return {
    async resolve(addresses) {
      const { links, neighbours } = await dump();
      const hops = new Map<string, NextHop | null>();
      for (const address of addresses) {
        const way = await route(address);
        const link = way && links.get(way.interface);
        const neighbour = way && neighbours.get(`${way.interface}/${way.next.toString('hex')}`);
        if (way && (!neighbour || neighbour.stale)) {
          await probe(isIPv4(address) ? AF_INET : AF_INET6, way.interface, way.next);
        }
        hops.set(
          address,
          way && link && neighbour
            ? { interface: way.interface, interfaceName: link.name, mac: neighbour.mac, sourceMac: link.mac }
            : null,
        );
      }
      return hops;
    },
    close: () => netlink.socket.socket.close(),
  };
}
