// SPDX-License-Identifier: Apache-2.0
// From routes, links and neighbours to next hops: rtnetlink's bytes (host byte order) and plain values, no kernel.
import { NEIGHBOUR_EVENT_BYTES } from '../dataplane/native.js';

/** An 802.1Q (0x8100) or 802.1ad (0x88a8) tag; `id` 0..4095. */
export interface VlanTag {
  readonly protocol: number;
  readonly id: number;
}

/** Where an encapsulated packet for a backend is sent: out of `interface`, to the MAC of the next hop. 6 bytes each. */
export interface NextHop {
  readonly interface: number; // ifindex of a real device: below VLAN devices
  readonly interfaceName: string;
  readonly mac: Uint8Array;
  readonly sourceMac: Uint8Array;
  /** The next hop is the backend itself: there is no gateway between. */
  readonly onLink: boolean;
  /** Bytes an IP packet may have on the way there: of the devices, and of the route if it says so. */
  readonly mtu: number;
  /** Outermost first. */
  readonly tags: readonly VlanTag[];
}

export interface Link {
  readonly name: string;
  readonly mac: Uint8Array; // empty: none
  readonly mtu: number;
  /** Up, and with a carrier. */
  readonly up: boolean;
  /** Of a VLAN device: what it puts on, and the ifindex of the device below; -1 when that is in another namespace. */
  readonly vlan: (VlanTag & { readonly lower: number }) | null;
}

/** The kernel's answer for one destination. */
export interface Way {
  readonly interface: number;
  readonly next: Uint8Array; // 4 or 16 bytes, whatever the family of the destination (RFC 8950)
  readonly onLink: boolean;
  readonly mtu: number | null; // the route's own
}

/** An entry of the kernel's neighbour table; `state` is NUD_*, 0 for none. */
export interface Neighbour {
  readonly state: number;
  readonly mac: Uint8Array; // empty: not known
}

export const Nud = { INCOMPLETE: 0x01, STALE: 0x04, FAILED: 0x20 } as const;
/** NUD_VALID without NOARP's empty addresses: reachable, stale, delay, probe, noarp, permanent. */
const USABLE = 0x02 | Nud.STALE | 0x08 | 0x10 | 0x40 | 0x80;

const MAX_TAGS = 2;
const RTN_UNICAST = 1;
const RTM_BYTES = 12;
/** Attributes of rtmsg, of its RTA_METRICS, of IFLA_LINKINFO and of its data for a VLAN device. */
const Rta = { OIF: 4, GATEWAY: 5, METRICS: 8, VIA: 18 } as const;
const RTAX_MTU = 2;
const LinkInfo = { KIND: 1, DATA: 2 } as const;
const VlanInfo = { ID: 1, PROTOCOL: 5 } as const;

/** Netlink attributes by type; of a type that is there twice the last one. What does not fit ends them. */
export function attributesOf(bytes: Buffer): Map<number, Buffer> {
  const found = new Map<number, Buffer>();
  for (let at = 0; at + 4 <= bytes.length; ) {
    const size = bytes.readUInt16LE(at);
    if (size < 4 || at + size > bytes.length) break;
    found.set(bytes.readUInt16LE(at + 2) & 0x3fff, bytes.subarray(at + 4, at + size));
    at += (size + 3) & ~3;
  }
  return found;
}

/** The VLAN of a device, from its IFLA_LINKINFO and IFLA_LINK; null when it is no VLAN device. */
export function vlanOf(linkInfo: Buffer | undefined, lower: number): Link['vlan'] {
  const info = attributesOf(linkInfo ?? Buffer.alloc(0));
  if (info.get(LinkInfo.KIND)?.toString('latin1').replace(/\0$/, '') !== 'vlan') return null;
  const data = attributesOf(info.get(LinkInfo.DATA) ?? Buffer.alloc(0));
  // The protocol came with Linux 3.10; until then there was one.
  const protocol = data.get(VlanInfo.PROTOCOL)?.readUInt16BE() ?? 0x8100;
  return { protocol, id: data.get(VlanInfo.ID)?.readUInt16LE() ?? 0, lower };
}

/** The way in an answer to RTM_GETROUTE (struct rtmsg and attributes); null unless packets leave by it. */
export function wayOf(answer: Buffer, destination: Uint8Array): Way | null {
  if (answer.length < RTM_BYTES || answer.readUInt8(7) !== RTN_UNICAST) return null;
  const attributes = attributesOf(answer.subarray(RTM_BYTES));
  const device = attributes.get(Rta.OIF)?.readUInt32LE();
  if (device === undefined) return null;
  const gateway = attributes.get(Rta.GATEWAY) ?? attributes.get(Rta.VIA)?.subarray(2);
  const mtu = attributesOf(attributes.get(Rta.METRICS) ?? Buffer.alloc(0))
    .get(RTAX_MTU)
    ?.readUInt32LE();
  return { interface: device, next: gateway ?? destination, onLink: gateway === undefined, mtu: mtu || null };
}

/** The MAC packets may be sent to; null while there is none to trust. */
export const usableMac = ({ state, mac }: Neighbour): Uint8Array | null =>
  state & USABLE && mac.length === 6 ? mac : null;

/** The next hop on a way; null when a device is down or no Ethernet, or the neighbour is not known. */
export function hopOf(way: Way | null, links: ReadonlyMap<number, Link>, neighbour: Neighbour): NextHop | null {
  const mac = usableMac(neighbour);
  const device = way && links.get(way.interface);
  if (!mac || !device || device.mac.length !== 6) return null;
  const tags: VlanTag[] = [];
  let index = way.interface;
  let mtu = way.mtu ?? device.mtu;
  for (let link: Link | undefined = device; link?.up; link = links.get(index)) {
    mtu = Math.min(mtu, link.mtu);
    if (!link.vlan)
      return {
        interface: index,
        interfaceName: link.name,
        mac,
        sourceMac: device.mac,
        onLink: way.onLink,
        mtu,
        tags,
      };
    if (tags.length === MAX_TAGS) return null;
    tags.unshift({ protocol: link.vlan.protocol, id: link.vlan.id });
    index = link.vlan.lower;
  }
  return null;
}

/** Names a neighbour. */
export const neighbourKey = (device: number, address: Uint8Array): string =>
  `${device}/${Buffer.from(address.buffer, address.byteOffset, address.length).toString('hex')}`;

/** The events a watch has told, in order. */
export function* neighbourEvents(bytes: Uint8Array): Generator<{ readonly key: string } & Neighbour> {
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  for (let at = 0; at < view.length; at += NEIGHBOUR_EVENT_BYTES) {
    const address = view.subarray(at + 8, at + 8 + (view.readUInt8(at + 6) === 2 ? 4 : 16));
    const mac = view.subarray(at + 24, at + 24 + view.readUInt8(at + 7));
    yield { key: neighbourKey(view.readUInt32LE(at), address), state: view.readUInt16LE(at + 4), mac };
  }
}

const equal = (a: Uint8Array | null, b: Uint8Array | null): boolean =>
  a === b || (a !== null && b !== null && Buffer.compare(a, b) === 0);

/** Whether packets go another way than before. */
export const movesHop = (a: Neighbour, b: Neighbour): boolean => !equal(usableMac(a), usableMac(b));

export function sameHop(a: NextHop | null, b: NextHop | null): boolean {
  if (!a || !b) return a === b;
  return (
    a.interface === b.interface &&
    equal(a.mac, b.mac) &&
    equal(a.sourceMac, b.sourceMac) &&
    a.onLink === b.onLink &&
    a.mtu === b.mtu &&
    a.interfaceName === b.interfaceName &&
    a.tags.length === b.tags.length &&
    a.tags.every((tag, at) => tag.protocol === b.tags[at]?.protocol && tag.id === b.tags[at]?.id)
  );
}
