// SPDX-License-Identifier: Apache-2.0
import { setTimeout as delay } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import { NetworkChange, native } from '../dataplane/native.js';
import { parseAddress } from '../model/address.js';
import {
  hopOf,
  type Link,
  movesHop,
  type Neighbour,
  type NextHop,
  neighbourEvents,
  neighbourKey,
  sameHop,
  usableMac,
  vlanOf,
  type Way,
  wayOf,
} from './hop.js';
import { NO_PROBES, type Probes, probeDue } from './probing.js';
import { createRtNetlink, FlagsNew, rt } from './rtnetlink.js';
import { slices } from './slices.js';

export type { NextHop } from './hop.js';

export interface NextHopResolver {
  /** The next hop of each address, null while it is not known. Those asked for last are watched, and looked for. */
  resolve(addresses: ReadonlySet<string>): Promise<ReadonlyMap<string, NextHop | null>>;
  /** Called when the answer of the last `resolve` would be another one now. */
  onChange(listener: () => void): void;
  close(): void;
}

/** A neighbour some backend is reached by. */
interface Tended {
  readonly interface: number;
  readonly address: Uint8Array;
  neighbour: Neighbour;
  probes: Probes;
  /** Events of it so far: an answer that was under way when one came is older. */
  heard: number;
}

/** The way of an address, the name of its neighbour, and the next hop these came to when links and the neighbour were as in `of`. */
interface Known {
  readonly way: Way | null;
  readonly neighbour: string;
  hop?: NextHop | null;
  of?: { readonly links: Links; readonly neighbour: Neighbour | null };
}

type Links = ReadonlyMap<number, Link>;

const AF_INET = 2;
const AF_INET6 = 10;
const RTM_GETROUTE = 26;
const NO_LINKS: Links = new Map();
const NO_NEIGHBOUR: Neighbour = { state: 0, mac: new Uint8Array(0) };

/** This often so many ways, those asked for longest ago, are asked for anew, should an event of theirs have been missed. */
const AGAIN_MS = 9_000;
const AGAIN_MOST = 1_000;
/** From an event to what it comes to: what belongs together is one change. */
const SETTLE_MS = 20;
/** In a storm of events, asking takes a tenth of the time; but none waits longer than this. */
const IDLE_SHARE = 9;
const STORM_MS = 400;
const TEND_MS = 1_000;
/** How long the first answer waits for neighbours nobody has asked for yet: rows that are in the kernel already stay meanwhile. */
const FIRST_ANSWER_MS = 500;

/** Throws when the kernel cannot be asked or does not tell. */
export function openNextHops(): NextHopResolver {
  const netlink = createRtNetlink();
  const listeners: (() => void)[] = [];
  let links: Links | null = null; // null: not asked yet
  const ways = new Map<string, Known>(); // of `wanted`, the one asked for longest ago first
  const tended = new Map<string, Tended>(); // of `ways`
  let hops: ReadonlyMap<string, NextHop | null> = new Map();
  let answering = Promise.resolve(hops);
  let given = hops; // to whoever asked last
  let old = true; // `hops` may be: of links, ways and neighbours before
  let wanted: ReadonlySet<string> = new Set();
  let dirty = false; // links and all ways may have changed, or events were lost
  let due = false; // some are to be asked for again
  let calmUntil = 0; // no refresh before
  let settling: NodeJS.Timeout | null = null;
  let refreshing: Promise<void> = Promise.resolve();
  let answered = false; // once
  let closed = false;

  /** The same map as before when nothing is new. */
  async function askLinks(): Promise<Links> {
    const found = new Map<number, Link>();
    for (const { data, attrs } of await netlink.getLinks()) {
      if (!data.index || !attrs.ifname) continue;
      const lower = attrs.linkNetnsid === undefined ? (attrs.link?.readUInt32LE() ?? -1) : -1;
      found.set(data.index, {
        name: attrs.ifname,
        mac: attrs.address ?? new Uint8Array(0),
        mtu: attrs.mtu ?? 0,
        up: data.flags?.up === true && data.flags.running === true,
        vlan: vlanOf(attrs.linkinfo, lower),
      });
    }
    return links && isDeepStrictEqual(found, links) ? links : found;
  }

  /** Null without a route. The answer is read here: the package throws on RTA_VIA. */
  async function askWay(address: string): Promise<Way | null> {
    const destination = parseAddress(address).bytes;
    const question = Buffer.alloc(16 + destination.length); // struct rtmsg, RTA_DST
    question.writeUInt8(destination.length === 4 ? AF_INET : AF_INET6, 0);
    question.writeUInt8(destination.length * 8, 1);
    question.writeUInt16LE(4 + destination.length, 12);
    question.writeUInt16LE(1, 14);
    question.set(destination, 16);
    try {
      const [[answer]] = await netlink.socket.request(RTM_GETROUTE, question);
      return answer ? wayOf(answer.data, destination) : null;
    } catch {
      return null; // ENETUNREACH and its kin: a state of the network, not a failure of ours
    }
  }

  const familyOf = ({ length }: Uint8Array): number => (length === 4 ? AF_INET : AF_INET6);

  async function askNeighbour({ interface: ifindex, address }: Tended): Promise<Neighbour> {
    try {
      const [answer] = await netlink.getNeighbor({ family: familyOf(address), ifindex }, { dst: Buffer.from(address) });
      if (!answer) return NO_NEIGHBOUR;
      return {
        state: rt.formatNeighborState(answer.data.state ?? {}),
        mac: answer.attrs.lladdr ?? NO_NEIGHBOUR.mac,
      };
    } catch {
      return NO_NEIGHBOUR; // ENOENT; or the interface has gone in between, and an event says so
    }
  }

  /** Asks the kernel to resolve, or to confirm, a neighbour (NTF_USE): it does as for a packet of its own. */
  async function probe({ interface: ifindex, address }: Tended): Promise<void> {
    try {
      await netlink.newNeighbor(
        { family: familyOf(address), ifindex, state: {}, flags: { use: true } },
        { dst: Buffer.from(address) },
        { flags: FlagsNew.CREATE },
      );
    } catch {
      // the interface has gone in between, and an event says so
    }
  }

  /** Asks for the way of each of these that is still wanted, and for its neighbour, unless that was asked for in this call. */
  async function ask(addresses: Iterable<string>, again: boolean): Promise<void> {
    const asked = new Set<string>();
    for (const address of addresses) {
      if (!wanted.has(address)) continue;
      const way = await askWay(address);
      if (!wanted.has(address)) continue;
      const key = way ? neighbourKey(way.interface, way.next) : '';
      const before = ways.get(address);
      const isSame = before !== undefined && isDeepStrictEqual(before.way, way);
      ways.delete(address);
      // The hop of before is the answer until it is worked out anew.
      ways.set(address, isSame ? before : { way, neighbour: key, ...(before?.hop && { hop: before.hop }) });
      old ||= !isSame;
      if (!way || asked.has(key)) continue;
      asked.add(key);
      const known = tended.get(key);
      const one = known ?? {
        interface: way.interface,
        address: way.next,
        neighbour: NO_NEIGHBOUR,
        probes: NO_PROBES,
        heard: 0,
      };
      tended.set(key, one); // events of it count from here on
      if (known && !again) continue;
      const { heard } = one;
      const neighbour = await askNeighbour(one);
      if (one.heard !== heard || isDeepStrictEqual(neighbour, one.neighbour)) continue;
      one.neighbour = neighbour;
      old = true;
    }
  }

  /** Lets go of neighbours that no way leads to any more. */
  function forget(): void {
    const keys = new Set<string>();
    for (const { neighbour } of ways.values()) keys.add(neighbour);
    for (const key of tended.keys()) if (!keys.has(key)) tended.delete(key);
  }

  /** Watches these, and no others. */
  function want(addresses: ReadonlySet<string>): void {
    if (addresses === wanted) return;
    wanted = addresses;
    let gone = false;
    for (const address of ways.keys()) if (!addresses.has(address)) gone = ways.delete(address) || gone;
    if (gone) forget();
    old ||= gone;
  }

  /** What stays as it was is the same object as before; when all of it does, the map is. The event loop turns meanwhile: what comes then is for the next call. */
  async function workOut(): Promise<ReadonlyMap<string, NextHop | null>> {
    if (!old) return hops;
    old = false;
    const pause = slices();
    let moved = ways.size !== hops.size;
    for (const known of ways.values()) {
      const neighbour = tended.get(known.neighbour)?.neighbour ?? null;
      if (known.of?.links === links && known.of?.neighbour === neighbour) continue;
      const hop = neighbour ? hopOf(known.way, links ?? NO_LINKS, neighbour) : null;
      if (known.hop === undefined || !sameHop(hop, known.hop)) {
        known.hop = hop;
        moved = true;
      }
      known.of = { links: links ?? NO_LINKS, neighbour };
      const turn = pause();
      if (turn) await turn;
    }
    if (!moved) return hops;
    const next = new Map<string, NextHop | null>();
    for (const [address, { hop = null }] of ways) {
      next.set(address, hop);
      const turn = pause();
      if (turn) await turn;
    }
    hops = next;
    return hops;
  }

  function answer(): Promise<ReadonlyMap<string, NextHop | null>> {
    answering = answering.then(workOut);
    return answering;
  }

  /** Has the kernel look for what is missing and confirm what is stale. */
  function tend(): void {
    if (closed) return;
    const now = performance.now();
    for (const one of tended.values()) {
      if (!probeDue(one.probes, one.neighbour, now) || !links?.get(one.interface)?.up) continue;
      one.probes = { at: now, count: usableMac(one.neighbour) ? 0 : one.probes.count + 1 };
      void probe(one);
    }
  }

  /** Asks for links and all ways when something has changed, for those whose turn it is when some are due; and tells what came of it. */
  async function refresh(): Promise<void> {
    const started = performance.now();
    const most = dirty ? ways.size : due ? AGAIN_MOST : 0;
    dirty = false; // first: what changes while we ask makes it dirty again
    due = false;
    let failed = false;
    try {
      if (most > 0) {
        const before = links;
        links = await askLinks();
        old ||= links !== before;
        await ask([...ways.keys()].slice(0, most), true);
        forget();
      }
    } catch {
      failed = true; // the reconciler's own round will say why, if it lasts
      dirty = true;
    }
    const ended = performance.now();
    calmUntil = ended + (failed ? STORM_MS : Math.min(IDLE_SHARE * (ended - started), STORM_MS));
    if (failed) settle();
    await tell();
    tend();
  }

  async function tell(): Promise<void> {
    if ((await answer()) !== given && !closed) for (const listener of listeners) listener();
  }

  /** Asks, and waits while some that could answer have not. */
  async function tendFirst(): Promise<void> {
    tend();
    const missing = (): boolean =>
      [...tended.values()].some(({ neighbour, interface: at }) => !usableMac(neighbour) && links?.get(at)?.up);
    for (const end = performance.now() + FIRST_ANSWER_MS; missing() && performance.now() < end; ) await delay(5);
  }

  function settle(): void {
    if (closed || settling) return;
    const run = (): void => {
      settling = null;
      if (!closed) refreshing = refreshing.then(refresh);
    };
    settling = setTimeout(run, Math.max(SETTLE_MS, calmUntil - performance.now()));
  }

  const watch = native.watchNetwork((changed, events) => {
    if (changed & ~NetworkChange.NEIGHBOUR) {
      dirty = true;
      settle();
    }
    if (changed & NetworkChange.LINK) for (const one of tended.values()) one.probes = { ...one.probes, count: 0 }; // a cable may be back: no long wait
    let lost = false;
    for (const { key, ...neighbour } of neighbourEvents(events)) {
      const one = tended.get(key);
      if (!one) continue;
      one.heard++;
      old = true;
      if (movesHop(one.neighbour, neighbour)) settle();
      one.neighbour = neighbour;
      if (usableMac(neighbour)) one.probes = { ...one.probes, count: 0 };
      else lost = true;
    }
    if (lost) tend(); // one that was only flushed is back before the change is looked at
  });
  const tending = setInterval(tend, TEND_MS).unref();
  const again = setInterval(() => {
    due = true;
    settle();
  }, AGAIN_MS).unref();

  return {
    async resolve(addresses) {
      want(addresses);
      const unknown: string[] = [];
      for (const address of addresses) if (!ways.has(address)) unknown.push(address);
      links ??= await askLinks();
      await ask(unknown, false); // beside a refresh, which asks for those that were known
      if (!answered) await tendFirst();
      answered = true;
      given = await answer();
      tend();
      return given;
    },
    onChange: (listener) => void listeners.push(listener),
    close() {
      closed = true;
      watch.close();
      clearInterval(tending);
      clearInterval(again);
      if (settling) clearTimeout(settling);
      netlink.socket.socket.close();
    },
  };
}
