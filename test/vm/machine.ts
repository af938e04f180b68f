// SPDX-License-Identifier: Apache-2.0
// Debian's kernel in qemu: frames go in, what it made of them comes out over the serial line.
import { execFile, execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { objectPath } from '../../src/dataplane/program.js';
import { archive, moduleOrder, withLibraries } from './initrd.js';

const here = (path: string): string => fileURLToPath(new URL(`../../../${path}`, import.meta.url));
const QEMU = '/usr/bin/qemu-system-x86_64';
const KERNEL = here('build/vm/vmlinuz');
const MODULES = ['veth', 'ipip', 'sit', 'ip6_tunnel', 'fou'];
/** Far beyond the 10 s it takes: this machine may be busy with other tests. */
const DEADLINE_MS = 150_000;

/** Why there is no machine to be had; false when there is. */
export const MISSING: string | false = !existsSync(QEMU)
  ? 'qemu-system-x86 is missing'
  : !existsSync(KERNEL) && 'the kernel is missing: scripts/vm-kernel.sh found none';

/** Frames sent in one go, and how many answers they are to give. */
export interface Batch {
  readonly name: string;
  readonly frames: readonly Buffer[];
  readonly answers: number;
}

/** A BPF object of build/bpf, and variables of its .rodata. */
export interface ObjectToLoad {
  readonly name: string;
  readonly variables: Readonly<Record<string, number>>;
}

function compiled(directory: string, name: string, libraries: readonly string[] = []): Buffer {
  const program = join(directory, name);
  execFileSync('gcc', ['-static', '-O2', '-Wall', '-Werror', '-o', program, here(`test/vm/${name}.c`), ...libraries]);
  return readFileSync(program);
}

/** Frames as peer.c reads them. */
const framesFile = (frames: readonly Buffer[]): Buffer =>
  Buffer.concat(frames.flatMap((frame) => [Buffer.of(frame.length >> 8, frame.length & 0xff), frame]));

function initrd(directory: string, batches: readonly Batch[], objects: readonly ObjectToLoad[]): Buffer {
  const readModule = (name: string): Buffer => readFileSync(here(`build/vm/modules/${name}.ko`));
  const order = moduleOrder(MODULES, readModule);
  const lines = (all: readonly string[]): Buffer => Buffer.from(all.map((line) => `${line}\n`).join(''));
  return archive(
    new Map<string, Uint8Array>([
      ['init', readFileSync(here('test/vm/init.sh'))],
      ['network', readFileSync(here('test/vm/network'))],
      ...withLibraries('bin/sh', '/bin/sh'),
      ...withLibraries('bin/ip', '/bin/ip'),
      ['bin/peer', compiled(directory, 'peer')],
      ['bin/load', compiled(directory, 'load', ['-lbpf', '-lelf', '-lz'])],
      ['modules/order', lines(order)],
      ...order.map((name): [string, Uint8Array] => [`modules/${name}.ko`, readModule(name)]),
      ['frames/runs', lines(batches.map(({ name, answers }) => `${name} ${answers}`))],
      ...batches.map(({ name, frames }): [string, Uint8Array] => [`frames/${name}`, framesFile(frames)]),
      [
        'objects',
        lines(
          objects.map(({ name, variables }) =>
            [name, ...Object.entries(variables).map(([variable, value]) => `${variable}=${value}`)].join(' '),
          ),
        ),
      ],
      ...objects.map(({ name }): [string, Uint8Array] => [name, readFileSync(objectPath(name))]),
    ]),
  );
}

/** Boots, sends each batch, loads each object; the lines of peer.c and load.c. Throws when it did not get to the end. */
export async function bootMachine(batches: readonly Batch[], objects: readonly ObjectToLoad[]): Promise<string[]> {
  const directory = mkdtempSync(join(tmpdir(), 'fairlead-vm-'));
  try {
    const image = join(directory, 'initrd');
    writeFileSync(image, initrd(directory, batches, objects));
    const devices = ['-nodefaults', '-no-user-config', '-display', 'none', '-serial', 'stdio', '-no-reboot'];
    const kernel = ['-kernel', KERNEL, '-initrd', image, '-append', 'console=ttyS0 loglevel=1 panic=-1'];
    // One thread: with more, the kernel's patching of its own text has been seen to go wrong under emulation.
    const { stdout } = await promisify(execFile)(
      QEMU,
      ['-accel', 'tcg,thread=single', '-smp', '1', '-m', '1024', ...devices, ...kernel],
      { timeout: DEADLINE_MS, maxBuffer: 1 << 24 },
    );
    const lines = stdout.split(/\r?\n/);
    if (!lines.includes('done')) throw new Error(`the machine did not get to the end:\n${stdout}`);
    return lines;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}
