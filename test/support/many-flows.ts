// SPDX-License-Identifier: Apache-2.0
// Many packets of many flows through a packet path, by bench/bpf/wrapper.c, while the test does something else.
import assert from 'node:assert/strict';
import { fileURLToPath } from 'node:url';
import { BenchState } from '../../bench/wrapper.gen.js';
import { native } from '../../src/dataplane/native.js';
import type { PacketPath } from './packet-path.js';
import { type PacketSpec, packet } from './packets.js';

const FRAME_SIZE = 80; // what the wrapper rewrites
const u32 = (value: number): Uint8Array => new Uint8Array(Uint32Array.of(value).buffer);

export interface ManyFlows {
  /** Resolves with how often each XDP action came out. The flows go on where the last call stopped. */
  run(packets: number): Promise<number[]>;
  close(): void;
}

/** `flows` is a power of two; the clients differ in the low 24 bits of the address and in the port. */
export async function openManyFlows(path: PacketPath, spec: PacketSpec, flows: number): Promise<ManyFlows> {
  const object = native.openObject(fileURLToPath(new URL('../../../build/bench/wrapper.bpf.o', import.meta.url)));
  await object.load();
  const wrapper = object.program('wrapper');
  const state = object.map('bench');
  const underTest = object.map('under_test');
  object.close();
  underTest.set(u32(0), u32(path.program.fd), 0);
  const template = packet(spec);
  assert.equal(template.length, FRAME_SIZE);
  let counter = 0n;
  return {
    async run(packets) {
      const zero = { actions: new Uint8Array(64), sizeSum: 0n, restoreFailures: 0n };
      const shape = { frameSize: FRAME_SIZE, flowMask: flows - 1, ipv6: spec.to.includes(':') ? 1 : 0 };
      state.set(u32(0), BenchState.encode({ template, counter, ...zero, ...shape }), 0);
      await wrapper.runMany(template, null, packets, false);
      const after = BenchState.decode(state.get(u32(0)) ?? new Uint8Array(BenchState.size));
      assert.equal(after.restoreFailures, 0n);
      counter = after.counter;
      return Array.from(new BigUint64Array(after.actions.slice().buffer), Number);
    },
    close() {
      for (const handle of [wrapper, state, underTest]) handle.close();
    },
  };
}
