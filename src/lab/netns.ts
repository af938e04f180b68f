// SPDX-License-Identifier: Apache-2.0
import { spawn } from 'node:child_process';
import { readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs';
import { FairleadError } from '../model/errors.js';
import {
  isLabNamespace,
  lbQueues,
  linkBatch,
  type NamespaceSetup,
  namespaceSetups,
  namespacesOf,
  type Topology,
} from './topology.js';

const netnsDirectory = '/run/netns';

/** For `setpriv`: the kernel kills what it runs when this process dies, so that nothing goes on being set up. */
export const tied: readonly string[] = ['--pdeathsig', 'KILL', '--'];

/** Where `ip netns` keeps the namespace. */
export function namespacePath(namespace: string): string {
  return `${netnsDirectory}/${namespace}`;
}

/**
 * Runs a command to its end with `input` on stdin and resolves with its stdout. Rejects with code 'native' naming the
 * command and its stderr when it fails, 'unsupported' when it is not installed.
 */
export function run(file: string, args: readonly string[], input = ''): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn('setpriv', [...tied, file, ...args], { stdio: ['pipe', 'pipe', 'pipe'] });
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
    });
    child.stdin.on('error', () => {}); // a command that ends early says why on stderr
    child.on('error', (error) => reject(new FairleadError('unsupported', `run "${file}": ${error.message}`)));
    child.on('close', (code, signal) => {
      if (code === 0) return resolve(stdout);
      const text = stderr.trim().split('\n').join('; ') || 'no message';
      reject(new FairleadError('native', `run "${[file, ...args].join(' ')}": ${signal ?? `exit ${code}`}: ${text}`));
    });
    child.stdin.end(input);
  });
}

/** The namespaces of the lab `name` that exist now. */
export function existingNamespaces(name: string): readonly string[] {
  return entriesOf(netnsDirectory).filter((namespace) => isLabNamespace(name, namespace));
}

/** Makes the namespaces, links, addresses and routes of the lab. What a failure leaves is for destroyNamespaces. */
export async function createNamespaces(topology: Topology): Promise<void> {
  const added = namespacesOf(topology).map((namespace) => `netns add ${namespace}`);
  await batch([], added);
  await batch(['-n', topology.router], linkBatch(topology));
  const setups = namespaceSetups(topology);
  // Eight at a time: enough for two cores, and 64 backends do not become 64 processes at once.
  for (let index = 0; index < setups.length; index += 8) await everyOne(setups.slice(index, index + 8).map(setUp));
  // Native XDP loses the mark of a checksum left to the hardware: resolve it on the last hop before the balancer.
  const ports = topology.balancers.map(({ name }) => name);
  for (const port of ports)
    await run('nsenter', [`--net=${namespacePath(topology.router)}`, 'ethtool', '-K', port, 'tx', 'off']);
  // A NIC's hash keeps a flow on one CPU, and the flow table counts on that; a veth would follow the sender from CPU to CPU.
  // So the router picks the CPU by the flow's hash (RPS), and without XPS it picks the queue by the same hash in the same way:
  // a queue's packets all come from one CPU, which polls the peer. (XPS would go by the CPU that first sent the packet.)
  // From wherever they come: while another CPU polls a queue for an answer to a health check, it takes clients' packets along.
  const cpus = (2 ** lbQueues() - 1).toString(16);
  const sources = ['client', ...topology.backends.map(({ name }) => name)];
  const steer = sources.map((port) => `echo ${cpus} > /sys/class/net/${port}/queues/rx-0/rps_cpus`).join('; ');
  await run('ip', ['netns', 'exec', topology.router, 'sh', '-c', steer]); // its own /sys: nsenter's is the host's
}

/** Kills what runs in the namespaces of the lab `name`, then deletes them. Fine when there are none. */
export async function destroyNamespaces(name: string): Promise<void> {
  const namespaces = existingNamespaces(name);
  if (namespaces.length === 0) return;
  const deadline = Date.now() + 5_000;
  for (let pids = processesIn(namespaces); pids.length > 0; pids = processesIn(namespaces)) {
    if (Date.now() > deadline)
      throw new FairleadError('busy', `take lab "${name}" down: processes ${pids.join(', ')} do not end`);
    for (const pid of pids) kill(pid, 'SIGKILL');
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  await batch(
    [],
    namespaces.map((namespace) => `netns delete ${namespace}`),
  );
}

/** Ids of the processes whose network namespace is one of `namespaces`. One pass over /proc for all of them. */
export function processesIn(namespaces: readonly string[]): readonly number[] {
  const inodes = new Set(namespaces.map((namespace) => inodeOf(namespacePath(namespace))));
  return entriesOf('/proc')
    .filter((entry) => /^\d+$/.test(entry) && inodes.has(netnsOf(entry)))
    .map(Number);
}

/** Sends a signal; a process that is gone already is fine. */
export function kill(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

/** Unmounts whatever is mounted at `path`. Lazily: a process that still looks at it must not keep the pins alive. */
export async function unmount(path: string): Promise<void> {
  const mounted = readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .filter((line) => line.split(' ')[1] === path);
  for (const _ of mounted) await run('umount', ['-l', path]);
}

/** Waits for all, then throws the first failure: nothing may still be at work when the caller cleans up. */
export async function everyOne<T>(work: readonly Promise<T>[]): Promise<T[]> {
  const results = await Promise.allSettled(work);
  return results.map((result) => {
    if (result.status === 'rejected') throw result.reason;
    return result.value;
  });
}

function setUp({ namespace, settings, batch: lines }: NamespaceSetup): Promise<string> {
  const writes = settings.map((setting) => setting.replace(/^(.*)=(.*)$/, 'echo $2 > /proc/sys/net/$1'));
  const script = [...writes, "ip -batch - <<'END'", ...lines, 'END'].join('\n');
  return run('nsenter', [`--net=${namespacePath(namespace)}`, 'sh', '-e'], script);
}

function batch(args: readonly string[], lines: readonly string[]): Promise<string> {
  return run('ip', [...args, '-batch', '-'], lines.join('\n'));
}

function entriesOf(directory: string): readonly string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}

function inodeOf(path: string): string | null {
  try {
    return `net:[${statSync(path).ino}]`;
  } catch {
    return null; // deleted by someone else meanwhile
  }
}

function netnsOf(pid: string): string {
  try {
    return readlinkSync(`/proc/${pid}/ns/net`);
  } catch {
    return ''; // gone, or a zombie
  }
}
