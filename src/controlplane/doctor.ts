// SPDX-License-Identifier: Apache-2.0
// Looks at this machine the way the daemon will, and changes nothing.
import { existsSync, readFileSync, statfsSync } from 'node:fs';
import { release } from 'node:os';
import { native } from '../dataplane/native.js';
import { messageOf } from '../model/errors.js';
import type { Config } from './config.js';
import { nativeXdp } from './xdp-features.js';

/** What was found: `warning` works, but not as it could; `failed` keeps the daemon from its work. `detail` is a sentence, with what to do. */
export interface Finding {
  readonly check: string;
  readonly status: 'ok' | 'warning' | 'failed';
  readonly detail: string;
}

const BPF_FS_MAGIC = 0xcafe4a11;
/** Include/uapi/linux/capability.h. */
const CAPABILITIES = { CAP_NET_ADMIN: 12, CAP_SYS_ADMIN: 21, CAP_PERFMON: 38, CAP_BPF: 39 } as const;
/** What a page holds beside headroom and tail: more needs drivers with fragments. Drivers differ a little. */
const ONE_PAGE_MTU = 3498;

const ok = (check: string, detail: string): Finding => ({ check, status: 'ok', detail });
const warning = (check: string, detail: string): Finding => ({ check, status: 'warning', detail });
const failed = (check: string, detail: string): Finding => ({ check, status: 'failed', detail });

/** The text of a file of the kernel's; null when it is not there. */
function read(path: string): string | null {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch {
    return null;
  }
}

export function kernelFinding(version: string): Finding {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  const is = (wantedMajor: number, wantedMinor: number): boolean =>
    major > wantedMajor || (major === wantedMajor && minor >= wantedMinor);
  if (!is(5, 10))
    return failed('kernel', `Linux ${version}: XDP links and CAP_BPF are missing; 6.6 or later is wanted`);
  if (!is(6, 6)) return warning('kernel', `Linux ${version}: NAT and the agent need 6.6 (tcx)`);
  return ok('kernel', `Linux ${version}`);
}

export function capabilityFinding(status: string): Finding {
  const held = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)/m.exec(status)?.[1] ?? '0'}`);
  const has = (name: keyof typeof CAPABILITIES): boolean => ((held >> BigInt(CAPABILITIES[name])) & 1n) === 1n;
  const missing = (['CAP_BPF', 'CAP_NET_ADMIN', 'CAP_PERFMON'] as const).filter(
    (name) => !has(name) && !(name !== 'CAP_NET_ADMIN' && has('CAP_SYS_ADMIN')),
  );
  if (missing.length === 0) return ok('capabilities', 'CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON');
  return failed('capabilities', `${missing.join(', ')} missing: run it as root, or give the service these`);
}

function btf(): Finding {
  return existsSync('/sys/kernel/btf/vmlinux')
    ? ok('btf', '/sys/kernel/btf/vmlinux')
    : failed('btf', 'there is no /sys/kernel/btf/vmlinux: the kernel needs CONFIG_DEBUG_INFO_BTF');
}

function bpffs(path: string): Finding {
  try {
    if (statfsSync(path).type === BPF_FS_MAGIC) return ok('bpffs', path);
    return warning('bpffs', `"${path}" is no bpffs; the daemon mounts one there, which needs CAP_SYS_ADMIN`);
  } catch (error) {
    return failed('bpffs', `look at "${path}": ${messageOf(error)}`);
  }
}

export function jitFinding(value: string | null): Finding {
  if (value === '0')
    return warning('jit', 'BPF runs interpreted, several times slower: sysctl net.core.bpf_jit_enable=1');
  return ok('jit', value === null ? 'not told in this network namespace' : 'on');
}

async function interfaceFindings(name: string, xdp: string, tunnelMtu: number): Promise<Finding[]> {
  const check = `interface ${name}`;
  const index = native.interfaceIndex(name);
  if (index === 0) return [failed(check, 'there is no such interface in this network namespace')];
  const mtu = Number(read(`/sys/class/net/${name}/mtu`) ?? 0);
  return [xdpFinding(check, xdp, await nativeXdp(index)), mtuFinding(check, mtu, tunnelMtu)];
}

export function xdpFinding(
  interfaceCheck: string,
  wanted: string,
  can: Awaited<ReturnType<typeof nativeXdp>>,
): Finding {
  const check = `${interfaceCheck}: xdp`;
  if (can === null) return warning(check, 'the kernel does not tell what the driver can do (Linux 6.3 does)');
  if (can.basic) return ok(check, wanted === 'generic' ? 'native would go, generic is asked for' : 'native');
  const detail = 'the driver has no native XDP; generic XDP is several times slower';
  return wanted === 'native' ? failed(check, `${detail}, and the configuration wants native`) : warning(check, detail);
}

export function mtuFinding(interfaceCheck: string, mtu: number, tunnelMtu: number): Finding {
  const check = `${interfaceCheck}: mtu`;
  if (mtu < tunnelMtu)
    return failed(check, `${mtu}, less than tunnel.mtu (${tunnelMtu}): set that to ${mtu}, or raise the interface's`);
  if (mtu > ONE_PAGE_MTU)
    return warning(
      check,
      `${mtu}: more than about ${ONE_PAGE_MTU} is more than a page, which many drivers refuse with native XDP`,
    );
  return ok(check, `${mtu}, tunnel.mtu is ${tunnelMtu}`);
}

async function etcd(config: Config): Promise<Finding> {
  const { endpoints, prefix } = config.store.etcd;
  try {
    const { readAccess } = await import('./etcd/access.js');
    const { openEtcdClient, prefixRange } = await import('./etcd/client.js');
    const client = openEtcdClient(await readAccess(config.store.etcd));
    try {
      const { revision } = await client.probe(prefixRange(prefix));
      return ok('etcd', `${endpoints.join(', ')} answers with a quorum, revision ${revision}`);
    } finally {
      client.close();
    }
  } catch (error) {
    return failed('etcd', messageOf(error));
  }
}

/** Everything that can be told from here. `config` is the configuration, or why there is none. */
export async function examine(config: Config | Error): Promise<readonly Finding[]> {
  const machine = [
    kernelFinding(release()),
    btf(),
    capabilityFinding(read('/proc/self/status') ?? ''),
    bpffs(config instanceof Error ? '/sys/fs/bpf' : config.bpffs),
    jitFinding(read('/proc/sys/net/core/bpf_jit_enable')),
  ];
  if (config instanceof Error) return [...machine, failed('configuration', config.message.replaceAll(/\s+/g, ' '))];
  const interfaces = await Promise.all(
    config.interfaces.map(({ name, xdp }) => interfaceFindings(name, xdp, config.tunnel.mtu)),
  );
  const store = config.store.type === 'etcd' ? await etcd(config) : ok('store', `the file "${config.store.path}"`);
  return [...machine, ok('configuration', `node "${config.node}"`), ...interfaces.flat(), store];
}
