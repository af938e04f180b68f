// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type NativeFailure, type NativeObject, native } from '../../src/dataplane/native.js';

const sources = fileURLToPath(new URL('../../../test/native/fixtures/', import.meta.url));

/** A temporary directory with the fixtures compiled. Give it back with `remove()`. */
export function compileFixtures(): {
  directory: string;
  core: string;
  refused: string;
  tc: string;
  remove: () => void;
} {
  const directory = mkdtempSync(join(tmpdir(), 'fnat-'));
  const headers = `/usr/include/${process.arch === 'arm64' ? 'aarch64' : 'x86_64'}-linux-gnu`;
  const compile = (name: string): string => {
    const object = join(directory, `${name}.o`);
    const flags = ['-g', '-O2', '-target', 'bpf', '-idirafter', headers, '-c'];
    execFileSync('clang-19', [...flags, join(sources, `${name}.c`), '-o', object]);
    return object;
  };
  const remove = (): void => rmSync(directory, { recursive: true, force: true });
  try {
    return { directory, core: compile('core.bpf'), refused: compile('refused.bpf'), tc: compile('tc.bpf'), remove };
  } catch (error) {
    remove();
    throw error;
  }
}

/** The object at `path`, loaded as it is. */
export async function loaded(path: string): Promise<NativeObject> {
  const object = native.openObject(path);
  await object.load();
  return object;
}

/** Runs every step, also after one that throws; then throws the first error. */
export function cleanUp(...steps: (() => unknown)[]): void {
  const errors: unknown[] = [];
  for (const step of steps) {
    try {
      step();
    } catch (error) {
      errors.push(error);
    }
  }
  if (errors.length > 0) throw errors[0];
}

/** Deletes a network namespace if it is there. */
export function deleteNamespace(name: string): void {
  if (existsSync(`/run/netns/${name}`)) execFileSync('ip', ['netns', 'del', name]);
}

/** Numbers as the bytes of a C array of u32 in host byte order. */
export function u32(...numbers: number[]): Uint8Array {
  return new Uint8Array(Uint32Array.from(numbers).buffer);
}

/** Numbers as the bytes of a C array of u64 in host byte order. */
export function u64(...numbers: number[]): Uint8Array {
  return new Uint8Array(BigUint64Array.from(numbers, BigInt).buffer);
}

/** The bytes of a C array of u32 in host byte order as numbers. */
export function numbers(bytes: Uint8Array | null): number[] {
  assert.ok(bytes, 'the bytes are there');
  return [...new Uint32Array(bytes.slice().buffer)];
}

/** For assert.throws and assert.rejects: a NativeFailure with this code and, in its message, this text. */
export function failure(code: string, text: RegExp): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof Error);
    const native = error as Error & NativeFailure;
    assert.equal(native.code, code, native.message);
    assert.match(native.message, text);
    assert.equal(typeof native.errno, 'number');
    assert.equal(typeof native.call, 'string');
    assert.equal(typeof native.object, 'string');
    assert.equal(native.log === null, code !== 'VERIFIER');
    return true;
  };
}

/** Runs `work` and counts how often the event loop came round meanwhile. */
export async function turnsDuring(work: () => Promise<unknown>): Promise<number> {
  let turns = 0;
  const timer = setInterval(() => turns++, 1);
  try {
    await work();
  } finally {
    clearInterval(timer);
  }
  return turns;
}
