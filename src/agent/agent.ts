// SPDX-License-Identifier: Apache-2.0
// Brings the agent's programs up on the backend's interfaces, or takes over those that are running.
import { existsSync } from 'node:fs';
import { adoptLink, attach, isNative, openSwaps, restore, slowWarning } from '../dataplane/attach.js';
import { pinProgram } from '../dataplane/held.js';
import type { InterfaceConfig, XdpMode } from '../dataplane/interfaces.js';
import { type NativeLink, type NativeMap, type NativeObject, type NativeProgram, native } from '../dataplane/native.js';
import { type PinnedLink, pinOver } from '../dataplane/pins.js';
import { dropFilters, dropLink, type Filter, isNoTcx, openFilter } from '../dataplane/tc.js';
import { FairleadError } from '../model/errors.js';
import { MapShape } from './abi.gen.js';
import { arpWarnings } from './arp.js';
import type { AgentConfig } from './config.js';
import { type AgentPins, agentPins, detachPrograms, type Hook, hooks, openPinned, takePins } from './pins.js';
import { agentResults, loadAgent } from './program.js';
import { putVips, removeVips } from './vips.js';

/** An interface the agent takes tunnel packets from. */
export interface AgentInterface {
  readonly name: string;
  readonly mode: XdpMode;
  readonly tag: string; // of xdp_agent
  readonly adopted: boolean; // its links were pinned by an earlier agent
}

/** The agent in the kernel. */
export interface Agent {
  readonly interfaces: readonly AgentInterface[];
  readonly vips: { readonly added: readonly string[]; readonly removed: readonly string[] };
  /** Sentences about what was not as wished. */
  readonly warnings: readonly string[];
  /** Packets so far by what was done with them: `bad_tag`. */
  results(): ReadonlyMap<string, number>;
  /** Drops the handles; programs, counters and addresses stay. */
  close(): void;
}

const PROGRAM = { xdp: 'xdp_agent', tc: 'tc_agent' } as const;

/**
 * Loads, attaches and pins the programs on every interface of the configuration, and puts the VIPs on lo. What an earlier agent left is taken
 * over: links by update, without a gap, and counters. A failure leaves the machine as it was. Throws 'invalid' for an
 * interface that is not there, 'conflict' where another program is, 'busy' while another agent runs, 'permission' without privileges.
 */
export async function openAgent(config: AgentConfig): Promise<Agent> {
  for (const { name } of config.interfaces) {
    if (native.interfaceIndex(name) === 0) {
      throw new FairleadError('invalid', `attach xdp_agent to "${name}": no such interface in this network namespace`);
    }
  }
  const open: (() => void)[] = [];
  const close = (): void => {
    for (let each = open.pop(); each; each = open.pop()) each();
  };
  try {
    open.push(takePins(config.bpffs));
    const pins = agentPins(config.bpffs);
    const warnings = arpWarnings(
      config.interfaces.map(({ name }) => name),
      config.vips,
    );
    const counted = openCounted(pins, warnings);
    open.push(() => counted?.close());
    const object = await loadAgent(config.key, config.balancers, counted);
    open.push(() => object.close());
    const results = object.map('agent_results');
    open.push(() => results.close());
    const vips = await putVips(config.bpffs, config.vips);
    const interfaces = await attachAll(object, config, pins, warnings).catch(async (error: unknown) => {
      await vips.undo();
      throw error;
    });
    if (counted === null) pinOver(pins.map('agent_results'), results);
    return {
      interfaces,
      vips: { added: vips.added, removed: await vips.prune() },
      warnings,
      results: () => agentResults(results),
      close,
    };
  } catch (error) {
    close();
    throw refusal(error);
  }
}

/** Takes everything of the agent off this machine: programs, tables, and the addresses it put on lo. Says what it removed. */
export async function detachAgent(bpffs: string): Promise<string[]> {
  const vips = await removeVips(bpffs);
  const removed = detachPrograms(bpffs);
  return vips.length === 0 ? removed : [...removed, `addresses taken off lo: ${vips.join(', ')}`];
}

const COUNTERS_LOST = 'map "agent_results" had another size: made anew, what it counted is lost';

/** The counters of an earlier agent; null without any that can go on. */
function openCounted(pins: AgentPins, warnings: string[]): NativeMap | null {
  const counted = openPinned(pins.map('agent_results'));
  const shape = MapShape.agent_results;
  if (counted === null || (counted.info.maxEntries === shape.maxEntries && counted.info.valueSize === shape.valueSize))
    return counted;
  counted.close();
  warnings.push(COUNTERS_LOST);
  return null;
}

/** A link, and the pin it has or is to have; or a filter. */
interface Held {
  readonly hook: Hook;
  readonly name: string;
  readonly link: NativeLink | Filter;
  readonly mode: XdpMode;
  readonly adopted: boolean;
}

/** New links first, then the swaps, then the pins: a failure on the way takes off what is new and leaves what was there. */
async function attachAll(
  object: NativeObject,
  config: AgentConfig,
  pins: AgentPins,
  warnings: string[],
): Promise<AgentInterface[]> {
  const programs = { xdp: object.program(PROGRAM.xdp), tc: object.program(PROGRAM.tc) };
  const pinned = { xdp: pins.links('xdp'), tc: pins.links('tc') };
  const held: Held[] = [];
  const swaps = openSwaps();
  let linear: NativeObject | null = null;
  /** The program as generic XDP is to have it. */
  const generic = async (): Promise<NativeProgram> => {
    if (linear === null) {
      const counted = object.map('agent_results');
      linear = await loadAgent(config.key, config.balancers, counted, 'generic').finally(() => counted.close());
    }
    return linear.program(PROGRAM.xdp);
  };
  try {
    for (const wanted of config.interfaces) {
      held.push(await holdTc(programs.tc, pins.root, wanted, pinned.tc.get(wanted.name)));
      held.push(await holdXdp(programs.xdp, generic, wanted, pinned.xdp.get(wanted.name), warnings));
    }
    for (const { hook, name, link, mode, adopted } of held) {
      const program = hook === 'xdp' && mode === 'generic' ? await generic() : programs[hook];
      if (adopted)
        await swaps.swap(link, 'standIn' in link ? link.standIn : pins.link(hook, name, mode), program, name);
    }
    for (const { hook, name, link, mode } of held) {
      const pin = pins.link(hook, name, mode);
      if (!('pin' in link) || existsSync(pin)) continue;
      link.pin(pin);
      pinProgram(hook === 'xdp' && mode === 'generic' ? await generic() : programs[hook], pin);
    }
    swaps.done();
    const isHeld = (hook: Hook, name: string, kind: 'link' | 'filter'): boolean =>
      held.some((each) => each.hook === hook && each.name === name && 'pin' in each.link === (kind === 'link'));
    for (const hook of hooks)
      for (const [name, { pin }] of pinned[hook]) if (!isHeld(hook, name, 'link')) dropLink(pin);
    dropFilters(pins.root, ({ name }) => !isHeld('tc', name, 'filter'));
    const { tag } = programs.xdp;
    return held.flatMap(({ hook, name, mode, adopted }) => (hook === 'xdp' ? [{ name, mode, tag, adopted }] : []));
  } catch (error) {
    for (const { link } of held) if ('undo' in link) link.undo();
    throw error;
  } finally {
    for (const { link } of held) if ('close' in link) link.close();
    for (const hook of hooks) programs[hook].close();
    (linear as NativeObject | null)?.close();
  }
}

/** By tcx, or by clsact where that is wanted, or where the kernel has no tcx and it may be either. */
async function holdTc(
  program: NativeProgram,
  root: string,
  { name, tc = 'auto' }: InterfaceConfig,
  known: PinnedLink | undefined,
): Promise<Held> {
  const held = { hook: 'tc', name, mode: 'native' } as const;
  const filter = (): Held => {
    const link = openFilter(program, { interface: name, direction: 'ingress', root });
    return { ...held, link, adopted: link.adopted };
  };
  if (tc === 'clsact') return filter();
  const { link } = adoptLink(known, { name, xdp: 'auto' });
  if (link) return { ...held, link, adopted: true };
  try {
    return { ...held, link: await native.attachTcx(program, name, null, 'ingress'), adopted: false };
  } catch (error) {
    if (tc === 'auto' && isNoTcx(error)) return filter();
    throw error;
  }
}

async function holdXdp(
  program: NativeProgram,
  generic: () => Promise<NativeProgram>,
  wanted: InterfaceConfig,
  known: PinnedLink | undefined,
  warnings: string[],
): Promise<Held> {
  const { link, left } = adoptLink(known, wanted);
  if (link && known) {
    if (wanted.xdp === 'auto' && known.mode === 'generic')
      warnings.push(slowWarning(wanted.name, 'it did when an earlier agent attached it'));
    return { hook: 'xdp', name: wanted.name, link, mode: known.mode, adopted: true };
  }
  const attached = attach(wanted.xdp === 'generic' ? await generic() : program, wanted, warnings, generic);
  const [made, mode] = await attached.catch((error: unknown) => restore(program, null, wanted.name, left, error));
  return { hook: 'xdp', name: wanted.name, link: made, mode, adopted: false };
}

/** What the kernel refuses, as what it means for whoever started the agent. */
function refusal(error: unknown): unknown {
  if (!isNative(error)) return error;
  const failure = (code: 'conflict' | 'permission') => new FairleadError(code, error.message, [], { cause: error });
  if (error.code === 'EBUSY' || error.code === 'EEXIST') return failure('conflict');
  return error.code === 'EPERM' || error.code === 'EACCES' ? failure('permission') : error;
}
