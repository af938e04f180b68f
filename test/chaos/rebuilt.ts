// SPDX-License-Identifier: Apache-2.0
// tc_nat from a source that differs: another tag, on the tables and with the constants of the one that runs.
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type NativeMap, type NativeProgram, native } from '../../src/dataplane/native.js';

const LINE = 'int action = others(skb, nat_packet(skb), false);';

/** Compiles bpf/tc_nat.c with one helper call more into `object`. */
export function rebuildNat(object: string): void {
  const copy = mkdtempSync(join(tmpdir(), 'fairlead-rebuilt-'));
  try {
    cpSync(fileURLToPath(new URL('../../../bpf', import.meta.url)), copy, { recursive: true });
    const source = readFileSync(join(copy, 'tc_nat.c'), 'utf8');
    if (!source.includes(LINE)) throw new Error('tc_nat.c has not the line that is to be changed');
    writeFileSync(join(copy, 'tc_nat.c'), source.replace(LINE, `bpf_ktime_get_ns();\n\t${LINE}`));
    const include = `-I/usr/include/${process.arch === 'x64' ? 'x86_64' : 'aarch64'}-linux-gnu`;
    const options = ['-g', '-O2', '-mcpu=v3', '-target', 'bpf', include];
    execFileSync('clang-19', [...options, '-c', join(copy, 'tc_nat.c'), '-o', object], { stdio: 'pipe' });
  } finally {
    rmSync(copy, { recursive: true });
  }
}

/** A map of a running program by its number; `directory` is on bpffs. */
function openMap(id: number, directory: string): NativeMap {
  const pin = join(directory, `${id}`);
  execFileSync('bpftool', ['map', 'pin', 'id', `${id}`, pin], { stdio: 'pipe' });
  return native.openMap(pin);
}

/** Loads the rebuilt object in the place of `now`: its program, and how to let go of it. */
export async function loadRebuilt(now: NativeProgram): Promise<{ program: NativeProgram; close(): void }> {
  const directory = mkdtempSync(join(tmpdir(), 'fairlead-rebuilt-'));
  const bpffs = join(directory, 'bpf');
  mkdirSync(bpffs);
  native.mountBpffs(bpffs);
  const maps = now.mapIds().map((id) => openMap(id, bpffs));
  try {
    const file = join(directory, 'tc_nat.bpf.o');
    rebuildNat(file);
    const object = native.openObject(file);
    for (const name of object.maps) {
      const map = maps.find(
        ({ info }) => info.name === name || (name.endsWith('.rodata') && info.name.endsWith('.rodata')),
      );
      if (!map) continue;
      if (!name.endsWith('.rodata')) object.setMaxEntries(name, map.info.maxEntries);
      object.reuseMap(name, map);
    }
    await object.load();
    const program = object.program('tc_nat');
    return {
      program,
      close() {
        program.close();
        object.close();
      },
    };
  } finally {
    for (const map of maps) map.close();
    execFileSync('umount', [bpffs]);
    rmSync(directory, { recursive: true });
  }
}
