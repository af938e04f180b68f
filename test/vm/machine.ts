// SPDX-License-Identifier: Apache-2.0
// Debian's kernel in qemu: frames go in, what it made of them comes out over the serial line.
import { execFile, execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
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
export const bootMachine = (batches: readonly Batch[], objects: readonly ObjectToLoad[]): Promise<string[]> =>
  boot((directory) => initrd(directory, batches, objects), 1024);

/** Packages that the guest's part of the daemon is made of. */
const PACKAGES = ['ip-num'];

/** The files below a folder of this repository whose names end so, at the same place below `app`. */
const below = (folder: string, ends: RegExp): [string, Uint8Array][] =>
  readdirSync(here(folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && ends.test(entry.name))
    .map((entry) => join(entry.parentPath, entry.name))
    .map((path) => [`app/${relative(here('.'), path)}`, readFileSync(path)]);

/** Boots and runs test/vm/NAME.ts in node, with what it needs of src/; its lines. Throws when it did not get to the end. */
export function bootGuest(name: string): Promise<string[]> {
  const readModule = (module: string): Buffer => readFileSync(here(`build/vm/modules/${module}.ko`));
  const order = moduleOrder(['veth', 'sch_ingress', 'cls_bpf'], readModule);
  return boot(
    (directory) =>
      archive(
        new Map<string, Uint8Array>([
          ['init', readFileSync(here('test/vm/guest-init.sh'))],
          ['guest', Buffer.from(`/app/dist/test/vm/${name}.js\n`)],
          ...['/bin/sh', '/bin/ip', '/bin/mount', '/bin/mkdir'].flatMap((path) => withLibraries(path.slice(1), path)),
          ...withLibraries('bin/node', process.execPath),
          ...withLibraries('bin/addon', here('native/build/Release/fairlead.node')),
          ['bin/peer', compiled(directory, 'peer')],
          ['bin/talk', compiled(directory, 'talk')],
          ['modules/order', Buffer.from(order.map((module) => `${module}\n`).join(''))],
          ...order.map((module): [string, Uint8Array] => [`modules/${module}.ko`, readModule(module)]),
          ['app/package.json', readFileSync(here('package.json'))],
          ['app/native/build/Release/fairlead.node', readFileSync(here('native/build/Release/fairlead.node'))],
          ...below('dist/src', /\.js$/),
          ...below('dist/test/vm', /\.js$/),
          ...below('build/bpf', /\.o$/),
          ...PACKAGES.flatMap((each) => below(`node_modules/${each}`, /\.(js|json|node)$/)),
        ]),
      ),
    2048,
  );
}

async function boot(make: (directory: string) => Buffer, megabytes: number): Promise<string[]> {
  const directory = mkdtempSync(join(tmpdir(), 'fairlead-vm-'));
  try {
    const image = join(directory, 'initrd');
    writeFileSync(image, make(directory));
    const devices = ['-nodefaults', '-no-user-config', '-display', 'none', '-serial', 'stdio', '-no-reboot'];
    const kernel = ['-kernel', KERNEL, '-initrd', image, '-append', 'console=ttyS0 loglevel=1 panic=-1'];
    // One thread: with more, the kernel's patching of its own text has been seen to go wrong under emulation.
    const { stdout } = await promisify(execFile)(
      QEMU,
      ['-accel', 'tcg,thread=single', '-smp', '1', '-m', `${megabytes}`, ...devices, ...kernel],
      { timeout: DEADLINE_MS, maxBuffer: 1 << 24 },
    );
    const lines = stdout.split(/\r?\n/);
    if (!lines.includes('done')) throw new Error(`the machine did not get to the end:\n${stdout}`);
    return lines;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}
