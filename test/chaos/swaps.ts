// SPDX-License-Identifier: Apache-2.0
// Programs that take each other's place under live frames: in a network namespace of its own, a generator, the balancer over veth, a sink that
// counts. Every frame must come out, encapsulated.
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { benchObject, FRAME_SIZE, frameOf, openBalancer } from '../../bench/micro.js';
import { BenchState } from '../../bench/wrapper.gen.js';
import { native } from '../../src/dataplane/native.js';
import { loadXdpLb } from '../../src/dataplane/program.js';
import { TEST_CONFIG } from '../support/packet-path.js';
import { packet } from '../support/packets.js';

export interface SwapResult {
  readonly frames: number;
  readonly lost: number; // without `refused`
  /** Frames that found a queue of the veth full, on a machine that has other things to do: no program saw them. */
  readonly refused: number;
  readonly wrong: number; // of another size than an encapsulated frame
  readonly swaps: number;
  readonly seconds: number;
}

const PACKETS = 1 << 20;
const OUTER = 20;
const DROP = 1;
const KEY = new Uint8Array(4);
const ROOM = 131_072;
const SWAP_MS = 10;

function refusedByQueues(): number {
  const counts = ['gen', 'lb'].map((name) => execFileSync('ethtool', ['-S', name], { encoding: 'utf8' })).join('');
  const fields = [...counts.matchAll(/xdp_(?:xmit|tx)_errors: (\d+)/g)];
  assert.ok(fields.length > 0);
  return fields.reduce((sum, [, count]) => sum + Number(count), 0);
}

async function inside(frames: number, swaps: number): Promise<SwapResult> {
  for (const line of [
    'link add gen type veth peer name lb',
    'link set gen addrgenmode none up',
    'link set lb addrgenmode none up',
  ])
    execFileSync('ip', line.split(' '));
  const object = native.openObject(benchObject('wrapper'));
  await object.load();
  const [generate, sink, state] = [object.program('generate'), object.program('sink'), object.map('bench')];
  const spec = {
    from: '10.1.0.2',
    to: '192.0.2.10',
    fromPort: 40000,
    toPort: 80,
    protocol: 'tcp',
    payload: 26,
  } as const;
  const test = { name: 'swaps', flows: 4096, spec, programs: ['xdp_lb'], action: 'tx' } as const;
  const path = await openBalancer(test, ROOM, 'lb');
  // The same tables, and all features: what a service that wants more brings about.
  const wider = await loadXdpLb(
    { ...TEST_CONFIG, flowsPerCpu: ROOM, newFlowsPerSecond: 1e9, features: 0xffff },
    0,
    path.maps.handle,
  );
  const programs = [path.program, wider.program('xdp_lb')];
  const end = await native.attachXdp(sink, 'gen', null, 'native');
  const balancer = await native.attachXdp(path.program, 'lb', null, 'native');
  const context = new Uint8Array(Uint32Array.of(0, FRAME_SIZE, 0, native.interfaceIndex('gen'), 0, 0).buffer);
  const frame = frameOf(test, 'xdp_lb');
  assert.deepEqual(frame, packet(spec));

  const earlier = refusedByQueues();
  const started = performance.now();
  let [sent, arrived, wrong, swapped] = [0, 0, 0, 0];
  while (sent < frames || swapped < swaps) {
    assert.ok(sent < 100 * frames, 'swaps fall into the load');
    const zero = { counter: 0n, actions: new Uint8Array(64), sizeSum: 0n, restoreFailures: 0n, ipv6: 0 };
    state.set(KEY, BenchState.encode({ ...zero, template: frame, frameSize: FRAME_SIZE, flowMask: 4095 }), 0);
    let running = true;
    const load = generate.runMany(frame, context, PACKETS, true).finally(() => {
      running = false;
    });
    sent += PACKETS;
    while (running) {
      const [from, to] = [programs[swapped % 2], programs[(swapped + 1) % 2]];
      assert.ok(from && to);
      await balancer.update(to, from);
      swapped++;
      await sleep(SWAP_MS);
    }
    await load;
    await sleep(20);
    const after = BenchState.decode(state.get(KEY) ?? assert.fail());
    const count = Number(new BigUint64Array(after.actions.buffer)[DROP]);
    arrived += count;
    wrong += Math.abs(Number(after.sizeSum) - count * (FRAME_SIZE + OUTER)) / OUTER;
  }
  const refused = refusedByQueues() - earlier;
  for (const link of [end, balancer]) link.close();
  const seconds = (performance.now() - started) / 1000;
  return { frames: sent, lost: sent - arrived - refused, refused, wrong, swaps: swapped, seconds };
}

/** At least so many frames and, while they run, so many swaps. */
export function runSwaps(frames: number, swaps: number): SwapResult {
  const self = [
    process.execPath,
    '--enable-source-maps',
    fileURLToPath(import.meta.url),
    String(frames),
    String(swaps),
  ];
  const child = spawnSync('unshare', ['-n', ...self], { stdio: ['ignore', 'pipe', 'inherit'] });
  if (child.status !== 0) throw new Error('the swaps under live frames could not be run');
  return JSON.parse(child.stdout.toString());
}

const [, file, frames, swaps] = process.argv;
if (file?.endsWith('swaps.js')) process.stdout.write(JSON.stringify(await inside(Number(frames), Number(swaps))));
