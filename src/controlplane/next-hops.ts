// SPDX-License-Identifier: Apache-2.0
import { setTimeout as pause } from 'node:timers/promises';
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

export type { NextHop } from './hop.js';

export interface NextHopResolver {
  /** The next hop of each address, null while it is not known. Those asked for last are watched, and looked for. */
  resolve(addresses: readonly string[]): Promise<Map<string, NextHop | null>>;
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

const AF_INET = 2;
const AF_INET6 = 10;
const RTM_GETROUTE = 26;
const NO_NEIGHBOUR: Neighbour = { state: 0, mac: new Uint8Array(0) };

/** Everything is asked anew when older; so the reconciler's period, 10 s, is that of a missed event. */
const FRESH_MS = 9_000;
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
  let links = new Map<number, Link>();
  let ways = new Map<string, Way | null>(); // of `wanted`
  let tended = new Map<string, Tended>(); // of `ways`
  let hops = new Map<string, NextHop | null>();
  let wanted: ReadonlySet<string> = new Set();
  let dirty = true; // links and ways may have changed, or events were lost
  let readAt = 0;
  let calmUntil = 0; // no refresh before
  let settling: NodeJS.Timeout | null = null;
  let tail: Promise<unknown> = Promise.resolve();
  let answered = false; // once
  let closed = false;

  /** One at a time. */
  function inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = tail.then(work);
    tail = done.catch(() => undefined);
    return done;
  }

  async function askLinks(): Promise<Map<number, Link>> {
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
    return found;
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

  /** Brings links, ways and neighbours up to date: all of them when something may have been missed, else what is new. */
  async function read(): Promise<void> {
    const all = dirty || performance.now() - readAt > FRESH_MS;
    if (all) {
      dirty = false; // first: what changes while we ask makes it dirty again
      readAt = performance.now();
      try {
        links = await askLinks();
      } catch (error) {
        dirty = true;
        throw error;
      }
    }
    const nextWays = new Map<string, Way | null>();
    const nextTended = new Map<string, Tended>();
    for (const address of wanted) {
      const known = all ? undefined : ways.get(address);
      const way = known === undefined ? await askWay(address) : known;
      nextWays.set(address, way);
      if (!way) continue;
      const key = neighbourKey(way.interface, way.next);
      if (nextTended.has(key)) continue;
      const old = tended.get(key);
      const one = old ?? {
        interface: way.interface,
        address: way.next,
        neighbour: NO_NEIGHBOUR,
        probes: NO_PROBES,
        heard: 0,
      };
      tended.set(key, one); // events of it count from here on
      nextTended.set(key, one);
      if (old && !all) continue;
      const { heard } = one;
      const neighbour = await askNeighbour(one);
      if (one.heard === heard) one.neighbour = neighbour;
    }
    ways = nextWays;
    tended = nextTended;
  }

  function answer(): Map<string, NextHop | null> {
    const found = new Map<string, NextHop | null>();
    for (const [address, way] of ways) {
      const one = way && tended.get(neighbourKey(way.interface, way.next));
      found.set(address, one ? hopOf(way, links, one.neighbour) : null);
    }
    return found;
  }

  /** Has the kernel look for what is missing and confirm what is stale. */
  function tend(): void {
    if (closed) return;
    const now = performance.now();
    for (const one of tended.values()) {
      if (!probeDue(one.probes, one.neighbour, now) || !links.get(one.interface)?.up) continue;
      one.probes = { at: now, count: usableMac(one.neighbour) ? 0 : one.probes.count + 1 };
      void probe(one);
    }
  }

  async function refresh(): Promise<void> {
    const started = performance.now();
    let failed = false;
    try {
      await read();
    } catch {
      failed = true; // the reconciler's own round will say why, if it lasts
    }
    const ended = performance.now();
    calmUntil = ended + (failed ? STORM_MS : Math.min(IDLE_SHARE * (ended - started), STORM_MS));
    if (failed) settle();
    const now = answer();
    const moved = [...now].some(([address, hop]) => !sameHop(hop, hops.get(address) ?? null));
    hops = now;
    tend();
    if (moved && !closed) for (const listener of listeners) listener();
  }

  /** Asks, and waits while some that could answer have not. */
  async function tendFirst(): Promise<void> {
    tend();
    const missing = (): boolean =>
      [...tended.values()].some(({ neighbour, interface: at }) => !usableMac(neighbour) && links.get(at)?.up);
    for (const end = performance.now() + FIRST_ANSWER_MS; missing() && performance.now() < end; ) await pause(5);
  }

  function settle(): void {
    if (closed || settling) return;
    const run = (): void => {
      settling = null;
      if (!closed) void inTurn(refresh);
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
      if (movesHop(one.neighbour, neighbour)) settle();
      one.neighbour = neighbour;
      if (usableMac(neighbour)) one.probes = { ...one.probes, count: 0 };
      else lost = true;
    }
    if (lost) tend(); // one that was only flushed is back before the change is looked at
  });
  const tending = setInterval(tend, TEND_MS).unref();

  return {
    resolve: (addresses) =>
      inTurn(async () => {
        wanted = new Set(addresses);
        await read();
        if (!answered) await tendFirst();
        answered = true;
        hops = answer();
        tend();
        return new Map(hops);
      }),
    onChange: (listener) => void listeners.push(listener),
    close() {
      closed = true;
      watch.close();
      clearInterval(tending);
      if (settling) clearTimeout(settling);
      netlink.socket.socket.close();
    },
  };
}
