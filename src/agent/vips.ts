// SPDX-License-Identifier: Apache-2.0
// The VIPs on lo. Those the agent put there are noted in a pinned map: they go when nobody wants them any more, others never.
import { existsSync, rmSync } from 'node:fs';
import { createRtNetlink, FlagsNew } from '../controlplane/rtnetlink.js';
import { type NativeMap, native } from '../dataplane/native.js';
import { formatAddress, parseAddress } from '../model/address.js';
import { FairleadError, messageOf } from '../model/errors.js';
import { AGENT_LIMIT } from './config.js';
import { agentPins, openPinned } from './pins.js';

const AF_INET = 2;
const AF_INET6 = 10;
const BPF_MAP_TYPE_HASH = 1;
const MAPPED = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff);
const NOTED = Uint8Array.of(1, 0, 0, 0);

/** What is to be said or undone of the addresses. */
export interface Vips {
  /** Those that were put there now. */
  readonly added: readonly string[];
  /** Takes away what an earlier agent put there and the configuration no longer names; answers them. */
  prune(): Promise<readonly string[]>;
  /** Takes away what was put there now. */
  undo(): Promise<void>;
}

const pinOf = (bpffs: string): string => agentPins(bpffs).map('vips');

/** Puts these addresses on lo, unless they are there. Throws 'native', with nothing of it left, when the kernel refuses. */
export async function putVips(bpffs: string, wanted: readonly string[]): Promise<Vips> {
  const loopback = openLoopback();
  const note = openNote(pinOf(bpffs), wanted.length > 0);
  const added: string[] = [];
  const undo = async (): Promise<void> => {
    for (let text = added.pop(); text !== undefined; text = added.pop()) {
      await loopback.remove(text);
      note.forget(text);
    }
    note.close();
  };
  try {
    const there = await loopback.addresses();
    for (const text of wanted.filter((each) => !there.has(each))) {
      note.add(text); // first: one that is noted and not there does no harm
      added.push(text);
      await loopback.add(text);
    }
  } catch (error) {
    await undo();
    throw error;
  }
  return {
    added: [...added],
    undo,
    async prune() {
      const stale = note.all().filter((text) => !wanted.includes(text));
      for (const text of stale) {
        await loopback.remove(text);
        note.forget(text);
      }
      note.close();
      return stale;
    },
  };
}

/** Takes every address away that an agent put on lo; answers them. */
export async function removeVips(bpffs: string): Promise<readonly string[]> {
  if (!existsSync(pinOf(bpffs))) return [];
  return (await putVips(bpffs, [])).prune();
}

/** The note in the pinned map; without one, and when none is to be made, an empty one. */
function openNote(pin: string, make: boolean) {
  let map: NativeMap | null = openPinned(pin);
  if (map === null && make) {
    map = native.createMap('agent_vips', BPF_MAP_TYPE_HASH, 16, 4, 4 * AGENT_LIMIT, 0);
    map.pin(pin);
  }
  return {
    all(): readonly string[] {
      const found: string[] = [];
      for (let key = map?.nextKey(null) ?? null; key; key = map?.nextKey(key) ?? null) found.push(textOf(key));
      return found.sort();
    },
    add: (text: string): void => map?.set(keyOf(text), NOTED, 0),
    forget(text: string): void {
      map?.delete(keyOf(text));
    },
    /** An empty note is none. */
    close(): void {
      if (map?.nextKey(null) === null) rmSync(pin, { force: true });
      map?.close();
      map = null;
    },
  };
}

// IPv4 as RFC 4291 section 2.5.5.2 maps it.
function keyOf(text: string): Uint8Array {
  const { family, bytes } = parseAddress(text);
  return family === 6 ? bytes : Uint8Array.of(...MAPPED, ...bytes);
}

function textOf(key: Uint8Array): string {
  return formatAddress(MAPPED.every((byte, at) => key[at] === byte) ? key.subarray(12) : key);
}

function openLoopback() {
  const netlink = createRtNetlink();
  const index = native.interfaceIndex('lo');
  const message = (text: string) => {
    const { family, bytes } = parseAddress(text);
    const flags = family === 6 ? { nodad: true as const } : {};
    const data = { family: family === 4 ? AF_INET : AF_INET6, prefixlen: bytes.length * 8, scope: 0, index, flags };
    return [data, { local: Buffer.from(bytes), address: Buffer.from(bytes) }] as const;
  };
  return {
    async addresses(): Promise<ReadonlySet<string>> {
      const all = await netlink.getAddresses();
      return new Set(
        all
          .filter(({ data }) => data.index === index)
          .flatMap(({ attrs }) => attrs.local ?? attrs.address ?? [])
          .map(formatAddress),
      );
    },
    async add(text: string): Promise<void> {
      try {
        await netlink.newAddress(...message(text), { flags: FlagsNew.CREATE | FlagsNew.EXCL });
      } catch (error) {
        throw new FairleadError('native', `put ${text} on lo: ${messageOf(error)}`);
      }
    },
    /** One that is not there is fine. */
    async remove(text: string): Promise<void> {
      if ((await this.addresses()).has(text)) await netlink.delAddress(...message(text));
    },
  };
}
