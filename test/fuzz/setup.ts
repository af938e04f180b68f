// SPDX-License-Identifier: Apache-2.0
// Random nodes: a dozen services in every mode, as the model holds them.
import { ServiceFlag } from '../../src/dataplane/abi.gen.js';
import { agentKey, type ProgramConfig } from '../../src/dataplane/program.js';
import { parseAddress } from '../../src/model/address.js';
import {
  type ModelBackend,
  type ModelPool,
  type ModelService,
  type Prefix,
  serviceId,
  type World,
} from '../model/world.js';
import type { Random } from './random.js';

const bytesOf = (text: string): Buffer => Buffer.from(parseAddress(text).bytes);
const numbered = (prefix: string, count: number): Buffer[] =>
  Array.from({ length: count }, (_, at) =>
    bytesOf(`${prefix}${prefix.includes(':') ? (at + 1).toString(16) : at + 1}`),
  );

export const VIPS4 = numbered('192.0.2.', 5);
export const VIPS6 = numbered('2001:db8::', 5);
export const CLIENTS4 = [...numbered('203.0.113.', 8), ...numbered('198.51.100.', 4), bytesOf('10.200.3.4')];
export const CLIENTS6 = [...numbered('2001:db8:1::', 8), ...numbered('2001:db8:2:3::', 4), bytesOf('2a00::dead:beef')];
export const PORTS = [80, 443, 53, 6080];

export function randomProgram(random: Random): ProgramConfig {
  return {
    flowsPerCpu: 1 << 18,
    newFlowsPerSecond: 4e9,
    icmpPerSecond: 4e9,
    ringKey: random.bytes(16),
    tunnelSource: bytesOf('10.9.0.10'),
    tunnelSource6: bytesOf('fd00:9::10'),
    tunnelMtu: random.pick([1500, 1500, 1480, 1400, 9000]),
    features: random.once(2) ? 0xffff : 0x1ff,
  };
}

function randomPool(random: Random, number: number, backends: Map<number, ModelBackend>): ModelPool {
  const family = random.pick([4, 6, 0]);
  const members: number[] = [];
  for (let slot = 1; slot <= 1 + random.below(4); slot++) {
    const at = backends.size + 1;
    const v6 = family === 0 ? random.once(2) : family === 6;
    backends.set(at, {
      number: at,
      pool: number,
      slot,
      address: v6 ? bytesOf(`fd00:9::${(0x100 + at).toString(16)}`) : bytesOf(`10.9.1.${at}`),
      valid: !random.once(8),
      down: random.once(8),
      onLink: !random.once(5),
      nextHopMac: Buffer.concat([Buffer.of(2, 0, 0, 9), random.bytes(2)]),
      sourceMac: Buffer.concat([Buffer.of(2, 0, 0, 1), random.bytes(2)]),
      sameInterface: !random.once(6),
      mtu: random.pick([1500, 1500, 1500, 1400, 1290, 9000]),
      tags: Buffer.concat(
        Array.from({ length: random.pick([0, 0, 0, 1, 2]) }, () =>
          Buffer.concat([random.pick([Buffer.of(0x81, 0), Buffer.of(0x88, 0xa8)]), random.bytes(2)]),
        ),
      ),
    });
    members.push(at);
  }
  const quicLengths = Array.from({ length: 7 }, () => random.pick([0, 1, 2, 4, 8, 15]));
  const quicServers = new Map<string, number>();
  for (const [config, length] of quicLengths.entries()) {
    if (length === 0) continue;
    for (const member of members)
      quicServers.set(`${config}:${quicId(member, config, length).toString('hex')}`, member);
  }
  return { number, ring: randomRing(random, members), quicLengths, quicServers };
}

/** A backend's server ID for this config. */
export const quicId = (backend: number, config: number, length: number): Buffer =>
  Buffer.from(Uint8Array.from({ length }, (_, at) => (at === 0 ? backend : (backend * 7 + config * 31 + at) & 255)));

export function randomRing(random: Random, members: readonly number[]): Uint16Array {
  if (random.once(12)) return new Uint16Array(0);
  const rows = Array.from({ length: random.pick([1, 7, 31, 251]) }, () => {
    const owners = random.once(2) ? [random.pick(members)] : [...new Set([1, 2, 3, 4].map(() => random.pick(members)))];
    return [...owners, 0, 0, 0].slice(0, 4);
  });
  return Uint16Array.from(rows.flat());
}

const MODES = [0, 0, 0, ServiceFlag.GUE, ServiceFlag.GUE, ServiceFlag.GUE, ServiceFlag.L2, ServiceFlag.NAT];
const EXTRAS = [
  ServiceFlag.SOURCE,
  ServiceFlag.QUIC,
  ServiceFlag.STATELESS,
  ServiceFlag.ALLOW,
  ServiceFlag.DENY,
  ServiceFlag.RATE,
];

function prefixes(random: Random, v6: boolean): Prefix[] {
  const clients = v6 ? CLIENTS6 : CLIENTS4;
  const bits = v6 ? [0, 7, 32, 61, 64, 120, 126, 128] : [0, 1, 8, 20, 24, 27, 30, 32];
  return Array.from({ length: 1 + random.below(4) }, () => ({
    address: random.pick(clients),
    bits: random.pick(bits.slice(random.once(6) ? 0 : 2)),
  }));
}

function randomService(
  random: Random,
  number: number,
  address: Buffer,
  port: number,
  protocol: number,
  pools: number,
): ModelService {
  const v6 = address.length === 16;
  let flags = random.pick(MODES);
  for (const extra of EXTRAS) if (random.once(5)) flags |= extra;
  if (protocol === 6) flags &= ~ServiceFlag.QUIC;
  return {
    number,
    address,
    port,
    protocol,
    pool: 1 + random.below(pools),
    countersStart: number * 8,
    flags,
    sourceBits: random.pick(v6 ? [128, 64, 56, 61, 0] : [32, 24, 20, 29, 0]),
    allow: prefixes(random, v6),
    deny: prefixes(random, v6),
    natMtu: random.pick([0, 1280, 1300, 1400, 1500]),
  };
}

const POOLS = 6;

/** `flagMask` leaves out what the packet path under test cannot do. */
export function randomWorld(random: Random, program: ProgramConfig, flagMask = 0xffff): World {
  const backends = new Map<number, ModelBackend>();
  const pools = new Map<number, ModelPool>();
  for (let number = 1; number <= POOLS; number++) pools.set(number, randomPool(random, number, backends));
  const services = new Map<string, ModelService>();
  const vips = new Map<string, ModelService[]>();
  for (const vip of [...VIPS4.slice(0, 4), ...VIPS6.slice(0, 4)]) {
    const own: ModelService[] = [];
    for (const protocol of [6, 17]) {
      const ports = [0, 443, 80, 6080].filter(() => random.once(3));
      if (ports.length === 0 && protocol === 17 && own.length === 0) ports.push(80);
      for (const port of ports) {
        const made = randomService(random, services.size + 1, vip, port, protocol, POOLS);
        const service = { ...made, flags: made.flags & flagMask };
        services.set(serviceId(vip, port, protocol), service);
        own.push(service);
      }
    }
    vips.set(vip.toString('latin1'), own);
  }
  return {
    ringKey: new Uint32Array(Uint8Array.from(program.ringKey).buffer),
    agentKey: new Uint32Array(Uint8Array.from(agentKey(program.ringKey)).buffer),
    tunnelSource: Buffer.from(program.tunnelSource),
    tunnelSource6: Buffer.from(program.tunnelSource6),
    tunnelMtu: program.tunnelMtu,
    guePort: 6080,
    splits: true,
    services,
    vips,
    pools,
    backends,
    flows: new Map(),
    datagrams: new Map(),
    pairs: new Map(),
  };
}
