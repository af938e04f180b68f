// SPDX-License-Identifier: Apache-2.0
// Checks of a VIP on one backend: the way that clients' packets take.
import { readFileSync } from 'node:fs';
import { ServiceFlag } from '../../dataplane/abi.gen.js';
import type { ProbeSocket, Probes } from '../../dataplane/probes.js';
import { familyOf } from '../../model/address.js';
import { messageOf } from '../../model/errors.js';
import type { Forwarding } from '../../model/objects.js';
import { addressField } from '../kernel-state.js';
import { type CheckTarget, failed, type Outcome } from './attempt.js';

/** What the tunnel needs to know of the node. */
export interface TunnelNode {
  /** Attaches what leads packets into the tunnel; asked once, when the first check wants it. */
  openProbes(): Promise<Probes>;
  /** The number of a pool's backend in the kernel; null: there is none yet, or no next hop. */
  numberOf(pool: string, address: string): number | null;
}

/** After a failure to attach, ms. */
const RETRY_MS = 30_000;
/** How long a socket's last packets are still led: those that close it. */
const LINGER_MS = 3000;
const TRIES = 3;

const FLAGS: Readonly<Record<Forwarding, number>> = {
  ipip: 0,
  gue: ServiceFlag.GUE,
  l2: ServiceFlag.L2,
  nat: 0, // no tunnel: subjects have none of these
};

/** `run` for targets with a tunnel too. `close` lets go of what was attached. */
export function throughTunnel(
  run: (target: CheckTarget) => Promise<Outcome>,
  node: TunnelNode,
): { readonly run: typeof run; close(): Promise<void> } {
  const [low = 32768, high = 60999] = readFileSync('/proc/sys/net/ipv4/ip_local_port_range', 'utf8')
    .split(/\s+/)
    .map(Number);
  const lingering = new Map<ProbeSocket, NodeJS.Timeout>();
  let opening: Promise<Probes> | null = null;

  function probes(): Promise<Probes> {
    if (opening === null) {
      const attempt = node.openProbes();
      opening = attempt;
      attempt.catch(() => {
        setTimeout(() => {
          if (opening === attempt) opening = null;
        }, RETRY_MS).unref();
      });
    }
    return opening;
  }

  async function once(target: CheckTarget, open: Probes, number: number, forwarding: Forwarding): Promise<Outcome> {
    const { address, port, check } = target;
    const fromPort = low + Math.floor(Math.random() * (high - low + 1));
    const protocol = check.type === 'udp' ? 'udp' : 'tcp';
    const socket: ProbeSocket = {
      ...{ address: addressField(address), family: familyOf(address), protocol, port, fromPort },
    };
    open.lead(socket, number, FLAGS[forwarding]);
    const outcome = await run({ ...target, fromPort });
    const isLed = open.sent(socket) > 0;
    lingering.set(
      socket,
      setTimeout(() => {
        lingering.delete(socket);
        open.end(socket);
      }, LINGER_MS).unref(),
    );
    if (isLed || outcome.result === 'error') return outcome;
    return failed(new Error(`the way to ${address} does not leave by an interface of the configuration`));
  }

  return {
    async run(target) {
      const { through } = target;
      if (!through) return run(target);
      const number = node.numberOf(through.pool, through.address);
      if (number === null) return failed(new Error('it has no next hop'));
      try {
        const open = await probes();
        for (let tries = 1; ; tries++) {
          const outcome = await once(target, open, number, through.forwarding);
          // Somebody has that port, or had it a moment ago.
          if (!/EADDRINUSE|EADDRNOTAVAIL/.test(outcome.detail) || tries === TRIES) return outcome;
        }
      } catch (error) {
        return failed(new Error(`check through the tunnel: ${messageOf(error)}`));
      }
    },
    async close() {
      for (const timer of lingering.values()) clearTimeout(timer);
      lingering.clear();
      const open = await opening?.catch(() => null);
      open?.close();
      opening = null;
    },
  };
}
