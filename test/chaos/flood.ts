// SPDX-License-Identifier: Apache-2.0
// Child of the flood, in the router's namespace: SYNs, each of another flow, as fast as the kernel's packet generator makes them, out of the
// router's port to a balancer. Their sources (240.0.0.0/8) and checksums are wrong: a backend drops them, the balancer knows neither.
// Arguments: port, the balancer's MAC, VIP, VIP's port, SYNs a second (left out: no bound). Tells the parent what it has sent; ends with it, or after MOST.

import { setTimeout as pause } from 'node:timers/promises';
import { benchObject, FRAME_SIZE } from '../../bench/micro.js';
import { BenchState } from '../../bench/wrapper.gen.js';
import { native } from '../../src/dataplane/native.js';
import { packet, TCP } from '../support/packets.js';

const BURST = 1 << 18;
const MOST = 400 * BURST;
const FLOWS_MASK = (1 << 22) - 1;

const [port = '', mac = '', vip = '', toPort = '', most = ''] = process.argv.slice(2);
const burst = most === '' ? BURST : Math.ceil(Number(most) / 10); // each call takes some 50 ms by itself
const wrapper = native.openObject(benchObject('wrapper'));
await wrapper.load();
const [generate, state] = [wrapper.program('generate'), wrapper.map('bench')];
const template = packet({
  ...{
    from: '240.0.0.1',
    to: vip,
    fromPort: 1024,
    toPort: Number(toPort),
    protocol: 'tcp',
    flags: TCP.SYN,
    payload: 26,
  },
});
template.set(Buffer.from(mac.replaceAll(':', ''), 'hex'), 0);
template.writeUInt16BE(template.readUInt16BE(50) ^ 0xffff, 50);
const shape = { frameSize: FRAME_SIZE, flowMask: FLOWS_MASK, ipv6: 0 };
const zero = { counter: 0n, actions: new Uint8Array(64), sizeSum: 0n, restoreFailures: 0n };
state.set(new Uint8Array(4), BenchState.encode({ ...zero, ...shape, template }), 0);
const context = new Uint8Array(Uint32Array.of(0, FRAME_SIZE, 0, native.interfaceIndex(port), 0, 0).buffer);

process.on('disconnect', () => process.exit(0));
process.send?.('ready');
const started = performance.now();
for (let sent = 0; sent < MOST; ) {
  await generate.runMany(template, context, burst, true);
  sent += burst;
  process.send?.(sent);
  if (most !== '') await pause((sent / Number(most)) * 1000 - (performance.now() - started));
}
