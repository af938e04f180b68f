// SPDX-License-Identifier: Apache-2.0
// Tunnels for a namespace that plays the balancer, on a kernel that may have no tunnel devices.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type NativeLink, native } from '../../src/dataplane/native.js';
import { namespacePath } from '../../src/lab/netns.js';
import { parseAddress } from '../../src/model/address.js';

const SIZE = 52; // struct tunnel
const source = fileURLToPath(new URL('../../../test/support/bpf/tunnel.bpf.c', import.meta.url));

/** From where to where what goes to the VIP is carried; one family for all three. */
export interface Tunnel {
  readonly vip: string;
  readonly from: string;
  readonly to: string;
}

/** Three at most. Until the link is closed. */
export async function openTunnels(
  namespace: string,
  interfaceName: string,
  tunnels: readonly Tunnel[],
): Promise<NativeLink> {
  const directory = mkdtempSync(join(tmpdir(), 'fairlead-tunnel-'));
  try {
    const path = join(directory, 'tunnel.bpf.o');
    const headers = `/usr/include/${process.arch === 'arm64' ? 'aarch64' : 'x86_64'}-linux-gnu`;
    execFileSync('clang-19', ['-g', '-O2', '-target', 'bpf', '-idirafter', headers, '-c', source, '-o', path]);
    const object = native.openObject(path);
    const bytes = new Uint8Array(3 * SIZE);
    for (const [at, { vip, from, to }] of tunnels.entries()) {
      const addresses = [vip, from, to].map(parseAddress);
      for (const [part, each] of addresses.entries()) bytes.set(each.bytes, at * SIZE + part * 16);
      bytes[at * SIZE + 48] = addresses[0]?.family === 6 ? 1 : 0;
    }
    object.setVariable('tunnels', bytes);
    await object.load();
    const link = await native.attachTcx(object.program('tunnel'), interfaceName, namespacePath(namespace), 'egress');
    object.close();
    return link;
  } finally {
    rmSync(directory, { recursive: true });
  }
}
