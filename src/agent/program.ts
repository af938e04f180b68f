// SPDX-License-Identifier: Apache-2.0
import type { XdpMode } from '../dataplane/interfaces.js';
import { type NativeMap, type NativeObject, native } from '../dataplane/native.js';
import { objectPath } from '../dataplane/program.js';
import { writePrefix } from '../model/prefix.js';
import { AgentResult, Config, MapShape } from './abi.gen.js';

const { COUNT: RESULTS, ...results } = AgentResult;

/**
 * Loads xdp_agent and tc_agent. `key`: 16 bytes, the balancers' agentKey; `balancers`: prefixes tunnel packets may come from; `counted`:
 * the counters of an earlier load; `mode`: what xdp_agent is to be attached in. Rejects with the addon's error.
 */
export async function loadAgent(
  key: Uint8Array,
  balancers: readonly string[],
  counted: NativeMap | null,
  mode: XdpMode = 'native',
): Promise<NativeObject> {
  const object = native.openObject(objectPath(mode === 'generic' ? 'agent_generic' : 'agent'));
  try {
    object.setVariable(Config.agentKey.name, key);
    if (counted) object.reuseMap('agent_results', counted);
    await object.load();
    for (const prefix of balancers) {
      const name = prefix.includes(':') ? 'balancers6' : 'balancers4';
      const map = object.map(name);
      const entry = new Uint8Array(MapShape[name].keySize);
      new Uint32Array(entry.buffer, 0, 1)[0] = writePrefix(prefix, entry, 4);
      map.set(entry, Uint8Array.of(1, 0, 0, 0), 0);
      map.close();
    }
    return object;
  } catch (error) {
    object.close();
    throw error;
  }
}

/** Packets so far, all CPUs, by what was done with them: `bad_tag`. */
export function agentResults(map: NativeMap): Map<string, number> {
  const index = new Uint8Array(4);
  const packets = (result: number): number => {
    new DataView(index.buffer).setUint32(0, result, true);
    const perCpu = map.get(index);
    return perCpu
      ? Number(new BigUint64Array(Uint8Array.from(perCpu).buffer).reduce((sum, each) => sum + each, 0n))
      : 0;
  };
  return new Map(Object.entries(results).map(([name, result]) => [name.toLowerCase(), packets(result)]));
}
