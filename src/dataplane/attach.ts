// SPDX-License-Identifier: Apache-2.0
// Programs onto interfaces, and new ones in the places of old ones.
import { rmSync } from 'node:fs';
import { FairleadError, messageOf } from '../model/errors.js';
import { dropNext, forget, type Holder, keepNext, noteWork, pinNext, pinProgram, programOn } from './held.js';
import type { InterfaceConfig, XdpMode } from './interfaces.js';
import { type NativeFailure, type NativeLink, type NativeObject, type NativeProgram, native } from './native.js';
import type { PinnedLink } from './pins.js';

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
  forget(pinned.pin);
  return { link: null, left: sameInterface ? pinned : null };
}

/** Puts a mode back that was taken off for one that could not be had, and throws why. `object`: the program's, where what it does is noted. */
export async function restore(
  program: NativeProgram,
  object: NativeObject | null,
  name: string,
  left: PinnedLink | null,
  error: unknown,
): Promise<never> {
  if (left) {
    const link = await native.attachXdp(program, name, null, left.mode);
    link.pin(left.pin);
    pinProgram(program, left.pin);
    if (object) noteWork(link, left.pin, program, object);
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

/** Programs that take the places of others, all of them or none. */
export interface Swaps {
  /**
   * Puts the program where another of its name is, on the link pinned at `pin`, unless somebody was faster: then, and when the kernel refuses, the places taken before get
   * their old programs back, and it rejects.
   */
  swap(link: Holder, pin: string, program: NativeProgram, name: string): Promise<void>;
  done(): void;
}

/** None yet. `done` ends them when all went well. */
export function openSwaps(): Swaps {
  const swapped: { link: Holder; pin: string; old: NativeProgram; now: NativeProgram }[] = [];
  const close = (): void => {
    for (const { old } of swapped.splice(0)) old.close();
  };
  return {
    done() {
      for (const { pin } of swapped) keepNext(pin);
      close();
    },
    async swap(link, pin, program, name) {
      const old = programOn(link, pin);
      try {
        if (old.name !== program.name)
          throw new FairleadError(
            'conflict',
            `swap the program of "${name}": "${old.name}" is there, which is not ours`,
          );
        pinNext(program, pin);
        await link.update(program, old);
        swapped.push({ link, pin, old, now: program });
      } catch (error) {
        old.close();
        dropNext(pin);
        for (const each of swapped.reverse()) {
          await each.link.update(each.old, each.now);
          dropNext(each.pin);
        }
        close();
        throw error;
      }
    },
  };
}
