// SPDX-License-Identifier: Apache-2.0
// A Debian to install into: a directory tree that a test may do anything to, over one that stays as it is (overlayfs).
import { execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import type { TestContext } from 'node:test';

export interface MachineRoot {
  readonly path: string;
  /** Runs a command in there; its stdout and stderr. Throws with both when it fails. */
  inside(...command: readonly string[]): string;
  remove(): void;
}

/** Runs a command; its stdout and stderr. */
export function command(file: string, ...args: readonly string[]): string {
  const { status, signal, stdout, stderr } = spawnSync(file, args, { encoding: 'utf8', maxBuffer: 1 << 26 });
  if (status === 0) return `${stdout}${stderr}`;
  throw new Error(`${[file, ...args].join(' ')}: ${signal ?? `exit ${status}`}: ${stdout}${stderr}`);
}

/** Opens a tree over `lower`; null when the kernel has no overlayfs. */
export function openRoot(lower: string): MachineRoot | null {
  if (!/\boverlay\b/.test(readFileSync('/proc/filesystems', 'utf8'))) return null;
  const directory = mkdtempSync(join(tmpdir(), 'fairlead-root-'));
  const mount = (...args: readonly string[]) => execFileSync('mount', args);
  const path = join(directory, 'root');
  const remove = (): void => {
    const below = readFileSync('/proc/self/mounts', 'utf8')
      .split('\n')
      .map((line) => line.split(' ')[1] ?? '')
      .filter((each) => each === directory || each.startsWith(`${directory}/`));
    for (const each of below.reverse()) execFileSync('umount', ['-l', each]);
    rmdirSync(directory);
  };
  try {
    mount('-t', 'tmpfs', '-o', 'mode=755', 'tmpfs', directory);
    for (const each of ['root', 'upper', 'work']) mkdirSync(join(directory, each));
    const layers = `lowerdir=${lower},upperdir=${join(directory, 'upper')},workdir=${join(directory, 'work')}`;
    mount('-t', 'overlay', '-o', layers, 'overlay', path);
    mount('-t', 'proc', 'proc', join(path, 'proc'));
    mount('-t', 'sysfs', 'sysfs', join(path, 'sys'));
    mount('-t', 'tmpfs', '-o', 'mode=755', 'tmpfs', join(path, 'run'));
    mount('--bind', '/dev', join(path, 'dev'));
  } catch (error) {
    remove();
    throw error;
  }
  return { path, inside: (...words) => command('chroot', path, ...words), remove };
}

/** A small Debian 12, unpacked for this test: from build/debootstrap.tgz, which is made when it is not there, in a minute or two. */
export function debootstrapped(t: TestContext): string {
  const archive = resolve('build/debootstrap.tgz'); // not a tree: others walk through build/
  const path = mkdtempSync('/var/tmp/fairlead-debootstrap-');
  t.after(() => command('rm', '-rf', path));
  if (!existsSync(archive)) {
    const format = ['indextargets', '--format', '$(SITE)', 'Created-By: Packages', 'Codename: bookworm'];
    const mirror = execFileSync('apt-get', format, { encoding: 'utf8' }).split('\n')[0] ?? '';
    command('debootstrap', '--variant=minbase', '--include=ca-certificates', 'bookworm', path, mirror);
    for (const each of ['etc/apt', 'etc/resolv.conf'])
      cpSync(`/${each}`, join(path, each), { recursive: true, dereference: true });
    command('tar', '-czf', `${archive}.new`, '-C', path, '.');
    command('mv', `${archive}.new`, archive);
  } else command('tar', '-xzf', archive, '-C', path);
  chmodSync(path, 0o755);
  return path;
}
