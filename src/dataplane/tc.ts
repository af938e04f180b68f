// SPDX-License-Identifier: Apache-2.0
// Programs of type tc onto interfaces: by tcx, or where the kernel has none (before Linux 6.6) as filters of clsact.
import { existsSync, mkdirSync, readdirSync, rmdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { FairleadError } from '../model/errors.js';
import { isNative, type Swaps } from './attach.js';
import { forget, type Holder, isSame, noteWork, pinProgram, programOn } from './held.js';
import type { TcChoice, TcMode } from './interfaces.js';
import { type NativeObject, type NativeProgram, native } from './native.js';
import { pinOver } from './pins.js';

type Direction = 'ingress' | 'egress';

/** A program's place, and what of it is below `root` on bpffs. */
export interface TcPlace {
  readonly interface: string;
  readonly direction: Direction;
  readonly root: string;
  /** Of the link, with tcx. */
  readonly pin: string;
}

/** By program: which of the filters is its. Others of ours may be on the same interface. */
const HANDLES: Readonly<Record<string, number>> = { tc_nat: 0xfa1, tc_nat_out: 0xfa1, tc_agent: 0xfa2 };

/**
 * A filter outlives everything but its interface, so only that there is one is noted, in the name of a directory below `filters`:
 * DIRECTION-INDEX-PROGRAM-INTERFACE, and `qdiscs/INDEX` where the clsact qdisc is of our making. Dots as in pins.ts.
 */
interface Note {
  readonly path: string;
  readonly direction: Direction;
  readonly index: number;
  readonly program: string;
  readonly name: string; // the interface had when it was attached
}

/** The filters noted below a root. */
function notesBelow(root: string): Note[] {
  const directory = join(root, 'filters');
  return (existsSync(directory) ? readdirSync(directory) : []).flatMap((note) => {
    const [, direction, index, program = '', name = ''] = /^(ingress|egress)-(\d+)-(\w+)-(.+)$/.exec(note) ?? [];
    if (direction === undefined) return [];
    const interfaceName = name.replaceAll(':', '.');
    const path = join(directory, note);
    return [{ path, direction: direction as Direction, index: Number(index), program, name: interfaceName }];
  });
}

const qdiscNote = (root: string, index: number): string => join(root, 'qdiscs', `${index}`);

/** Stands for the pin of the link that a filter has not (held.ts). */
const filterPin = (root: string, note: string): string => join(root, 'links', note.slice(note.lastIndexOf('/') + 1));

/** The program of a filter, null without one. */
function filterProgram(index: number, direction: Direction, name: string, pin: string): NativeProgram | null {
  const handle = HANDLES[name] ?? 0;
  const programId = native.clsactProgramId(index, direction, handle);
  if (programId === 0) return null;
  const gone = () => new FairleadError('conflict', `open the program of a filter: somebody has taken it off`);
  const program = (): NativeProgram => {
    const found = native.clsactProgram(index, direction, handle);
    if (found === null) throw gone();
    return found;
  };
  return programOn({ programId, program }, pin);
}

/** The program of our filter. Throws 'conflict' when another one's has its place. */
function ownFilter(index: number, direction: Direction, name: string, pin: string): NativeProgram | null {
  const found = filterProgram(index, direction, name, pin);
  if (found === null || found.name === name) return found;
  found.close();
  throw new FairleadError(
    'conflict',
    `attach ${name} as a filter of clsact: its place has the program "${found.name}", which is not ours`,
  );
}

/**
 * Has the program at its place: one of its name that does the same stays, another one is replaced at once. In a mode that is not the wanted one
 * it is taken off after the new one is there. Resolves with the mode; what is in `open` is to be closed after `swaps` are done.
 * Rejects with the addon's error, and as `swaps` does.
 */
export async function placeProgram(
  program: NativeProgram,
  object: NativeObject,
  place: TcPlace,
  wanted: TcChoice,
  swaps: Swaps,
  open: { close(): void }[],
): Promise<TcMode> {
  const index = native.interfaceIndex(place.interface);
  if (wanted !== 'clsact' && (await placeLink(program, object, place, index, wanted, swaps, open))) {
    dropFilters(
      place.root,
      (note) => note.direction === place.direction && note.index === index && note.program === program.name,
    );
    return 'tcx';
  }
  await placeFilter(program, object, place, swaps);
  if (existsSync(place.pin)) dropLink(place.pin);
  return 'clsact';
}

/** What the kernel says when it has no tcx. */
export const isNoTcx = (error: unknown): boolean => isNative(error) && error.code === 'EINVAL';

/** False: the kernel has no tcx, and it may be something else. */
async function placeLink(
  program: NativeProgram,
  object: NativeObject,
  { interface: name, direction, pin }: TcPlace,
  index: number,
  wanted: TcChoice,
  swaps: Swaps,
  open: { close(): void }[],
): Promise<boolean> {
  const old = existsSync(pin) ? native.openLink(pin) : null;
  if (old) open.push(old);
  if (old && index !== 0 && old.interfaceIndex === index) {
    if (isSame(old, pin, program, object)) return true;
    await swaps.swap(old, pin, program, name);
    noteWork(old, pin, program, object);
    return true;
  }
  try {
    const link = await native.attachTcx(program, name, null, direction);
    open.push(link);
    pinOver(pin, link);
    pinProgram(program, pin);
    noteWork(link, pin, program, object);
    return true;
  } catch (error) {
    if (wanted === 'auto' && isNoTcx(error)) return false;
    throw error;
  }
}

async function placeFilter(program: NativeProgram, object: NativeObject, place: TcPlace, swaps: Swaps): Promise<void> {
  const filter = openFilter(program, place);
  if (filter.adopted) {
    if (isSame(filter, filter.standIn, program, object)) return;
    await swaps.swap(filter, filter.standIn, program, place.interface);
  }
  noteWork(filter, filter.standIn, program, object);
}

/** A program in clsact. */
export interface Filter extends Holder {
  /** It was there; false: it has been made, with the program. */
  readonly adopted: boolean;
  /** For the pin it has not. */
  readonly standIn: string;
  /** Takes off one that has been made. */
  undo(): void;
}

/** Our filter at this place, made where there is none. Throws 'invalid' without the interface, 'conflict' when another's program is there, and the addon's error. */
export function openFilter(program: NativeProgram, place: Pick<TcPlace, 'interface' | 'direction' | 'root'>): Filter {
  const { interface: name, direction, root } = place;
  const handle = HANDLES[program.name] ?? 0;
  const index = native.interfaceIndex(name);
  if (index === 0)
    throw new FairleadError('invalid', `attach ${program.name} to "${name}": no such interface in this namespace`);
  const path = join(root, 'filters', `${direction}-${index}-${program.name}-${name.replaceAll('.', ':')}`);
  mkdirSync(path, { recursive: true });
  const standIn = filterPin(root, path);
  const old = ownFilter(index, direction, program.name, standIn);
  old?.close();
  if (old === null) {
    if (native.attachClsact(program, index, direction, handle, false))
      mkdirSync(qdiscNote(root, index), { recursive: true });
    pinProgram(program, standIn);
  }
  return {
    adopted: old !== null,
    standIn,
    get programId() {
      return native.clsactProgramId(index, direction, handle);
    },
    program() {
      const now = native.clsactProgram(index, direction, handle);
      if (now === null) throw new FairleadError('conflict', `swap the program of "${name}": somebody has taken it off`);
      return now;
    },
    update: async (next) => void native.attachClsact(next, index, direction, handle, true),
    undo: () => void (old ?? dropFilters(root, (note) => note.path === path)),
  };
}

/** Takes a link off its interface, and its pin away. */
export function dropLink(pin: string): void {
  const link = native.openLink(pin);
  if (link.interfaceIndex !== 0) link.detach();
  link.close();
  rmSync(pin);
  forget(pin);
}

/**
 * Takes our filters below a root off, all or those that `which` names, and the clsact qdisc where it was made for them and nothing else is in
 * it. By interface those that were there.
 */
export function dropFilters(root: string, which: (note: Note) => boolean = () => true): string[] {
  return notesBelow(root)
    .filter(which)
    .flatMap(({ path, direction, index, program, name }) => {
      const standIn = filterPin(root, path);
      const found = filterProgram(index, direction, program, standIn);
      const ours = found?.name === program;
      found?.close();
      if (ours) native.detachClsact(index, direction, HANDLES[program] ?? 0);
      forget(standIn);
      rmdirSync(path);
      if (existsSync(qdiscNote(root, index)) && native.removeClsact(index)) rmdirSync(qdiscNote(root, index));
      return ours ? [name] : [];
    });
}
