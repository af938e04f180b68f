// SPDX-License-Identifier: Apache-2.0
// Services in NAT mode beside nftables' DNAT and SNAT: the same namespaces, the same run, in turn.
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { median } from './micro.js';
import type { Sample } from './nat-chain.js';
import { type MicroCase, memoryPerMillion, natMicro } from './nat-micro.js';
import { endOldWorlds, endWorld, type Mode, makeWorld, worldOf } from './nat-world.js';

interface Figures {
  readonly median: number;
  readonly min: number;
  readonly max: number;
  readonly cpuSecondsPerGigabyte?: number;
}

interface Comparison {
  readonly name: string;
  /** With XDP programs on the node's interfaces: xdp_lb, or one that passes all. */
  readonly xdp: { readonly ours: boolean; readonly nftables: boolean };
  readonly ours: Figures;
  readonly nftables: Figures;
  /** Median over rounds of what one mode had beside the other in the same round. */
  readonly ratio: number;
}

export interface ChainCase {
  readonly case: 'udp64' | 'tcp_stream' | 'http_conns';
  readonly ours: number;
  readonly nftables: number;
  readonly unit: 'Mpps' | 'Gbit/s' | 'connections/s';
  readonly ratio: number;
  readonly wanted: number; // at least
  /** Which of `details` this is. */
  readonly of: string;
  readonly exhausted: string;
  readonly details: readonly Comparison[];
}

export interface NatResult {
  readonly cases: readonly (ChainCase | MicroCase)[];
  readonly memoryBytesPerMillion: number;
}

function figuresOf(samples: readonly Sample[]): Figures {
  const figures = samples.map(({ figure }) => figure);
  const costs = samples.flatMap(({ cpuSecondsPerGigabyte }) => cpuSecondsPerGigabyte ?? []);
  return {
    median: median(figures),
    min: Math.min(...figures),
    max: Math.max(...figures),
    ...(costs.length > 0 ? { cpuSecondsPerGigabyte: median(costs) } : {}),
  };
}

function compare(name: string, xdp: Comparison['xdp'], samples: readonly Sample[]): Comparison {
  const of = (mode: Mode): Sample[] =>
    samples.filter((sample) => sample.name === name && sample.mode === mode && sample.xdp === xdp[mode]);
  const [ours, nftables] = [of('ours'), of('nftables')];
  const ratios = ours.map(({ figure }, round) => figure / (nftables[round]?.figure ?? Number.NaN));
  return { name, xdp, ours: figuresOf(ours), nftables: figuresOf(nftables), ratio: median(ratios) };
}

/** What runs on a node, and nftables without XDP. */
const WHOLE = { ours: true, nftables: false };
const WITH = { ours: true, nftables: true };
const WITHOUT = { ours: false, nftables: false };
const STREAMS = ['tcp_1_up', 'tcp_4_up', 'tcp_1_down', 'tcp_4_down'];

interface Kind extends Pick<ChainCase, 'case' | 'unit' | 'wanted' | 'exhausted'> {
  readonly names: readonly string[];
  readonly xdp: readonly Comparison['xdp'][];
}

/** The worst of the comparisons under `xdp[0]` is the case; the others are details. */
const CASES: readonly Kind[] = [
  {
    case: 'udp64',
    unit: 'Mpps',
    wanted: 1.4,
    names: ['udp64'],
    xdp: [WHOLE],
    exhausted: 'one CPU, with generator and sink',
  },
  {
    // Native XDP on a veth keeps its peer from sending super-packets, which no NIC's does: without it, all offloads are on.
    case: 'tcp_stream',
    unit: 'Gbit/s',
    wanted: 0.98,
    names: STREAMS,
    xdp: [WITHOUT, WITH, WHOLE],
    exhausted: 'two CPUs, one for each end, and the node on both',
  },
  {
    case: 'http_conns',
    unit: 'connections/s',
    wanted: 1.1,
    names: ['http_conns'],
    xdp: [WHOLE, WITH, WITHOUT],
    exhausted: 'one CPU, with client and server',
  },
];

function chainCases(samples: readonly Sample[]): ChainCase[] {
  return CASES.map(({ names, xdp, ...rest }) => {
    const details = xdp.flatMap((each) => names.map((name) => compare(name, each, samples)));
    const worst = details.slice(0, names.length).reduce((one, other) => (other.ratio < one.ratio ? other : one));
    const { ours, nftables, ratio, name } = worst;
    return { ...rest, ours: ours.median, nftables: nftables.median, ratio, of: name, details };
  });
}

async function chain(rounds: number): Promise<Sample[]> {
  endOldWorlds();
  const world = worldOf(process.pid);
  const place = mkdtempSync(join(tmpdir(), 'fairlead-bench-'));
  const stop = new AbortController();
  const onSignal = (): void => stop.abort();
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, onSignal);
  try {
    const server = join(place, 'http');
    execFileSync('gcc', ['-O2', '-o', server, fileURLToPath(new URL('../../bench/http.c', import.meta.url))]);
    makeWorld(world);
    const script = fileURLToPath(new URL('./nat-chain.js', import.meta.url));
    const self = [process.execPath, '--enable-source-maps', script, String(process.pid), String(rounds), server];
    // Others on the machine shall not be what is measured; the load is bounded.
    const child = spawn('nice', ['-n', '-15', 'ip', 'netns', 'exec', world.client, ...self], {
      stdio: ['pipe', 'pipe', 'inherit'],
      signal: stop.signal,
    });
    child.on('error', () => undefined); // an abort; the status tells
    let output = '';
    child.stdout.on('data', (part: Buffer) => {
      output += part.toString();
    });
    const [status] = await once(child, 'close');
    if (status !== 0) throw new Error('the bench of NAT over veth failed');
    return JSON.parse(output);
  } finally {
    endWorld(world);
    rmSync(place, { recursive: true, force: true });
  }
}

/** Throws when a packet is lost or not translated. */
export async function natBench(rounds: number, log: (line: string) => void): Promise<NatResult> {
  const micro = await natMicro(rounds, log);
  const memoryBytesPerMillion = await memoryPerMillion();
  return { cases: [...chainCases(await chain(rounds)), ...micro], memoryBytesPerMillion };
}
