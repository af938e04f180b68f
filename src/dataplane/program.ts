// SPDX-License-Identifier: Apache-2.0
import { createHash } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import { BudgetLimit, Config, FlowLimit, MapShape } from './abi.gen.js';
import type { Field } from './codec.js';
import { type MapName, mapEntries } from './maps.js';
import { type NativeMap, type NativeObject, native } from './native.js';

/** What the packet path is told before it is loaded. Addresses: 4 and 16 bytes, as on the wire. */
export interface ProgramConfig {
  readonly flowsPerCpu: number;
  /** New flows remembered per second, CPU and service; the rest goes by the ring alone. */
  readonly newFlowsPerSecond: number;
  /** 16 bytes: SipHash key of the ring, the same on every node of the cluster. */
  readonly ringKey: Uint8Array;
  readonly tunnelSource: Uint8Array;
  readonly tunnelSource6: Uint8Array;
  readonly tunnelMtu: number;
  /** ServiceFlag bits: what some service wants. Without its bit here, a service's flag does nothing. */
  readonly features: number;
  /** ICMP packets answered or carried per CPU and kind (IcmpKind). Default: 1000. */
  readonly icmpPerSecond?: number;
}

const ICMP_PER_SECOND = 1000;

/** Where a compiled object lies, by its file name without suffix. */
export const objectPath = (name: string): string =>
  fileURLToPath(new URL(`../../../build/bpf/${name}.bpf.o`, import.meta.url));

function set<T>(object: NativeObject, variable: { readonly name: string } & Field<T>, value: T): void {
  const data = new Uint8Array(variable.size);
  variable.write(new DataView(data.buffer), 0, value);
  object.setVariable(variable.name, data);
}

const derivedKey = (use: string, ringKey: Uint8Array): Uint8Array =>
  createHash('sha256').update(use).update(ringKey).digest().subarray(0, 16);

/** 16 bytes: what agents on the backends know lists of owners by. Derived, so that a backend cannot aim at rows of the ring. */
export const agentKey = (ringKey: Uint8Array): Uint8Array => derivedKey('second chance', ringKey);

/** Tells an object of the packet path, before it is loaded, what config.h declares. */
export function setConstants(object: NativeObject, config: ProgramConfig, interfaceSlot: number): void {
  // Not secret from the cluster, only from the outside, and must outlive a reload: the flow table is placed by it.
  const indexKey = derivedKey('flow table index', config.ringKey);
  set(object, Config.interfaceSlot, interfaceSlot);
  set(object, Config.flowBucketMask, config.flowsPerCpu / FlowLimit.WAYS - 1);
  const windowNs = 2 ** BudgetLimit.WINDOW_SHIFT * native.tickNs();
  const perWindow = (perSecond: number): number => Math.max(1, Math.round((perSecond * windowNs) / 1e9));
  set(object, Config.features, config.features);
  set(object, Config.flowBudgetPerWindow, perWindow(config.newFlowsPerSecond));
  set(object, Config.icmpBudgetPerWindow, perWindow(config.icmpPerSecond ?? ICMP_PER_SECOND));
  set(object, Config.cpuCount, native.possibleCpus());
  set(object, Config.indexKey, indexKey);
  set(object, Config.ringKey, config.ringKey);
  set(object, Config.agentKey, agentKey(config.ringKey));
  set(
    object,
    Config.tunnelSource,
    new DataView(config.tunnelSource.buffer, config.tunnelSource.byteOffset).getUint32(0),
  );
  set(object, Config.tunnelSource6, config.tunnelSource6);
  set(object, Config.tunnelMtu, config.tunnelMtu);
}

/**
 * Loads xdp_lb for the interface in `interfaceSlot` (its row in `outcomes`), with `reuse` in place of new maps.
 * `mode`: what it is to be attached in. Rejects with the addon's error; see NativeFailure.
 */
export async function loadXdpLb(
  config: ProgramConfig,
  interfaceSlot: number,
  reuse: Partial<Readonly<Record<MapName, NativeMap>>>,
  mode: 'native' | 'generic' = 'native',
): Promise<NativeObject> {
  const object = native.openObject(objectPath(mode === 'generic' ? 'xdp_lb_generic' : 'xdp_lb'));
  try {
    const entries = mapEntries(config, native.possibleCpus());
    for (const name of Object.keys(MapShape) as MapName[]) {
      object.setMaxEntries(name, entries[name]);
      const existing = reuse[name];
      if (existing) object.reuseMap(name, existing);
    }
    setConstants(object, config, interfaceSlot);
    await object.load();
    return object;
  } catch (error) {
    object.close();
    throw error;
  }
}

/**
 * Lets a loaded xdp_lb split packets that do not fit: their copies leave by `interfaceIndex` (of this network namespace), the one it
 * is attached to. Not in generic mode: the copies would share their bytes. Throws the addon's error.
 */
export function allowSplit(object: NativeObject, interfaceIndex: number): void {
  const out = object.map('split_out');
  const part = object.program('split_part');
  try {
    const value = new Uint8Array(Uint32Array.of(interfaceIndex, part.fd).buffer); // struct bpf_devmap_val
    for (const copy of [0, 1]) out.set(new Uint8Array(Uint32Array.of(copy).buffer), value, 0);
  } finally {
    part.close();
    out.close();
  }
}
