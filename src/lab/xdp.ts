// SPDX-License-Identifier: Apache-2.0
import { objectPath } from '../dataplane/program.js';
import { everyOne, namespacePath } from './netns.js';
import { labInterface, type Topology } from './topology.js';

/** Programs around the balancer. They go with `close`, and with this process. */
export interface LabPrograms {
  close(): Promise<void>;
}

/** The agents' programs on the backends; what they did with packets is counted for all of them together. */
export interface LabAgents extends LabPrograms {
  results(): ReadonlyMap<string, number>;
}

/** xdp_pass on the router's ports towards the balancers: a veth only receives XDP_TX frames when its own end runs a program. */
export async function attachPass(topology: Topology): Promise<LabPrograms> {
  // Loaded here and not at the top: taking a lab down works without the addon.
  const { native } = await import('../dataplane/native.js');
  const object = native.openObject(objectPath('xdp_pass'));
  await object.load();
  const pass = object.program('xdp_pass');
  const links = await everyOne(
    topology.balancers.map(({ name }) => native.attachXdp(pass, name, namespacePath(topology.router), 'native')),
  );
  return {
    async close() {
      for (const each of [...links, object]) each.close();
    },
  };
}

/** What `fairlead agent` attaches, on every backend. `key`: 16 bytes, as the balancers tell it (`agent key`). */
export async function attachAgents(topology: Topology, key: Uint8Array): Promise<LabAgents> {
  const { native } = await import('../dataplane/native.js');
  const { agentResults, loadAgent } = await import('../agent/program.js');
  const balancers = topology.balancers.flatMap(({ address4, address6 }) => [`${address4}/32`, `${address6}/128`]);
  const object = await loadAgent(key, balancers, null);
  const [xdp, tc, results] = [object.program('xdp_agent'), object.program('tc_agent'), object.map('agent_results')];
  const links = await everyOne(
    topology.backends
      .map(({ namespace }) => namespacePath(namespace))
      .flatMap((netns) => [
        native.attachXdp(xdp, labInterface, netns, 'native'),
        native.attachTcx(tc, labInterface, netns, 'ingress'),
      ]),
  );
  return {
    results: () => agentResults(results),
    async close() {
      for (const each of [...links, object]) each.close();
    },
  };
}
