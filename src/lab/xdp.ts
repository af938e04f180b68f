// SPDX-License-Identifier: Apache-2.0
import { fileURLToPath } from 'node:url';
import type { NativeLink, NativeProgram } from '../dataplane/native.js';
import { everyOne, namespacePath } from './netns.js';
import { labInterface, type Topology } from './topology.js';

/**
 * Attaches what the lab needs around the balancer: xdp_pass on the router's ports towards the balancers (a veth only receives
 * XDP_TX frames when its own end runs a program), xdp_decap on every backend. The programs go with the returned
 * function, and with this process.
 */
export async function attachLabPrograms(topology: Topology): Promise<() => Promise<void>> {
  // Loaded here and not at the top: taking a lab down works without the addon.
  const { native } = await import('../dataplane/native.js');
  const load = async (name: string): Promise<NativeProgram> => {
    const object = native.openObject(fileURLToPath(new URL(`../../../build/bpf/${name}.bpf.o`, import.meta.url)));
    await object.load();
    return object.program(name);
  };
  const attach = (program: NativeProgram, port: string, namespace: string): Promise<NativeLink> =>
    native.attachXdp(program, port, namespacePath(namespace), 'native');
  const pass = await load('xdp_pass');
  const decap = await load('xdp_decap');
  const links = await everyOne([
    ...topology.balancers.map(({ name }) => attach(pass, name, topology.router)),
    ...topology.backends.map(({ namespace }) => attach(decap, labInterface, namespace)),
  ]);
  return async () => {
    for (const link of links) link.close();
  };
}
