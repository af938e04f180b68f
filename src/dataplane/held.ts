// SPDX-License-Identifier: Apache-2.0
// What is pinned beside a pinned link, or for a filter: its program, and what that does. The kernel hands out a program by its number to CAP_SYS_ADMIN alone, and
// the daemon has to do without.
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readlinkSync, renameSync, rmSync, symlinkSync } from 'node:fs';
import { dirname } from 'node:path';
import { type NativeLink, type NativeObject, type NativeProgram, native } from './native.js';
import { pinOver } from './pins.js';

const DEVICE_MAP = 14; // BPF_MAP_TYPE_DEVMAP

/** What a program is attached by: a link, or a filter. A filter has no pin; a name below `links` that is free stands for it. */
export type Holder = Pick<NativeLink, 'programId' | 'program' | 'update'>;

/** The pin of a link's program: below `programs` as the link is below `links`. */
const pinOf = (linkPin: string): string => linkPin.replace(/\/links\/((?:(?:xdp|tc)\/)?[^/]+)$/, '/programs/$1');
const nextOf = (linkPin: string): string => `${pinOf(linkPin)}_next`;
const workOf = (linkPin: string): string => `${pinOf(linkPin)}_work`; // a symbolic link to nowhere: bpffs has no files

/** The program on a pinned link, by a handle of its own. Throws EPERM without CAP_SYS_ADMIN when another than the one pinned for it is there. */
export function programOn(link: Pick<Holder, 'programId' | 'program'>, linkPin: string): NativeProgram {
  for (const pin of [pinOf(linkPin), nextOf(linkPin)]) {
    if (!existsSync(pin)) continue;
    const program = native.openProgram(pin);
    if (program.id === link.programId) return program;
    program.close();
  }
  return link.program();
}

/** Pins a program that is about to take the place of the link's: whichever of both is there afterwards can be opened. */
export function pinNext(program: NativeProgram, linkPin: string): void {
  mkdirSync(dirname(pinOf(linkPin)), { recursive: true });
  rmSync(nextOf(linkPin), { force: true });
  program.pin(nextOf(linkPin));
}

/** It has taken that place. */
export function keepNext(linkPin: string): void {
  renameSync(nextOf(linkPin), pinOf(linkPin));
}

/** It has not. */
export function dropNext(linkPin: string): void {
  rmSync(nextOf(linkPin), { force: true });
}

/** Pins the program of a new link. */
export function pinProgram(program: NativeProgram, linkPin: string): void {
  mkdirSync(dirname(pinOf(linkPin)), { recursive: true });
  pinOver(pinOf(linkPin), program);
}

/** Takes away what is beside a link's pin. */
export function forget(linkPin: string): void {
  for (const path of [pinOf(linkPin), nextOf(linkPin), workOf(linkPin)]) rmSync(path, { force: true });
}

/** What a program of a loaded object does: its code, its constants, and the maps it works on. Its device map is its own, and filled for it. */
function work(program: NativeProgram, object: NativeObject): string {
  const used = new Set(program.mapIds());
  const lines = object.maps.flatMap((name) => {
    const map = object.map(name);
    try {
      if (!used.has(map.info.id)) return [];
      if (map.info.name.endsWith('.rodata')) return [Buffer.from(map.get(new Uint8Array(4)) ?? []).toString('hex')];
      return [map.info.type === DEVICE_MAP ? 'devices' : `${map.info.id}`];
    } finally {
      map.close();
    }
  });
  const all = [program.name, program.tag, ...lines.sort()].join(' ');
  return createHash('sha256').update(all).digest('hex'); // there is a key among the constants
}

/** Writes down what the link's program does: `program`, or one that does the same. */
export function noteWork(link: Holder, linkPin: string, program: NativeProgram, object: NativeObject): void {
  const fresh = `${workOf(linkPin)}_new`;
  rmSync(fresh, { force: true });
  symlinkSync(`${link.programId}-${work(program, object)}`, fresh);
  renameSync(fresh, workOf(linkPin));
}

/** Whether the link's program does what `program` would, on the same maps: then it need not be replaced. False when that is not known. */
export function isSame(link: Holder, linkPin: string, program: NativeProgram, object: NativeObject): boolean {
  try {
    return readlinkSync(workOf(linkPin)) === `${link.programId}-${work(program, object)}`;
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return false;
    throw error;
  }
}
