// SPDX-License-Identifier: Apache-2.0
// The traffic of the bench of NAT; runs as a process in the client's namespace.
import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { get } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { native } from '../src/dataplane/native.js';
import { objectPath } from '../src/dataplane/program.js';
import { DEFAULT_ROOM, HTTP_PORT, openNatNode, openNatTools, STREAM_PORT, UDP, VIP } from './nat-path.js';
import { type Mode, standIn, type World, within, worldOf } from './nat-world.js';

/** What one run of a case gave. */
export interface Sample {
  readonly name: string; // of the measurement
  readonly mode: Mode;
  readonly xdp: boolean; // as of standIn
  readonly figure: number;
  readonly cpuSecondsPerGigabyte?: number;
}

export const STREAMS = ['tcp_1_up', 'tcp_4_up', 'tcp_1_down', 'tcp_4_down'];
const FLOWS = 50_000;
const PACKETS = 1 << 20;
const SECONDS = '2s';
const XDP_DROP = 1;
/** The last CPU: the first one has most of the interrupts. */
const CPU = String(native.possibleCpus() - 1);

/** CPU seconds all CPUs have been busy. */
function busySeconds(): number {
  const [user = 0, nice = 0, system = 0, , , irq = 0, soft = 0] = (
    readFileSync('/proc/stat', 'utf8').split('\n')[0] ?? ''
  )
    .split(/\s+/)
    .slice(1)
    .map(Number);
  return (user + nice + system + irq + soft) / 100;
}

async function run(command: string, args: readonly string[]): Promise<string> {
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'inherit'], timeout: 60_000 });
  let output = '';
  child.stdout.on('data', (part: Buffer) => {
    output += part.toString();
  });
  const [status] = await once(child, 'close');
  assert.equal(status, 0, `${command} ${args.join(' ')}: ${output}`);
  return output;
}

/** A server in the backends' namespace; ready when it says something. */
async function serve(world: World, command: readonly string[]): Promise<ChildProcess> {
  const child = spawn('ip', ['netns', 'exec', world.backend, ...command], { stdio: ['ignore', 'pipe', 'inherit'] });
  await once(child.stdout, 'data');
  child.stdout.resume();
  return child;
}

type Figure = Omit<Sample, 'name' | 'mode' | 'xdp'>;

interface Load {
  /** What is compared: both modes, with XDP or without. */
  readonly ways: readonly (readonly [Mode, boolean])[];
  readonly kinds: readonly string[];
  measure(mode: Mode, kind: string): Promise<Figure>;
  close(): void;
}

/** Ours as it is, and nftables alone. */
const PLAIN = [
  ['ours', true],
  ['nftables', false],
] as const;
/** A veth with XDP in native mode copies every packet and has its peer send no super-packets: both modes, with that and without. */
const ALL = [['nftables', true], ...PLAIN, ['ours', false]] as const;

/** Mpps of 64-byte packets over so many flows, from the generator to the sink, all on this process's CPU. */
async function udp(world: World): Promise<Load> {
  execFileSync('taskset', ['-acp', CPU, String(process.pid)]);
  const tools = await openNatTools();
  const sink = await native.attachXdp(tools.object.program('nat_sink'), 'b0', `/run/netns/${world.backend}`, 'native');
  const generate = tools.object.program('nat_generate');
  const context = new Uint8Array(Uint32Array.of(0, 64, 0, native.interfaceIndex('c0'), 0, 0).buffer);
  async function send(mode: Mode, packets: number, order: 'as they begin' | 'scattered'): Promise<number> {
    const { durationNs } = await generate.runMany(tools.begin(UDP, FLOWS, order), context, packets, true);
    await sleep(20); // the last ones may still be on their way
    const { actions, mistakes } = tools.end();
    assert.equal(actions[XDP_DROP], packets, `udp64, ${mode}: all arrive`);
    assert.equal(mistakes, 0, `udp64, ${mode}: all are translated`);
    return 1000 / durationNs;
  }
  return {
    ways: PLAIN,
    kinds: ['udp64'],
    async measure(mode) {
      await send(mode, FLOWS, 'as they begin');
      await send(mode, FLOWS, 'scattered');
      return { figure: await send(mode, PACKETS, 'scattered') };
    },
    close() {
      sink.close();
      tools.object.close();
    },
  };
}

/** Gbit/s of one TCP connection and of four, to the backend and from it, with both ends and the node on one CPU. */
async function streams(world: World): Promise<Load> {
  const server = await serve(world, ['iperf3', '--server', '--forceflush', '--port', String(STREAM_PORT)]);
  const ends = ['--client', VIP, '--port', String(STREAM_PORT), '--affinity', `${CPU},${CPU}`, '--time', '1', '--json'];
  return {
    ways: ALL,
    kinds: STREAMS,
    async measure(mode, kind) {
      const [, count = '1', direction] = kind.split('_');
      const before = busySeconds();
      const more = ['--parallel', count, ...(direction === 'down' ? ['--reverse'] : [])];
      const { end } = JSON.parse(await run('iperf3', [...ends, ...more]));
      const busy = busySeconds() - before;
      const { bits_per_second: rate, bytes } = end.sum_received;
      assert.ok(bytes > 0, `tcp_stream, ${mode}: bytes arrive`);
      return { figure: rate / 1e9, cpuSecondsPerGigabyte: busy / (bytes / 1e9) };
    },
    close: () => void server.kill('SIGKILL'),
  };
}

async function sourceSeen(): Promise<string> {
  const request = get({ host: VIP, port: HTTP_PORT, path: '/peer', agent: false, timeout: 5000 });
  const [answer] = await once(request, 'response');
  let body = '';
  for await (const part of answer) body += part;
  return body.replaceAll('\0', ' ').trim();
}

/** HTTP requests per second, each over a connection of its own, with client, node and server on one CPU. */
async function http(world: World, server: string): Promise<Load> {
  const child = await serve(world, ['taskset', '-c', CPU, server, String(HTTP_PORT)]);
  const load = ['wrk', '--threads', '1', '--connections', '64', '--header', 'Connection: close', `http://${VIP}/`];
  return {
    ways: ALL,
    kinds: ['http_conns'],
    async measure(mode) {
      const seen = await sourceSeen();
      assert.match(seen, /^10\.9\.1\.(\d|1[0-5])$/, `http_conns, ${mode}: the server sees a translated source`);
      const output = await run('taskset', ['-c', CPU, ...load, '--duration', SECONDS]);
      assert.doesNotMatch(output, /Non-2xx|Socket errors/, `http_conns, ${mode}`);
      return { figure: Number(/Requests\/sec:\s+([\d.]+)/.exec(output)?.[1]) };
    },
    close: () => void child.kill('SIGKILL'),
  };
}

/** All samples, way by way in each round. */
async function inside(world: World, rounds: number, server: string): Promise<Sample[]> {
  const index = Number(/^(\d+):/.exec(within(world.node, 'ip', ['-o', 'link', 'show', 'n1']))?.[1]);
  const path = await openNatNode(DEFAULT_ROOM, index);
  const passing = native.openObject(objectPath('xdp_pass'));
  await passing.load();
  const programs = { path, pass: passing.program('xdp_pass') };
  path.sweep();
  const samples: Sample[] = [];
  for (const open of [() => udp(world), () => streams(world), () => http(world, server)]) {
    const load = await open();
    for (let round = 0; round < rounds; round++) {
      for (const name of load.kinds) {
        for (const [mode, xdp] of round % 2 === 0 ? load.ways : [...load.ways].reverse()) {
          const end = await standIn(mode, xdp, world, programs);
          const figures = await load.measure(mode, name);
          end();
          samples.push({ name, mode, xdp, ...figures });
          const what = `${name}, ${mode}${xdp ? ' with XDP' : ''}: ${figures.figure.toPrecision(4)}`;
          process.stderr.write(`round ${round + 1} of ${rounds}: ${what}\n`);
        }
      }
    }
    load.close();
  }
  for (const service of [1, 2, 3]) {
    const { forwarded, returned, begun, ...dropped } = path.outcomes(service);
    assert.deepEqual(dropped, {}, `tc_nat drops nothing of service ${service}`);
  }
  path.close();
  return samples;
}

const [, file, pid, rounds, server] = process.argv;
if (file?.endsWith('nat-chain.js')) {
  process.stdin.on('end', () => process.exit(1)).resume(); // whoever started it is gone
  const samples = await inside(worldOf(Number(pid)), Number(rounds), server ?? '');
  process.stdout.write(JSON.stringify(samples));
  process.exit(0);
}
