// SPDX-License-Identifier: Apache-2.0
// Child of the watch's test, inside a namespace of its own with the interface fwat0. Argument: what to do. Prints a line of JSON.
import { execFile, execFileSync } from 'node:child_process';
import { setTimeout as pause } from 'node:timers/promises';
import { promisify } from 'node:util';
import { NEIGHBOUR_EVENT_BYTES, NetworkChange, native } from '../../src/dataplane/native.js';

interface Heard {
  changed: number;
  events: Buffer[];
  calls: number;
}

const heard: Heard = { changed: 0, events: [], calls: 0 };
const watch = native.watchNetwork((changed, neighbours) => {
  heard.calls++;
  heard.changed |= changed;
  for (let at = 0; at < neighbours.length; at += NEIGHBOUR_EVENT_BYTES)
    heard.events.push(Buffer.from(neighbours.subarray(at, at + NEIGHBOUR_EVENT_BYTES)));
});

const ip = (...args: string[]): string => execFileSync('ip', args, { encoding: 'utf8', stdio: 'pipe' });

/** All that is heard until `condition` holds, at most five seconds. */
async function listen(condition: () => boolean): Promise<Heard> {
  for (const deadline = Date.now() + 5_000; !condition() && Date.now() < deadline; ) await pause(2);
  return take();
}

function take(): Heard {
  const taken = { ...heard };
  Object.assign(heard, { changed: 0, events: [], calls: 0 });
  return taken;
}

/** Lines for `ip -batch`: neighbours that nothing else knows. */
const neighbours = (count: number, mac: string): string =>
  Array.from(
    { length: count },
    (_, at) => `neigh replace 10.${at >> 16}.${(at >> 8) & 255}.${at & 255} lladdr ${mac} nud permanent dev fwat0`,
  ).join('\n');

/** The longest time the event loop was away, ms, while `work` went on. */
async function longestTurn(work: Promise<unknown>): Promise<number> {
  let longest = 0;
  let last = performance.now();
  const timer = setInterval(() => {
    const now = performance.now();
    longest = Math.max(longest, now - last);
    last = now;
  }, 1);
  await work;
  clearInterval(timer);
  return longest;
}

const scenarios: Record<string, () => Promise<unknown>> = {
  /** What each kind of change is told as. */
  async kinds() {
    const after = async (bit: number, ...args: string[]): Promise<number> => {
      await pause(50); // what came of the step before is heard and forgotten
      take();
      ip(...args);
      return (await listen(() => (heard.changed & bit) !== 0)).changed & bit;
    };
    const { LINK, ADDRESS, ROUTE } = NetworkChange;
    return {
      link: await after(LINK, 'link', 'set', 'fwat0', 'mtu', '1400'),
      address: await after(ADDRESS, 'address', 'add', '192.0.2.1/24', 'dev', 'fwat0'),
      address6: await after(ADDRESS, 'address', 'add', '2001:db8::1/64', 'dev', 'fwat0', 'nodad'),
      route: await after(ROUTE, 'route', 'add', '198.51.100.0/24', 'via', '192.0.2.9'),
      route6: await after(ROUTE, '-6', 'route', 'add', '2001:db8:1::/48', 'via', '2001:db8::9'),
      rule: await after(ROUTE, 'rule', 'add', 'from', '192.0.2.7', 'table', '100'),
      nextHop: await after(ROUTE, 'nexthop', 'add', 'id', '7', 'via', '192.0.2.9', 'dev', 'fwat0'),
      down: await after(LINK, 'link', 'set', 'fwat1', 'down'),
    };
  },
  /** The events of one neighbour's life, of each family, in hexadecimal. */
  async neighbour() {
    await pause(50);
    const hex: string[] = [];
    for (const address of ['192.0.2.200', '2001:db8::200']) {
      const own = (): Buffer[] => heard.events.filter((event) => event.readUInt16LE(4) !== 0x40); // noarp: multicast
      take();
      const at = ['lladdr', '02:00:00:00:00:aa', 'dev', 'fwat0', 'nud'];
      ip('neigh', 'add', address, ...at, 'permanent');
      ip('neigh', 'change', address, ...at, 'stale');
      ip('neigh', 'del', address, 'dev', 'fwat0');
      await listen(() => own().at(-1)?.readUInt16LE(4) === 0).then(({ events }) => {
        hex.push(...events.filter((event) => event.readUInt16LE(4) !== 0x40).map((event) => event.toString('hex')));
      });
    }
    return hex;
  },
  /** 20,000 events while JavaScript is busy, then one that must not be lost. */
  async busy() {
    const before = process.memoryUsage().rss;
    execFileSync('ip', ['-batch', '-'], { input: neighbours(20_000, '02:00:00:00:00:01') });
    const grown = process.memoryUsage().rss - before;
    const burst = await listen(() => (heard.changed & NetworkChange.OVERRUN) !== 0);
    ip('neigh', 'add', '192.0.2.201', 'lladdr', '02:00:00:00:00:bb', 'dev', 'fwat0', 'nud', 'permanent');
    const next = await listen(() => heard.events.length > 0);
    return {
      changed: burst.changed,
      calls: burst.calls,
      grown,
      next: next.events.map((event) => event.toString('hex')),
    };
  },
  /** 5,000 events while it is not. */
  async idle() {
    const work = promisify(execFile)('ip', ['-batch', '-']);
    work.child.stdin?.end(neighbours(5_000, '02:00:00:00:00:02'));
    const started = performance.now();
    const longest = await longestTurn(work);
    const took = performance.now() - started;
    const { events, calls, changed } = await listen(
      () => heard.events.length >= 5_000 || (heard.changed & NetworkChange.OVERRUN) !== 0,
    );
    return { events: events.length, calls, changed, longest, took };
  },
  /** Nothing is heard of a closed watch. */
  async close() {
    watch.close();
    watch.close();
    take();
    ip('link', 'set', 'fwat0', 'mtu', '1300');
    await pause(50);
    return heard.calls;
  },
  /** What a listener throws is an uncaught exception. */
  async throws() {
    const keep = setTimeout(() => {}, 5_000); // the watch does not
    const caught = new Promise((resolve) => process.once('uncaughtException', resolve));
    const second = native.watchNetwork(() => {
      throw new Error('thrown by the listener');
    });
    ip('link', 'set', 'fwat0', 'mtu', '1350');
    const error = await caught;
    clearTimeout(keep);
    second.close();
    return error instanceof Error ? error.message : null;
  },
};

const answer = await scenarios[process.argv[2] ?? '']?.();
process.stdout.write(`${JSON.stringify(answer)}\n`); // the watch does not keep this process
