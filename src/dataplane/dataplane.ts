// SPDX-License-Identifier: Apache-2.0
// Brings the packet path up on the node's interfaces, or takes over the one that is running.
import { existsSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { FairleadError } from '../model/errors.js';
import { MapShape, Reason, ServiceFlag } from './abi.gen.js';
import { adoptMaps } from './adopt.js';
import { adoptLink, attach, openSwaps, restore, slowWarning } from './attach.js';
import { isSame, noteWork, pinProgram } from './held.js';
import type { InterfaceConfig, XdpMode } from './interfaces.js';
import { type MapName, type Maps, mapsOf, openMaps } from './maps.js';
import { hasNat, type NatConfig, type NatTables, natRoots, openNat } from './nat.js';
import { type NativeLink, type NativeMap, type NativeObject, type NativeProgram, native } from './native.js';
import { findOlder } from './older.js';
import { linkPin, mapPin, type PinnedLink, pinnedLinks, pinOver, pinRoot, prepareBpffs } from './pins.js';
import { openProbes, type Probes } from './probes.js';
import { allowSplit, loadXdpLb, type ProgramConfig } from './program.js';
import { selfTest } from './self-test.js';
import { dropFilters } from './tc.js';

export interface DataplaneConfig extends ProgramConfig {
  readonly interfaces: readonly InterfaceConfig[];
  /** Where bpffs is, or is to be mounted; pins go below `fairlead/` there. */
  readonly bpffs: string;
  readonly nat: NatConfig;
}

export interface AttachedInterface {
  readonly name: string;
  readonly slot: number; // row block in `outcomes`
  readonly mode: XdpMode;
  readonly program: string;
  readonly tag: string;
  /** Of an earlier daemon's: kept when it did the same, else replaced. */
  readonly start: 'attached' | 'replaced' | 'kept';
}

export interface Dataplane {
  readonly maps: Maps;
  readonly interfaces: readonly AttachedInterface[];
  /** Sentences about what was not as wished: generic mode, a table made anew. */
  readonly warnings: readonly string[];
  /**
   * Has every program do what these ServiceFlag bits ask for, beside what it does already: a new one takes the place of the old one
   * without a gap. What no service wants any more goes at the next start. With ServiceFlag.NAT, and where an earlier daemon left it, tc_nat
   * runs beside; its tables, or null without.
   */
  setFeatures(features: number): Promise<NatTables | null>;
  /** The same tables, once they are there. */
  nat(): NatTables | null;
  /** Whether packets that come in are seen: on every interface that is there, and on one at least, our link runs. Asks the kernel. */
  attached(): boolean;
  /** What leads sockets of health checks into the tunnels, on all interfaces; for the caller to close. */
  openProbes(): Promise<Probes>;
  /** Drops the handles; programs and maps stay, pinned. */
  close(): void;
}

/** Interface slots outlive restarts, so that the counts of an interface stay its own. */
function chooseSlots(pinned: ReadonlyMap<string, PinnedLink>, interfaces: readonly InterfaceConfig[]): number[] {
  const limit = Math.floor(MapShape.outcomes.maxEntries / Reason.COUNT);
  const used = new Set([...pinned.values()].map((link) => link.slot));
  return interfaces.map(({ name }) => {
    const known = pinned.get(name);
    if (known) return known.slot;
    const slot = Array.from({ length: limit }, (_, at) => at).find((at) => !used.has(at));
    if (slot === undefined)
      throw new FairleadError('full', `attach to "${name}": all ${limit} interface slots are taken`);
    used.add(slot);
    return slot;
  });
}

/**
 * Loads, attaches and pins xdp_lb on every interface of the configuration, reusing what is pinned there. All programs
 * are loaded and all new links made before anything is pinned or replaced: a failure leaves the machine as it was.
 */
export async function openDataplane(config: DataplaneConfig): Promise<Dataplane> {
  for (const { name } of config.interfaces) {
    if (native.interfaceIndex(name) === 0) {
      throw new FairleadError('invalid', `attach xdp_lb to "${name}": no such interface in this network namespace`);
    }
  }
  prepareBpffs(config.bpffs);
  const older = findOlder(config.bpffs);
  const warnings: string[] = [];
  const directory = join(pinRoot(config.bpffs), 'links');
  const pinned = new Map([...(older?.links ?? []), ...pinnedLinks(directory)]);
  const slots = chooseSlots(pinned, config.interfaces);
  const adopted = adoptMaps(config, older, warnings);
  const objects: NativeObject[] = [];
  const links: { link: NativeLink; mode: XdpMode; adopted: boolean }[] = [];
  try {
    let reuse = adopted;
    for (const [at, slot] of slots.entries()) {
      const { name, xdp } = config.interfaces[at] ?? { name: '', xdp: 'auto' };
      const mode = xdp === 'auto' ? (pinned.get(name)?.mode ?? 'native') : xdp;
      const object = await loadXdpLb(config, slot, reuse, mode);
      objects.push(object);
      if (reuse === adopted) reuse = mapsOf(object);
    }
    const maps = reuse as Record<MapName, NativeMap>;
    await selfTest(config);
    older?.migrate(maps);
    for (const [at, wanted] of config.interfaces.entries()) {
      const known = pinned.get(wanted.name);
      const { link, left } = adoptLink(known, wanted);
      const program = programOf(objects, at);
      if (link && known) {
        links.push({ link, mode: known.mode, adopted: true });
        if (wanted.xdp !== known.mode && known.mode === 'generic')
          warnings.push(slowWarning(wanted.name, 'it did when an earlier daemon attached it'));
      } else {
        const again = async (): Promise<NativeProgram> => {
          const object = await loadXdpLb(config, slots[at] ?? 0, maps, 'generic');
          objects.splice(at, 1, object)[0]?.close();
          return programOf(objects, at);
        };
        const attached = attach(program, wanted, warnings, again);
        const [made, mode] = await attached.catch((error: unknown) =>
          restore(program, objectAt(objects, at), wanted.name, left, error),
        );
        links.push({ link: made, mode, adopted: false });
      }
    }
    for (const name of Object.keys(MapShape) as MapName[]) {
      const pin = mapPin(config.bpffs, name);
      if (!adopted[name] || !existsSync(pin)) pinOver(pin, maps[name]);
    }
    const interfaces: AttachedInterface[] = [];
    const swaps = openSwaps();
    for (const [at, { link, mode, adopted: old }] of links.entries()) {
      const name = config.interfaces[at]?.name ?? '';
      const slot = slots[at] ?? 0;
      const program = programOf(objects, at);
      if (mode === 'native') allowSplit(objectAt(objects, at), link.interfaceIndex);
      const pin = join(directory, linkPin(slot, mode, name));
      const known = pinned.get(name)?.pin ?? pin; // of an older version's, elsewhere
      const object = objectAt(objects, at);
      const start = !old ? 'attached' : known === pin && isSame(link, pin, program, object) ? 'kept' : 'replaced';
      if (start === 'replaced') await swaps.swap(link, known, program, name);
      if (!existsSync(pin)) link.pin(pin);
      if (known !== pin || !old) pinProgram(program, pin);
      if (start !== 'kept') noteWork(link, pin, program, object);
      interfaces.push({ name, slot, mode, program: program.name, tag: program.tag, start });
    }
    swaps.done();
    older?.remove();
    const open = openMaps(maps, objectAt(objects, 0).program('flow_clock'));
    const swapFeatures = featureSwaps(config, interfaces, open);
    let nat: NatTables | null = null;
    return {
      maps: open,
      interfaces,
      warnings,
      setFeatures: async (features) => {
        const wanted = (features & ServiceFlag.NAT) !== 0 || config.nat.egress.length > 0;
        if (nat === null && (wanted || hasNat(config.bpffs))) nat = await openNat(config.nat, config, open, warnings);
        await swapFeatures(features);
        return nat;
      },
      nat: () => nat,
      attached: () => isAttached(directory, interfaces),
      openProbes: () =>
        openProbes(
          interfaces.map(({ name }) => name),
          config,
          open,
        ),
      close: () => {
        nat?.close();
        open.close();
      },
    };
  } finally {
    for (const { link } of links) link.close();
    for (const object of objects) object.close();
    for (const map of Object.values(adopted)) map?.close();
  }
}

/** See Dataplane.attached. */
function isAttached(directory: string, interfaces: readonly AttachedInterface[]): boolean {
  const there = interfaces
    .map((each) => ({ ...each, index: native.interfaceIndex(each.name) }))
    .filter((each) => each.index !== 0);
  return (
    there.length > 0 &&
    there.every(({ slot, mode, name, index }) => {
      const pin = join(directory, linkPin(slot, mode, name));
      if (!existsSync(pin)) return false;
      const link = native.openLink(pin);
      const isOn = link.interfaceIndex === index;
      link.close();
      return isOn;
    })
  );
}

/** See Dataplane.setFeatures. */
function featureSwaps(
  config: DataplaneConfig,
  interfaces: readonly AttachedInterface[],
  { handle }: Maps,
): (features: number) => Promise<void> {
  let loaded = config.features;
  return async (features) => {
    if ((features & ~loaded) === 0) return;
    const wider = { ...config, features: features | loaded };
    await selfTest(wider);
    const swaps = openSwaps();
    const opened: { close(): void }[] = [];
    const keep = <T extends { close(): void }>(handle: T): T => {
      opened.unshift(handle);
      return handle;
    };
    try {
      const ready: { link: NativeLink; pin: string; program: NativeProgram; object: NativeObject; name: string }[] = [];
      for (const { name, slot, mode } of interfaces) {
        const pin = join(pinRoot(config.bpffs), 'links', linkPin(slot, mode, name));
        const link = keep(native.openLink(pin));
        if (link.interfaceIndex === 0) continue; // it is gone, and what comes in by the others must not suffer
        const object = keep(await loadXdpLb(wider, slot, handle, mode));
        if (mode === 'native') allowSplit(object, link.interfaceIndex);
        ready.push({ link, pin, program: keep(object.program('xdp_lb')), object, name });
      }
      for (const { link, pin, program, name } of ready) await swaps.swap(link, pin, program, name);
      swaps.done();
      for (const { link, pin, program, object } of ready) noteWork(link, pin, program, object);
      loaded = wider.features;
    } finally {
      for (const handle of opened) handle.close();
    }
  };
}

const objectAt = (objects: readonly NativeObject[], at: number): NativeObject => {
  const object = objects[at];
  if (!object) throw new FairleadError('invalid', 'start the packet path: no interface is configured');
  return object;
};

const programOf = (objects: readonly NativeObject[], at: number): NativeProgram =>
  objectAt(objects, at).program('xdp_lb');

/** Takes every program, link and map of Fairlead off this machine. Says what it removed. */
export function detachAll(bpffs: string): string[] {
  const root = join(bpffs, 'fairlead');
  const removed: string[] = [];
  for (const pins of existsSync(root) ? readdirSync(root).map((version) => join(root, version)) : []) {
    for (const part of [pins, ...natRoots(pins)]) {
      const links = join(part, 'links');
      for (const pin of existsSync(links) ? readdirSync(links) : []) {
        const link = native.openLink(join(links, pin));
        link.detach();
        link.close();
        removed.push(`program taken off: ${pin.replace(/^\d+-(native|generic)-/, '').replaceAll(':', '.')}`);
      }
      removed.push(...dropFilters(part).map((name) => `program taken off: ${name}`));
      removed.push(`tables dropped: ${readdirSync(join(part, 'maps')).join(', ')}`);
    }
  }
  rmSync(root, { recursive: true, force: true });
  return removed;
}
