// SPDX-License-Identifier: Apache-2.0
// An initial file system for a kernel, in memory: the same files give the same bytes.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';

const DIRECTORY = 0o040755;
const FILE = 0o100755;

/** One entry of the "newc" format (Documentation/driver-api/early-userspace/buffer-format.rst of the kernel). */
function entry(name: string, mode: number, data: Uint8Array, inode: number): Buffer {
  const fields = [inode, mode, 0, 0, 1, 0, data.length, 0, 0, 0, 0, name.length + 1, 0];
  const head = `070701${fields.map((field) => field.toString(16).padStart(8, '0')).join('')}${name}\0`;
  const pad = (length: number): Buffer => Buffer.alloc(-length & 3);
  return Buffer.concat([Buffer.from(head), pad(head.length), data, pad(data.length)]);
}

/** An archive of files by path, "bin/sh"; their directories come before them. */
export function archive(files: ReadonlyMap<string, Uint8Array>): Buffer {
  const directories = new Set<string>(['proc', 'sys']);
  for (const path of files.keys())
    for (let at = path.indexOf('/'); at > 0; at = path.indexOf('/', at + 1)) directories.add(path.slice(0, at));
  const entries: [string, number, Uint8Array][] = [
    ...[...directories].sort().map((path): [string, number, Uint8Array] => [path, DIRECTORY, new Uint8Array()]),
    ...[...files].map(([path, data]): [string, number, Uint8Array] => [path, FILE, data]),
  ];
  const body = entries.map(([path, mode, data], at) => entry(path, mode, data, at + 1));
  return Buffer.concat([...body, entry('TRAILER!!!', 0, new Uint8Array(), 0)]);
}

/** A program of this machine at `path`, and the libraries it is linked with at their own paths. */
export function withLibraries(path: string, program: string): [string, Uint8Array][] {
  const libraries = execFileSync('ldd', [program], { encoding: 'utf8' }).matchAll(/(\/\S+) \(0x/g);
  return [
    [path, readFileSync(program)],
    ...[...libraries].map(([, library = '']): [string, Uint8Array] => [library.slice(1), readFileSync(library)]),
  ];
}

/** These modules and what they need, in the order to load them. `read` gives a module's file. */
export function moduleOrder(wanted: readonly string[], read: (name: string) => Buffer): string[] {
  const order = new Set<string>();
  const add = (name: string): void => {
    const needs = /\0depends=([^\0]*)\0/.exec(read(name).toString('latin1'))?.[1] ?? '';
    for (const other of needs.split(',').filter((one) => one !== '')) add(other);
    order.add(name);
  };
  for (const name of wanted) add(name);
  return [...order];
}
