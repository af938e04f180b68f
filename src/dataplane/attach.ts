// SPDX-License-Identifier: Apache-2.0
// Programs onto interfaces, and new ones in the places of old ones.
import { rmSync } from 'node:fs';
import { FairleadError, messageOf } from '../model/errors.js';
import type { InterfaceConfig, XdpMode } from './dataplane.js';
import { type NativeFailure, type NativeLink, type NativeProgram, native } from './native.js';
import type { PinnedLink } from './pins.js';

const DEVICE_MAP = 14; // BPF_MAP_TYPE_DEVMAP

/** Whether a failure is the addon's, and so of the kernel. */
export const isNative = (error: unknown): error is Error & NativeFailure => error instanceof Error && 'errno' in error;

/**
 * The pinned link when it still holds this interface in a mode that is wanted; otherwise it is taken off, for a mode
 * changes only through an empty hook. `left` is the mode that was taken off this interface.
 */
export function adoptLink(
  pinned: PinnedLink | undefined,
  wanted: InterfaceConfig,
): { readonly link: NativeLink | null; readonly left: PinnedLink | null } {
  if (!pinned) return { link: null, left: null };
  const link = native.openLink(pinned.pin);
  const sameInterface = link.interfaceIndex !== 0 && link.interfaceIndex === native.interfaceIndex(wanted.name);
  if (sameInterface && (wanted.xdp === 'auto' || wanted.xdp === pinned.mode)) return { link, left: null };
  if (link.interfaceIndex !== 0) link.detach();
  link.close();
  rmSync(pinned.pin);
  return { link: null, left: sameInterface ? pinned : null };
}

/** Puts a mode back that was taken off for one that could not be had, and throws why. */
export async function restore(
  program: NativeProgram,
  name: string,
  left: PinnedLink | null,
  error: unknown,
): Promise<never> {
  if (left) {
    const link = await native.attachXdp(program, name, null, left.mode);
    link.pin(left.pin);
    link.close();
  }
  throw error;
}

/** What is said of an interface that has no native XDP. */
export const slowWarning = (name: string, why: string): string =>
  `interface "${name}" runs generic XDP, several times slower: ${why}`;

/**
 * Puts the program onto an interface that has none, as wanted; for auto natively where that goes, else what `generic` loads, with a
 * warning.
 */
export async function attach(
  program: NativeProgram,
  wanted: InterfaceConfig,
  warnings: string[],
  generic: () => Promise<NativeProgram> = async () => program,
): Promise<[NativeLink, XdpMode]> {
  if (wanted.xdp !== 'auto') return [await native.attachXdp(program, wanted.name, null, wanted.xdp), wanted.xdp];
  try {
    return [await native.attachXdp(program, wanted.name, null, 'native'), 'native'];
  } catch (error) {
    // Someone else's program is there: generic mode would not help and would hide it.
    if (isNative(error) && (error.code === 'EBUSY' || error.code === 'EEXIST')) throw error;
    const link = await native.attachXdp(await generic(), wanted.name, null, 'generic');
    warnings.push(slowWarning(wanted.name, messageOf(error)));
    return [link, 'generic'];
  }
}

/** What a program does: its code, its constants, and the maps it works on. Its device map is its own, and filled for it. */
function work(program: NativeProgram): string {
  const maps = program.maps();
  const lines = maps.map((map) => {
    if (map.info.name.endsWith('.rodata')) return Buffer.from(map.get(new Uint8Array(4)) ?? []).toString('hex');
    return map.info.type === DEVICE_MAP ? 'devices' : `${map.info.id}`;
  });
  for (const map of maps) map.close();
  return [program.name, program.tag, ...lines.sort()].join(' ');
}

/** What a program is attached by: a link, or a filter. */
export type Holder = Pick<NativeLink, 'program' | 'update'>;

/** Whether the link's program does what `program` would, on the same maps: then it need not be replaced. */
export function isSame(link: Holder, program: NativeProgram): boolean {
  const old = link.program();
  try {
    return work(old) === work(program);
  } finally {
    old.close();
  }
}

/** Programs that take the places of others, all of them or none. */
export interface Swaps {
  /**
   * Puts the program where another of its name is, unless somebody was faster: then, and when the kernel refuses, the places taken before get
   * their old programs back, and it rejects.
   */
  swap(link: Holder, program: NativeProgram, name: string): Promise<void>;
  done(): void;
}

/** None yet. `done` ends them when all went well. */
export function openSwaps(): Swaps {
  const swapped: { readonly pin: Holder; readonly old: NativeProgram; readonly now: NativeProgram }[] = [];
  const done = (): void => {
    for (const { old } of swapped.splice(0)) old.close();
  };
  return {
    done,
    async swap(link, program, name) {
      const old = link.program();
      try {
        if (old.name !== program.name)
          throw new FairleadError(
            'conflict',
            `swap the program of "${name}": "${old.name}" is there, which is not ours`,
          );
        await link.update(program, old);
        swapped.push({ pin: link, old, now: program });
      } catch (error) {
        old.close();
        for (const each of swapped.reverse()) await each.pin.update(each.old, each.now);
        done();
        throw error;
      }
    },
  };
}
