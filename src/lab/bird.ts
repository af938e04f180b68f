// SPDX-License-Identifier: Apache-2.0
import type { ChildProcess } from 'node:child_process';
import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { FairleadError } from '../model/errors.js';
import { spawnInside, stopChild } from './children.js';
import { everyOne, run } from './netns.js';
import type { LabBalancer, Topology } from './topology.js';
import type { LabPrograms } from './xdp.js';

/** The routing table in which a balancer's daemon keeps the VIPs, and the protocol number of its routes. */
export const announceTable = 200;
const ROUTE_PROTOCOL = 76; // src/controlplane/routes.ts

/** How long a balancer that died without a word is sent packets: BFD's interval times its multiplier, ms. */
export const bfdMs = 200 * 5;

/** BIRD on the router and on the balancers. */
export interface LabBird extends LabPrograms {
  /** Waits until the router spreads both VIPs over so many balancers. */
  until(count: number, timeoutMs: number, signal: AbortSignal): Promise<void>;
  /** Kills the BIRD of a balancer, as a crash would; and starts one again. */
  kill(balancer: LabBalancer): Promise<void>;
  start(balancer: LabBalancer): Promise<void>;
}

const BFD = ['define BFD_INTERVAL = 200;', 'define BFD_MULTIPLIER = 5;'];

function routerDefinitions({ routerAddress4, routerAddress6, vip4, vip6 }: Topology): readonly string[] {
  return [
    `define ROUTER_ID = ${routerAddress4};`,
    'define LOCAL_AS = 64513;',
    `define LOCAL_IPV4 = ${routerAddress4};`,
    `define LOCAL_IPV6 = ${routerAddress6};`,
    'define BALANCER_AS = 64512;',
    'define BALANCERS_IPV4 = 10.9.0.0/24;',
    'define BALANCERS_IPV6 = fd00:9::/64;',
    `define VIPS_IPV4 = [ ${vip4}/32 ];`,
    `define VIPS_IPV6 = [ ${vip6}/128 ];`,
    ...BFD,
  ];
}

function balancerDefinitions({ routerAddress4, routerAddress6 }: Topology, balancer: LabBalancer): readonly string[] {
  return [
    `define ROUTER_ID = ${balancer.address4};`,
    `define FAIRLEAD_TABLE = ${announceTable};`,
    `define FAIRLEAD_PROTOCOL = ${ROUTE_PROTOCOL};`,
    'define LOCAL_AS = 64512;',
    `define LOCAL_IPV4 = ${balancer.address4};`,
    `define LOCAL_IPV6 = ${balancer.address6};`,
    'define ROUTER_AS = 64513;',
    `define ROUTER_IPV4 = ${routerAddress4};`,
    `define ROUTER_IPV6 = ${routerAddress6};`,
    ...BFD,
  ];
}

/** Runs BIRD with packaging/bird/KIND.conf and these definitions; files go to `directory`. Throws 'unsupported' when it is not installed. */
async function startBird(
  namespace: string,
  kind: 'router' | 'balancer',
  directory: string,
  definitions: readonly string[],
): Promise<LabPrograms & { readonly child: ChildProcess }> {
  mkdirSync(directory, { recursive: true });
  const config = `${directory}/${kind}.conf`;
  copyFileSync(fileURLToPath(new URL(`../../../packaging/bird/${kind}.conf`, import.meta.url)), config);
  writeFileSync(`${directory}/local.conf`, `${definitions.join('\n')}\n`);
  const socket = `${directory}/bird.ctl`;
  const child = spawnInside(namespace, ['bird', '-f', '-c', config, '-s', socket], ['ignore', 'ignore', 'pipe']);
  let said = '';
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    said = (said + text).slice(-2000);
  });
  for (const deadline = Date.now() + 10_000; ; await pause(50)) {
    const isUp = await run('birdc', ['-s', socket, 'show', 'status']).then(
      (text) => text.includes('Daemon is up'),
      () => false,
    );
    if (isUp) return { child, close: () => stopChild(child, 2_000) };
    const ended = child.exitCode !== null || child.signalCode !== null;
    if (!ended && Date.now() < deadline) continue;
    await stopChild(child, 1_000);
    if (/No such file/.test(said))
      throw new FairleadError('unsupported', 'start BIRD: it is not installed; apt-get install bird2');
    throw new FairleadError('unavailable', `start BIRD in "${namespace}": ${said.trim() || 'it does not answer'}`);
  }
}

/** The balancers the router sends a VIP's packets to, by their addresses. */
export async function nextHopsOf({ router }: Topology, vip: string): Promise<readonly string[]> {
  const family = vip.includes(':') ? '-6' : '-4';
  const text = await run('ip', [family, '-n', router, '-j', 'route', 'show', vip]);
  type Hop = { readonly gateway?: string; readonly flags?: readonly string[] };
  const routes = JSON.parse(text || '[]') as (Hop & { readonly nexthops?: readonly Hop[] })[];
  return routes.flatMap((route) => route.nexthops ?? [route]).flatMap(({ gateway }) => gateway ?? []);
}

/** Starts all of them; the VIPs are on the router once the balancers announce them. */
export async function openBird(topology: Topology, directory: string): Promise<LabBird> {
  const balancers = new Map<string, Awaited<ReturnType<typeof startBird>>>();
  const start = async (balancer: LabBalancer): Promise<void> => {
    const definitions = balancerDefinitions(topology, balancer);
    const own = `${directory}/bird/${balancer.name}`;
    balancers.set(balancer.name, await startBird(balancer.namespace, 'balancer', own, definitions));
  };
  const router = await startBird(topology.router, 'router', `${directory}/bird/router`, routerDefinitions(topology));
  await everyOne(topology.balancers.map(start));
  return {
    start,
    async kill({ name }) {
      const bird = balancers.get(name);
      bird?.child.kill('SIGKILL');
      await bird?.close();
      balancers.delete(name);
    },
    async until(count, timeoutMs, signal) {
      for (const deadline = Date.now() + timeoutMs; ; await pause(20)) {
        signal.throwIfAborted();
        const hops = await Promise.all([topology.vip4, topology.vip6].map((vip) => nextHopsOf(topology, vip)));
        if (hops.every(({ length }) => length === count)) return;
        if (Date.now() > deadline)
          throw new FairleadError(
            'unavailable',
            `the router sends to ${hops.map((each) => each.join(' and ') || 'nobody').join(', ')}, wanted ${count} balancers for each VIP`,
          );
      }
    },
    close: async () => void (await everyOne([router, ...balancers.values()].map((each) => each.close()))),
  };
}
