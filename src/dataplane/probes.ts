// SPDX-License-Identifier: Apache-2.0
// Sockets of this process whose packets go to a VIP on one backend: tc_health sends them through its tunnel.
import { Backend, Family } from './abi.gen.js';
import { HealthProbe, HealthProbeKey } from './health-abi.gen.js';
import type { Maps } from './maps.js';
import { type NativeLink, native } from './native.js';
import { objectPath, type ProgramConfig, setConstants } from './program.js';
import { readBackend } from './tables.js';

/** A socket, by its local port and where it sends to. */
export interface ProbeSocket {
  /** The VIP as in service_key: 16 bytes. */
  readonly address: Uint8Array;
  readonly family: 4 | 6;
  readonly protocol: 'tcp' | 'udp';
  readonly port: number;
  readonly fromPort: number;
}

export interface Probes {
  /** From now on what this socket sends goes to the backend of this number, as packets of a service with these flags (ServiceFlag) do. Throws the addon's error, E2BIG when there are too many. */
  lead(socket: ProbeSocket, backend: number, flags: number): void;
  /** Packets that were sent so. */
  sent(socket: ProbeSocket): number;
  end(socket: ProbeSocket): void;
  close(): void;
}

const PROTOCOLS = { tcp: 6, udp: 17 } as const;

const keyOf = ({ address, family, protocol, port, fromPort }: ProbeSocket): Uint8Array =>
  HealthProbeKey.encode({
    ...{ address, port, fromPort },
    protocol: PROTOCOLS[protocol],
    family: family === 4 ? Family.IPV4 : Family.IPV6,
  });

/** Attaches tc_health to what leaves by these interfaces, for as long as this process lives. Rejects with the addon's error (EINVAL before Linux 6.6). */
export async function openProbes(interfaces: readonly string[], config: ProgramConfig, maps: Maps): Promise<Probes> {
  const object = native.openObject(objectPath('tc_health'));
  const links: NativeLink[] = [];
  const close = (): void => {
    for (const link of links) link.close(); // not pinned: they go with their handles
    object.close();
  };
  try {
    setConstants(object, config, 0);
    await object.load();
    const program = object.program('tc_health');
    for (const name of interfaces) links.push(await native.attachTcx(program, name, null, 'egress'));
    program.close();
    const probes = object.map('health_probes');
    return {
      lead(socket, backend, flags) {
        const to = Backend.encode(readBackend(maps, backend));
        probes.set(keyOf(socket), HealthProbe.encode({ to, flags, sent: 0 }), 0);
      },
      sent(socket) {
        const value = probes.get(keyOf(socket));
        return value ? HealthProbe.decode(value).sent : 0;
      },
      end: (socket) => void probes.delete(keyOf(socket)),
      close() {
        probes.close();
        close();
      },
    };
  } catch (error) {
    close();
    throw error;
  }
}
