// SPDX-License-Identifier: Apache-2.0
import { readFileSync } from 'node:fs';

/**
 * Says of each interface that answers ARP for addresses on lo: where the VIP's network is on it, the router's traffic would come here past the
 * balancers. IPv6 answers for an interface's own addresses only.
 */
export function arpWarnings(interfaces: readonly string[], vips: readonly string[]): string[] {
  if (vips.every((vip) => vip.includes(':'))) return [];
  return interfaces
    .filter((name) => Math.max(arpIgnore('all'), arpIgnore(name)) === 0) // the higher one holds: ip-sysctl of the kernel
    .map((name) => `interface "${name}" answers ARP for the VIPs: set net.ipv4.conf.${name}.arp_ignore to 1`);
}

function arpIgnore(name: string): number {
  try {
    return Number(readFileSync(`/proc/sys/net/ipv4/conf/${name}/arp_ignore`, 'utf8'));
  } catch {
    return 1; // without IPv4, or gone
  }
}
